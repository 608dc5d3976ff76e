import { expect } from 'chai'
import { lossGradientGram } from '../../lib/analysis/loss-gradient.ts'
import { NativeError } from '../../lib/errors.ts'
import { native } from '../../lib/native.ts'
import { NoiseSchedule } from '../../lib/schedule/noise-schedule.ts'
import type { ImageBatch } from '../../lib/tensor.ts'
import { nativeTrainerConfig, Trainer } from '../../lib/training/trainer.ts'
import { rejection } from '../support/rejection.ts'
import { TINY, tinyBatch, tinyTimesteps, tinyTrainer } from '../support/tiny.ts'

describe('Trainer', () => {
  it('gives the same losses for the same seed, bit for bit', async () => {
    const losses: number[][] = []
    for (let run = 0; run < 2; run++) {
      const { trainer } = await tinyTrainer({ seed: 5 }, { dropout: 0.1 })
      const seen: number[] = []
      for (let step = 0; step < 4; step++) {
        seen.push((await trainer.trainStep({ images: tinyBatch(), t: tinyTimesteps(), lr: 1e-3 })).loss)
      }
      losses.push(seen)
      trainer.dispose()
    }
    expect(losses[0]).to.deep.equal(losses[1])
    expect(new Set(losses[0]).size).to.equal(4)
  })

  it('draws other noise for another seed and for another step', async () => {
    const loss = async (seed: number) => {
      const { trainer } = await tinyTrainer({ seed })
      const first = await trainer.trainStep({ images: tinyBatch(), t: tinyTimesteps(), lr: 0 })
      const second = await trainer.trainStep({ images: tinyBatch(), t: tinyTimesteps(), lr: 0 })
      return [first.loss, second.loss]
    }
    const [a, b] = [await loss(1), await loss(2)]
    expect(new Set([...a, ...b]).size).to.equal(4)
  })

  it('gives the gradient of the whole batch whatever the micro-batch', async () => {
    const norms: number[] = []
    for (const microBatch of [0, 1, 3]) {
      const { trainer } = await tinyTrainer({ microBatch, clipNorm: 0 }, { dropout: 0.2 })
      const result = await trainer.trainStep({ images: tinyBatch(), t: tinyTimesteps(), lr: 1e-3 })
      norms.push(result.gradNorm, result.loss)
      trainer.dispose()
    }
    for (const i of [2, 4]) {
      expect(norms[i]).to.be.closeTo(norms[0] as number, 1e-5 * (norms[0] as number))
      expect(norms[i + 1]).to.be.closeTo(norms[1] as number, 1e-6 * (norms[1] as number))
    }
  })

  it('keeps dropout when activations are recomputed', async () => {
    const results = []
    for (const recompute of [false, true]) {
      const { trainer } = await tinyTrainer({ clipNorm: 0 }, { dropout: 0.3, recompute })
      // Residual blocks end in zero convolutions: dropout reaches the loss only after a step.
      await trainer.trainStep({ images: tinyBatch(), t: tinyTimesteps(), lr: 1e-2 })
      results.push(await trainer.trainStep({ images: tinyBatch(), t: tinyTimesteps(), lr: 1e-2 }))
      trainer.dispose()
    }
    expect(results[1]?.loss).to.equal(results[0]?.loss)
    expect(results[1]?.gradNorm).to.be.closeTo(results[0]?.gradNorm as number, 1e-6)
  })

  it('learns', async () => {
    const { trainer } = await tinyTrainer({ loss: { space: 'v', choose: 'v' } })
    const losses: number[] = []
    for (let step = 0; step < 120; step++) {
      losses.push((await trainer.trainStep({ images: tinyBatch(8), t: tinyTimesteps(8), lr: 3e-3 })).loss)
    }
    const mean = (list: number[]) => list.reduce((a, b) => a + b, 0) / list.length
    expect(mean(losses.slice(-10))).to.be.below(0.7 * mean(losses.slice(0, 10)))
  })

  it('trains every head, a learned variance and a class-conditional super-resolution network', async () => {
    const { trainer } = await tinyTrainer(
      { loss: { choose: 'mean' } },
      { learnsVariance: true, classCount: 3, lowRes: true },
    )
    const images: ImageBatch = {
      ...tinyBatch(),
      labels: Int32Array.of(0, 1, 2, 0),
      lowRes: { data: tinyBatch(4, 1, 4).data, shape: [4, 1, 4, 4] },
    }
    const result = await trainer.trainStep({ images, t: tinyTimesteps(), lr: 1e-3 })
    expect(Array.from(result.chosen)).to.deep.equal([-1, -1, -1, -1])
    expect(result.perHead.length).to.equal(12)
    expect(result.loss).to.be.greaterThan(0)
  })

  it('computes in bfloat16 close to float32', async () => {
    const losses: number[] = []
    for (const precision of ['fp32', 'bf16'] as const) {
      const { trainer } = await tinyTrainer({ precision })
      for (let step = 0; step < 3; step++)
        await trainer.trainStep({ images: tinyBatch(), t: tinyTimesteps(), lr: 1e-3 })
      losses.push((await trainer.trainStep({ images: tinyBatch(), t: tinyTimesteps(), lr: 0 })).loss)
    }
    expect(losses[1]).to.be.closeTo(losses[0] as number, 0.02 * (losses[0] as number))
    expect(losses[1]).to.not.equal(losses[0])
  })

  it('runs forward, loss and backward on the meta device, so that no tensor is made on the wrong one', async () => {
    for (const choose of ['min', 'minBatch', 'mean', 'v'] as const) {
      const { unet, schedule, trainer } = await tinyTrainer(
        { loss: { choose, compare: 'xStart', space: 'F' } },
        { learnsVariance: true, classCount: 3, lowRes: true, dropout: 0.1, recompute: true },
      )
      const config = nativeTrainerConfig('test', unet, trainer.config)
      const shapes = await native().lossShapes(unet.nativeConfig, schedule.handle, config, [4, 1, 8, 8])
      expect(shapes).to.deep.equal({ loss: [4], perHead: [4, 3], gradientCount: unet.parameters().length })
    }
  })

  it('leaves everything as it was when a loss is not finite, and says where', async () => {
    const { trainer } = await tinyTrainer()
    const images = tinyBatch()
    const error = await rejection(
      trainer.trainStep({ images, t: tinyTimesteps(), weight: new Float32Array(4).fill(3e38), lr: 1 }),
    )
    expect(error).to.be.instanceOf(NativeError)
    expect(error.code).to.equal('ERR_NON_FINITE')
    expect(error.message).to.match(
      /^trainer\.trainStep: expected loss and gradients to be finite, got loss .* at step 0/,
    )
    expect(trainer.step).to.equal(0)
    const { trainer: fresh } = await tinyTrainer()
    const [after, untouched] = await Promise.all([
      trainer.trainStep({ images, t: tinyTimesteps(), lr: 1e-3 }),
      fresh.trainStep({ images, t: tinyTimesteps(), lr: 1e-3 }),
    ])
    expect(after.loss).to.equal(untouched.loss)
  })

  it('skips steps that are not finite when told to, up to a limit', async () => {
    const { trainer } = await tinyTrainer({ nonFinite: 'skip', nonFiniteLimit: 2 })
    const bad = { images: tinyBatch(), t: tinyTimesteps(), weight: new Float32Array(4).fill(3e38), lr: 1 }
    expect((await trainer.trainStep(bad)).skipped).to.equal(true)
    expect(trainer.step).to.equal(1)
    const error = await rejection(trainer.trainStep(bad))
    expect(error.message).to.match(
      /expected a finite loss at least once in 2 steps, got 2 skipped steps in a row at step 1/,
    )
  })

  const bad: [string, (trainer: Trainer) => Promise<unknown>, string][] = [
    [
      'a timestep out of range',
      (trainer) => trainer.trainStep({ images: tinyBatch(), t: Int32Array.of(0, 1, 2, 1000), lr: 1 }),
      'trainer.trainStep: expected t[3] to be a timestep in [0, 999], got 1000',
    ],
    [
      'timesteps of another kind',
      (trainer) =>
        trainer.trainStep({ images: tinyBatch(), t: [0, 1, 2, 3] as unknown as Int32Array, lr: 1 }),
      'trainer.trainStep: expected t to be an Int32Array of timesteps, got [0, 1, 2, 3]',
    ],
    [
      'NaN images',
      (trainer) =>
        trainer.trainStep({
          images: { data: new Float32Array(256).fill(0).fill(Number.NaN, 7, 8), shape: [4, 1, 8, 8] },
          t: tinyTimesteps(),
          lr: 1,
        }),
      'trainer.trainStep: expected images.data[7] to be finite, got NaN',
    ],
    [
      'float images that were not scaled',
      (trainer) =>
        trainer.trainStep({
          images: { data: new Float32Array(256).fill(255, 9), shape: [4, 1, 8, 8] },
          t: tinyTimesteps(),
          lr: 1,
        }),
      'trainer.trainStep: expected images.data[9] to be about in [-1, 1], got 255; scale the images, or give 0..255 as a Uint8Array, which is scaled to [-1, 1]',
    ],
    [
      'images of another shape than their data',
      (trainer) =>
        trainer.trainStep({
          images: { data: new Uint8Array(10), shape: [4, 1, 8, 8] },
          t: tinyTimesteps(),
          lr: 1,
        }),
      'trainer.trainStep: expected images.data to be 256 values for shape [4, 1, 8, 8], got Uint8Array(10)',
    ],
    [
      'images with another number of channels',
      (trainer) => trainer.trainStep({ images: tinyBatch(4, 3), t: tinyTimesteps(), lr: 1 }),
      'trainer.trainStep: expected images to be 1 channels, got 3',
    ],
    [
      'images that cannot be halved',
      (trainer) => trainer.trainStep({ images: tinyBatch(4, 1, 7), t: tinyTimesteps(), lr: 1 }),
      "trainer.trainStep: expected height and width to be divisible by 2, the network's down-sampling, got [7, 7]",
    ],
    [
      'images of another number format',
      (trainer) =>
        trainer.trainStep({
          images: { data: new Float64Array(256) as unknown as Float32Array, shape: [4, 1, 8, 8] },
          t: tinyTimesteps(),
          lr: 1,
        }),
      'trainer.trainStep: expected images.data to be a Uint8Array (0..255) or a Float32Array ([-1, 1]), got Float64Array(256)',
    ],
    [
      'a negative weight',
      (trainer) =>
        trainer.trainStep({
          images: tinyBatch(),
          t: tinyTimesteps(),
          weight: Float32Array.of(1, 1, -1, 1),
          lr: 1,
        }),
      'trainer.trainStep: expected weight[2] to be a finite number >= 0, got -1',
    ],
    [
      'classes for an unconditional network',
      (trainer) =>
        trainer.trainStep({
          images: { ...tinyBatch(), labels: Int32Array.of(0, 0, 0, 0) },
          t: tinyTimesteps(),
          lr: 1,
        }),
      'trainer.trainStep: expected y to be absent for an unconditional network, got [4]',
    ],
    [
      'a learning rate that is no number',
      (trainer) => trainer.trainStep({ images: tinyBatch(), t: tinyTimesteps(), lr: Number.NaN }),
      'trainer.trainStep: expected lr to be a number >= 0, got NaN',
    ],
    [
      'an average that is not kept',
      (trainer) => trainer.averaged(0.5),
      'trainer.averaged: expected rate to be one of 0.9, got 0.5',
    ],
  ]
  for (const [what, call, message] of bad) {
    it(`refuses ${what}`, async () => {
      const { trainer } = await tinyTrainer()
      expect((await rejection(call(trainer))).message).to.equal(message)
    })
  }

  it('gives an average the gradients that a network of its weights has, and lets nobody train it', async () => {
    const { trainer, unet, schedule } = await tinyTrainer({ emaRates: [0] })
    for (let i = 0; i < 2; i++) await trainer.trainStep({ images: tinyBatch(), t: tinyTimesteps(), lr: 1e-2 })
    const average = await trainer.averaged(0) // the weights of the last step
    const x = { data: new Float32Array(64).fill(0.5), shape: [1, 1, 8, 8] }
    const input = { x, t: { data: Float32Array.of(3), shape: [1] } }
    const probe = { data: Float32Array.from({ length: 192 }, (_, i) => Math.sin(i)), shape: [1, 3, 8, 8] }
    const [own, averaged] = [await unet.forwardGrad(input, probe), await average.forwardGrad(input, probe)]
    expect(averaged).to.deep.equal(own)
    expect(own.gradNorms.filter((norm) => norm > 0).length).to.be.above(10)
    const batch = { images: tinyBatch(), t: tinyTimesteps(), seed: 1, step: 0 }
    const norm = async (network: typeof unet) =>
      (await lossGradientGram(network, schedule, [batch])).products[0]
    expect(await norm(average)).to.equal(await norm(unet))
    expect((await rejection(Trainer.create(average, schedule))).message).to.equal(
      'Trainer.create: expected unet.isAverage to be false, got true; it belongs to another trainer; write it with saveWeights and load it into a network of its own',
    )
  })

  it('refuses numbers of Adam that would divide by 0', async () => {
    const messages = await Promise.all(
      [{ beta1: 1 }, { beta2: 1 }, { tiny: 0 }].map(
        async (options) => (await rejection(tinyTrainer(options))).message,
      ),
    )
    expect(messages).to.deep.equal([
      'Trainer.create: expected beta1 to be below 1, got 1',
      'Trainer.create: expected beta2 to be below 1, got 1',
      'Trainer.create: expected tiny to be above 0, got 0',
    ])
  })

  it('takes images in shared memory', async () => {
    const { trainer } = await tinyTrainer()
    const images = tinyBatch()
    const shared = new Uint8Array(new SharedArrayBuffer(images.data.length))
    shared.set(images.data as Uint8Array)
    const loss = async (data: Uint8Array) =>
      (await trainer.trainStep({ images: { ...images, data }, t: tinyTimesteps(), lr: 0 })).perHead
    const { perHead } = await (await tinyTrainer()).trainer.trainStep({ images, t: tinyTimesteps(), lr: 0 })
    expect(await loss(shared)).to.deep.equal(perHead)
  })

  it('refuses options that do not exist, with the nearest name', async () => {
    const { unet, schedule } = await tinyTrainer()
    const error = await rejection(Trainer.create(unet, schedule, { weightDecai: 1 } as object))
    expect(error).to.be.instanceOf(TypeError)
    expect(error.message).to.match(/got unknown weightDecai \(did you mean weightDecay\?\)$/)
  })

  it('refuses a head that the network does not have', async () => {
    const { unet } = await tinyTrainer({ loss: { choose: 'v' } }, { heads: ['v'] })
    const error = await rejection(Trainer.create(unet, NoiseSchedule.create(), { loss: { choose: 'eps' } }))
    expect(error.message).to.equal(
      'Trainer.create: expected loss.choose to be a head that the network has (v), got "eps"',
    )
  })

  it('refuses to be used after it has been disposed of', async () => {
    const { trainer } = await tinyTrainer()
    trainer.dispose()
    trainer.dispose()
    const error = await rejection(trainer.trainStep({ images: tinyBatch(), t: tinyTimesteps(), lr: 1 }))
    expect(error.message).to.equal('trainer: expected a live object, got one that has been disposed of')
    expect(error.code).to.equal('ERR_DISPOSED')
  })

  it('says which device cannot be used and what is missing', async function () {
    const { UNet } = await import('../../lib/model/unet.ts')
    const info = await native().runtimeInfo()
    if (info.cudaMissing === '') this.skip()
    const error = await rejection(UNet.create(TINY, { device: 'cuda' }))
    expect(error.message).to.equal(
      `device: expected a usable CUDA device for 'cuda', got ${info.cudaMissing}`,
    )
  })
})
