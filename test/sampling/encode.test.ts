import { expect } from 'chai'
import { Denoiser } from '../../lib/sampling/denoiser.ts'
import { decode, encode } from '../../lib/sampling/encode.ts'
import { sample } from '../../lib/sampling/sample.ts'
import { rejection } from '../support/rejection.ts'
import { tinyBatch, tinyTrainer } from '../support/tiny.ts'

describe('encode and decode', () => {
  const images = tinyBatch(2)
  const { shape } = images
  const pixels = Float32Array.from(images.data, (value) => value / 127.5 - 1)
  const rms = (a: Float32Array, b: Float32Array): number =>
    Math.sqrt(a.reduce((sum, value, i) => sum + (value - (b[i] as number)) ** 2, 0) / a.length)
  let tiny: Awaited<ReturnType<typeof tinyTrainer>>

  before(async () => {
    tiny = await tinyTrainer({ loss: { choose: 'v' } }, { heads: ['v'] })
    for (let step = 0; step < 60; step++) {
      const t = Int32Array.of((step * 37) % 1000, (step * 371 + 500) % 1000)
      await tiny.trainer.trainStep({ images, t, lr: 3e-3 })
    }
  })

  async function roundTrip(respacing: string): Promise<number> {
    const denoiser = new Denoiser(tiny.unet, tiny.schedule.respace(respacing), { clip: false })
    const latents = await encode({ denoiser, images })
    return rms(await decode({ denoiser, latents, shape }), pixels)
  }

  it('come back to the images, the nearer the more steps there are', async () => {
    const [few, more, most] = [await roundTrip('10'), await roundTrip('40'), await roundTrip('160')]
    expect(few).to.be.below(0.25)
    expect(most).to.be.below(0.02)
    // Of first order: four times the steps, a quarter of the error.
    expect(few / more).to.be.within(3, 5)
    expect(more / most).to.be.within(3, 5)
  })

  it('decode as sampling does from the same noise', async () => {
    const denoiser = new Denoiser(tiny.unet, tiny.schedule.respace('5'))
    const noise = await denoiser.noise(shape, 7)
    const latents = (await noise.toHost()).data as Float32Array
    const seen: number[] = []
    const decoded = await decode({ denoiser, latents, shape, onStep: ({ t }) => seen.push(t) })
    expect(decoded).to.deep.equal(await sample({ denoiser, shape, seed: 7, eta: 0 }))
    expect(seen).to.deep.equal([999, 749, 500, 250, 0])
  })

  it('stop at a signal', async () => {
    const denoiser = new Denoiser(tiny.unet, tiny.schedule.respace('5'))
    const stop = new AbortController()
    const walk = encode({
      denoiser,
      images,
      signal: stop.signal,
      onStep: () => stop.abort(new Error('enough')),
    })
    expect((await rejection(walk)).message).to.equal('enough')
  })

  it('refuse what does not fit', async () => {
    const denoiser = new Denoiser(tiny.unet, tiny.schedule)
    expect((await rejection(encode({ denoiser, images: tinyBatch(1, 3) }))).message).to.equal(
      'encode: expected images to be 1 channels, got 3',
    )
    expect((await rejection(decode({ denoiser, latents: new Float32Array(5), shape }))).message).to.equal(
      'decode: expected latents to be a Float32Array of 128 numbers for shape [2, 1, 8, 8], got Float32Array(5)',
    )
    const latents = new Float32Array(128).fill(Number.NaN)
    expect((await rejection(decode({ denoiser, latents, shape }))).message).to.equal(
      'decode: expected latents[0] to be finite, got NaN',
    )
  })
})
