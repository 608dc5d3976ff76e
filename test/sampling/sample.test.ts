import { expect } from 'chai'
import { DeviceTensor } from '../../lib/device-tensor.ts'
import { signalWeights } from '../../lib/prediction/signal-weights.ts'
import { Denoiser } from '../../lib/sampling/denoiser.ts'
import { sample } from '../../lib/sampling/sample.ts'
import { type DrawOptions, drawImages } from '../../lib/training/preview.ts'
import { expectClose } from '../support/close.ts'
import { rejection } from '../support/rejection.ts'
import { tinyBatch, tinyTimesteps, tinyTrainer } from '../support/tiny.ts'

/** A tiny network that has learned a little, so that its heads say something. */
async function trained(network = {}) {
  const tiny = await tinyTrainer({}, network)
  for (let step = 0; step < 5; step++) {
    await tiny.trainer.trainStep({ images: tinyBatch(), t: tinyTimesteps(), lr: 1e-2 })
  }
  return tiny
}

describe('sample', () => {
  it('draws image k the same whatever the batch it is drawn in', async () => {
    const { unet, schedule } = await trained()
    const denoiser = new Denoiser(unet, schedule.respace('ddim10'))
    for (const eta of [0, 0.5, undefined]) {
      const draw = (count: number, firstImage: number) =>
        sample({
          denoiser,
          shape: [count, 1, 8, 8],
          seed: 3,
          firstImage,
          ...(eta === undefined ? {} : { eta }),
        })
      const together = await draw(3, 0)
      for (let k = 0; k < 3; k++) {
        const alone = await draw(1, k)
        expectClose(alone, together.subarray(k * 64, (k + 1) * 64), {
          absolute: 1e-5,
          what: `image ${k}, eta ${eta}`,
        })
      }
    }
  })

  it('refuses counts and options that mean nothing', async () => {
    const { unet, schedule } = await trained()
    const fine = { schedule, count: 1, image: [1, 8, 8], seed: 0, respacing: '2', combine: 'v' } as const
    const message = async (change: object) =>
      (await rejection(drawImages(unet, { ...fine, ...change } as DrawOptions))).message
    for (const [count, what] of [
      [1.5, 'an integer >= 1'],
      [0, 'an integer >= 1'],
      [-1, 'an integer >= 1'],
    ] as const) {
      expect(await message({ count })).to.equal(
        `drawImages: expected [count, ...image][0] to be ${what}, got ${count}`,
      )
    }
    expect(await message({ count: 1e9 })).to.equal(
      'drawImages: expected [count, ...image] to be a tensor of at most 2^32 values, got [1000000000, 1, 8, 8]',
    )
    expect(await message({ foo: 1 })).to.contain('got unknown foo')
    const denoiser = new Denoiser(unet, schedule.respace('2'))
    const shape = [1, 1, 8.5, 8] as const
    expect((await rejection(sample({ denoiser, shape, seed: 0 }))).message).to.contain(
      'sample: expected shape[2]',
    )
    expect(() => new Denoiser(unet, schedule, { combined: 'v' } as object)).to.throw('did you mean combine?')
  })

  it('draws the same images for the same seed, bit for bit, and others for another', async () => {
    const { unet, schedule } = await trained()
    const denoiser = new Denoiser(unet, schedule.respace('8'))
    const draw = (seed: number) => sample({ denoiser, shape: [2, 1, 8, 8], seed })
    const [a, b, c] = [await draw(1), await draw(1), await draw(2)]
    expect(a).to.deep.equal(b)
    expect(a).to.not.deep.equal(c)
  })

  it('walks every step from the noisiest to the cleanest and says so', async () => {
    const { unet, schedule } = await trained()
    const seen: number[] = []
    await sample({
      denoiser: new Denoiser(unet, schedule.respace('4')),
      shape: [1, 1, 8, 8],
      seed: 0,
      eta: 0,
      onStep: ({ t }) => seen.push(t),
    })
    expect(seen).to.deep.equal([999, 666, 333, 0])
  })

  it('samples from a learned variance, with classes and low-resolution conditions', async () => {
    const tiny = await tinyTrainer({}, { learnsVariance: true, classCount: 3, lowRes: true })
    const denoiser = new Denoiser(tiny.unet, tiny.schedule.respace('3'), {
      y: Int32Array.of(0, 2),
      lowRes: { data: new Uint8Array(2 * 16), shape: [2, 1, 4, 4] },
    })
    const images = await sample({ denoiser, shape: [2, 1, 8, 8], seed: 0 })
    expect(images.every(Number.isFinite)).to.equal(true)
  })

  it('needs the classes of a class-conditional network', async () => {
    const tiny = await tinyTrainer({}, { classCount: 3 })
    const error = await rejection(
      sample({ denoiser: new Denoiser(tiny.unet, tiny.schedule.respace('3')), shape: [2, 1, 8, 8], seed: 0 }),
    )
    expect(error.message).to.equal(
      'denoiser.predictXStart: expected y to be 2 classes for a class-conditional network, got undefined',
    )
    // As many classes in another shape would be read as those of one image.
    const x = { data: new Float32Array(128), shape: [2, 1, 8, 8] }
    const t = { data: Int32Array.of(1, 2), shape: [2] }
    for (const shape of [[2, 1], [1, 2]]) {
      const odd = tiny.unet.forward({ x, t, y: { data: Int32Array.of(0, 1), shape } })
      expect((await rejection(odd)).message).to.equal(
        `unet.forward: expected y to be 2 classes, of shape [2], got [${shape.join(', ')}]`,
      )
    } // biome-ignore format: short
  })

  it('counts images in 32 bits, and refuses one that would be another', async () => {
    const { unet, schedule } = await tinyTrainer()
    const denoiser = new Denoiser(unet, schedule.respace('1'))
    const last = (firstImage: number) => sample({ denoiser, shape: [2, 1, 8, 8], seed: 0, firstImage })
    expect(await last(2 ** 32 - 2)).to.have.length(128)
    expect((await rejection(last(2 ** 32 - 1))).message).to.contain('expected firstImage to be an integer')
  })
})

describe('Denoiser', () => {
  it('combines heads in xStart space', async () => {
    const { unet, schedule } = await trained()
    const process = schedule.respace('10')
    const xt = await DeviceTensor.noise([2, 1, 8, 8], {
      seed: 1,
      purpose: 'startNoise',
      step: 0,
      firstSample: 0,
    })
    const predict = async (combine: 'xStart' | 'v' | 'eps' | { xStart: number; v: number; eps: number }) => {
      const { xStart } = await new Denoiser(unet, process, { combine, clip: false }).predictXStart(xt, 3)
      return (await xStart.toHost()).data as Float32Array
    }
    const heads = await Promise.all((['xStart', 'v', 'eps'] as const).map(predict))
    const mixed = await predict({ xStart: 0.2, v: 0.5, eps: 0.3 })
    const wanted = mixed.map((_, i) => 0.2 * heads[0]![i]! + 0.5 * heads[1]![i]! + 0.3 * heads[2]![i]!)
    expectClose(mixed, wanted, { absolute: 1e-5, relative: 1e-5 })
  })

  it('clips xStart unless told not to', async () => {
    const { unet, schedule } = await trained()
    const xt = await DeviceTensor.from({ data: new Float32Array(64).fill(9), shape: [1, 1, 8, 8] })
    const clipped = await new Denoiser(unet, schedule, { combine: 'eps' }).predictXStart(xt, 999)
    const free = await new Denoiser(unet, schedule, { combine: 'eps', clip: false }).predictXStart(xt, 999)
    expect(Math.max(...((await clipped.xStart.toHost()).data as Float32Array).map(Math.abs))).to.equal(1)
    expect(Math.max(...((await free.xStart.toHost()).data as Float32Array).map(Math.abs))).to.be.greaterThan(
      1,
    )
  })

  it('refuses heads that the network does not have', async () => {
    const { unet, schedule } = await tinyTrainer({}, { heads: ['v'] })
    const xt = await DeviceTensor.noise([1, 1, 8, 8], {
      seed: 1,
      purpose: 'startNoise',
      step: 0,
      firstSample: 0,
    })
    const error = await rejection(new Denoiser(unet, schedule, { combine: 'eps' }).predictXStart(xt, 0))
    expect(error.message).to.equal(
      `denoiser.predictXStart: expected combine to be among the network's heads (v), got "eps"`,
    )
  })

  it('refuses an eta outside [0, 1] and a step outside the process', async () => {
    const { unet, schedule } = await tinyTrainer()
    const denoiser = new Denoiser(unet, schedule.respace('5'))
    const xt = await denoiser.noise([1, 1, 8, 8], 0)
    const { xStart } = await denoiser.predictXStart(xt, 4)
    const call = (eta: number, k: number) => rejection(denoiser.reverseStep({ xt, xStart, k, eta, seed: 0 }))
    expect((await call(2, 4)).message).to.equal(
      'denoiser.reverseStep: expected eta to be a number in [0, 1], got 2',
    )
    expect((await call(0, 5)).message).to.equal(
      'denoiser.reverseStep: expected k to be an integer in [0, 4], got 5',
    )
  })
})

describe('signalWeights', () => {
  it('is the best combination of independent errors of one size', () => {
    const alphaBar = 0.3
    // Variances in xStart space of heads whose outputs have errors of variance 1.
    const variance = { xStart: 1, v: 1 - alphaBar, eps: (1 - alphaBar) / alphaBar }
    const total = 1 / variance.xStart + 1 / variance.v + 1 / variance.eps
    const weights = signalWeights(alphaBar, ['xStart', 'v', 'eps'])
    for (const head of ['xStart', 'v', 'eps'] as const) {
      expect(weights[head]).to.be.closeTo(1 / variance[head] / total, 1e-12)
    }
  })

  it('is the head itself where there is only one', () => {
    for (const head of ['xStart', 'v', 'eps'] as const)
      expect(signalWeights(0.3, [head])).to.deep.equal({ [head]: 1 })
  })
})
