import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect } from 'chai'
import { measureTimestepLoss } from '../../lib/analysis/timestep-loss.ts'
import { readTensors } from '../../lib/checkpoint-file.ts'
import type { UNetOptions } from '../../lib/model/unet.ts'
import { native } from '../../lib/native.ts'
import { Denoiser } from '../../lib/sampling/denoiser.ts'
import { sample } from '../../lib/sampling/sample.ts'
import { NoiseSchedule } from '../../lib/schedule/noise-schedule.ts'
import { nativeTrainerConfig, Trainer, type TrainerOptions } from '../../lib/training/trainer.ts'
import { expectClose } from '../support/close.ts'
import { rejection } from '../support/rejection.ts'
import { tinyBatch, tinyTimesteps, tinyTrainer } from '../support/tiny.ts'

const step = (trainer: Trainer, lr = 1e-3) =>
  trainer.trainStep({ images: tinyBatch(), t: tinyTimesteps(), lr })

/** Adam's first moment of the last convolution's bias: a tenth of the gradient. */
async function biasGradient(trainer: Trainer): Promise<number[]> {
  const folder = await mkdtemp(join(tmpdir(), 'trislot-loss-kinds-'))
  try {
    await trainer.saveTensors(folder)
    const { tensors } = await readTensors(join(folder, 'optimizer.safetensors'))
    return Array.from(tensors.get('exp_avg.out.2.bias')?.data as Float32Array)
  } finally {
    await rm(folder, { recursive: true })
  }
}

const EPS: Partial<UNetOptions> = { heads: ['eps'], learnsVariance: true }

describe('What is minimised', () => {
  it('trains the variance alone by the bound, and the mean by its error alone', async () => {
    const gradients: number[][] = []
    for (const boundWeight of [0, 1]) {
      const { trainer } = await tinyTrainer({ boundWeight, clipNorm: 0 }, EPS)
      await step(trainer)
      gradients.push(await biasGradient(trainer))
    }
    const [without, withBound] = gradients as [number[], number[]]
    expect(withBound[0]).to.equal(without[0])
    expect(without[1]).to.equal(0)
    expect(Math.abs(withBound[1] as number)).to.be.greaterThan(0)
  })

  it('trains mean and variance by the bound when that is the loss', async () => {
    const { trainer } = await tinyTrainer({ loss: { kind: 'kl' }, clipNorm: 0 }, EPS)
    const { exampleLoss, bound } = await step(trainer)
    expect(exampleLoss).to.deep.equal(bound)
    const gradient = await biasGradient(trainer)
    expect(gradient.every((value) => value !== 0)).to.equal(true)
  })

  it('multiplies the bound by T or T / 1000 when it is rescaled', async () => {
    const of = async (kind: 'mse' | 'rescaledMse' | 'kl' | 'rescaledKl', steps: string) => {
      const { unet, schedule } = await tinyTrainer({}, EPS)
      const { Trainer } = await import('../../lib/training/trainer.ts')
      const trainer = await Trainer.create(unet, schedule.respace(steps), { loss: { kind } })
      const t = Int32Array.of(0, 1, 10, 19)
      return trainer.trainStep({ images: tinyBatch(), t, lr: 0 })
    }
    const [mse, rescaled, kl, rescaledKl] = [
      await of('mse', '20'),
      await of('rescaledMse', '20'),
      await of('kl', '20'),
      await of('rescaledKl', '20'),
    ]
    const bound = mse.bound as Float32Array
    const expected = (factor: number) => bound.map((bits, i) => (mse.perHead[i] as number) + factor * bits)
    expectClose(mse.exampleLoss, expected(1), { relative: 1e-6, what: 'mse' })
    expectClose(rescaled.exampleLoss, expected(0.02), { relative: 1e-6, what: 'rescaledMse' })
    expectClose(kl.exampleLoss, bound, { relative: 1e-6, what: 'kl' })
    expectClose(
      rescaledKl.exampleLoss,
      bound.map((bits) => 20 * bits),
      { relative: 1e-6, what: 'rescaledKl' },
    )
  })

  it('learns by the bound with a fixed variance', async () => {
    const { trainer } = await tinyTrainer({ loss: { kind: 'rescaledKl' } }, { heads: ['xStart'] })
    expect(trainer.config.variance).to.equal('fixedLarge')
    const losses: number[] = []
    const t = Int32Array.of(100, 249, 498, 747)
    for (let i = 0; i < 60; i++)
      losses.push((await trainer.trainStep({ images: tinyBatch(), t, lr: 3e-3 })).loss)
    expect(losses.at(-1)).to.be.below(0.5 * (losses[0] as number))
  })

  it('runs every kind on the meta device, so that no tensor is made on the wrong one', async () => {
    for (const kind of ['mse', 'rescaledMse', 'kl', 'rescaledKl'] as const) {
      for (const head of ['eps', 'xPrev', 'F'] as const) {
        const { unet, schedule, trainer } = await tinyTrainer({ loss: { kind } }, { ...EPS, heads: [head] })
        const config = nativeTrainerConfig('test', unet, trainer.config)
        const shapes = await native().lossShapes(unet.nativeConfig, schedule.handle, config, [4, 1, 8, 8])
        expect(shapes).to.deep.equal({ loss: [4], perHead: [4, 1], gradientCount: unet.parameters().length })
      }
    }
  })

  it('adds micro-batches up as the original does, when told to', async () => {
    const norms: number[] = []
    for (const training of [{}, { microBatch: 2, sumsMicroBatches: true }]) {
      const { trainer } = await tinyTrainer({ clipNorm: 0, ...training })
      const { gradNorm } = await step(trainer)
      norms.push(gradNorm)
    }
    expect(norms[1]).to.be.closeTo(2 * (norms[0] as number), 1e-5 * (norms[0] as number))
  })

  const impossible: [string, TrainerOptions, Partial<UNetOptions>, string][] = [
    [
      'a bound of several means',
      { loss: { kind: 'kl' } },
      {},
      'loss.kind to be mse or rescaledMse for a network of several heads (xStart, v, eps), got "kl"; the bound has one mean; give heads one word',
    ],
    [
      'a space for the bound',
      { loss: { kind: 'kl', space: 'v' } },
      EPS,
      'loss.space to be own with loss.kind kl, got "v"',
    ],
    [
      'a weight of the bound alone',
      { loss: { kind: 'rescaledKl' }, boundWeight: 2 },
      EPS,
      'boundWeight to be 1 with loss.kind rescaledKl, got 2',
    ],
    [
      'a rescaled bound where there is none',
      { loss: { kind: 'rescaledMse' } },
      { heads: ['eps'] },
      'loss.kind to be mse for a network that learns no variance, got "rescaledMse"; only the bound is rescaled, and it has none',
    ],
    [
      'a fixed variance of a network that learns it',
      { variance: 'fixedSmall' },
      EPS,
      'variance to be learned or learnedRange for a network that learns its variance, got "fixedSmall"',
    ],
    [
      'a learned variance of a network that learns none',
      { loss: { kind: 'kl' }, variance: 'learned' },
      { heads: ['eps'] },
      'variance to be fixedSmall or fixedLarge for a network that learns no variance, got "learned"',
    ],
    [
      'a kind that does not exist',
      { loss: { kind: 'l1' as 'kl' } },
      EPS,
      'loss.kind to be one of mse, rescaledMse, kl, rescaledKl, got "l1"',
    ],
  ]
  for (const [what, training, network, message] of impossible) {
    it(`refuses ${what}`, async () => {
      const error = await rejection(tinyTrainer(training, network))
      expect(error.message).to.equal(`Trainer.create: expected ${message}`)
    })
  }

  it('refuses noise that does not fit the images', async () => {
    const { trainer } = await tinyTrainer()
    const batch = { images: tinyBatch(), t: tinyTimesteps(), lr: 1 }
    const short = await rejection(trainer.trainStep({ ...batch, noise: new Float32Array(3) }))
    expect(short.message).to.equal(
      'trainer.trainStep: expected noise to be a Float32Array of 256 numbers, as many as the images have, got Float32Array(3)',
    )
    const bad = await rejection(
      trainer.trainStep({ ...batch, noise: new Float32Array(256).fill(Number.NaN) }),
    )
    expect(bad.message).to.equal('trainer.trainStep: expected noise[0] to be finite, got NaN')
  })
})

describe('The head xPrev', () => {
  it('learns, is measured and samples by both samplers', async () => {
    const { unet, schedule, trainer } = await tinyTrainer({}, { heads: ['xPrev'] })
    const losses: number[] = []
    for (let i = 0; i < 60; i++) losses.push((await step(trainer, 3e-3)).loss)
    expect(losses.at(-1)).to.be.below(0.5 * (losses[0] as number))
    const measured = await measureTimestepLoss(unet, schedule, { images: tinyBatch(), timestepStride: 500 })
    expect(measured.heads).to.deep.equal(['xPrev'])
    const denoiser = new Denoiser(unet, schedule.respace('4'))
    for (const eta of [undefined, 0]) {
      const options = { denoiser, shape: [2, 1, 8, 8], seed: 1, ...(eta !== undefined && { eta }) } as const
      const images = await sample(options)
      expect(images.every(Number.isFinite)).to.equal(true)
    }
  })

  it('is the mean of the ancestral step itself, clipped or not', async () => {
    const { unet, schedule } = await tinyTrainer({}, { heads: ['xPrev'] })
    const denoiser = new Denoiser(unet, schedule)
    const xt = await denoiser.noise([2, 1, 8, 8], 3)
    const { mean } = await denoiser.predictXStart(xt, 500)
    const { data, shape } = await xt.toHost()
    const out = await unet.forward({ x: { data, shape }, t: { data: Float32Array.of(500, 500), shape: [2] } })
    expect((await mean?.toHost())?.data).to.deep.equal(out.data)
  })

  it('stands alone', async () => {
    const error = await rejection(tinyTrainer({}, { heads: ['eps', 'xPrev'] }))
    expect(error.message).to.equal(
      'UNet.create: expected heads to be some of xStart, v, eps, each once, or xPrev or F alone, got ["eps", "xPrev"]',
    )
  })
})

describe('The head F', () => {
  it('says the image where there is no signal, and learns and samples on such a schedule', async () => {
    const schedule = NoiseSchedule.create({ name: 'linear', zeroTerminalSnr: true })
    const { unet } = await tinyTrainer({}, { heads: ['F'] })
    const trainer = await Trainer.create(unet, schedule, { emaRates: [] })
    const t = Int32Array.of(0, 300, 700, 999)
    const losses: number[] = []
    for (let i = 0; i < 60; i++)
      losses.push((await trainer.trainStep({ images: tinyBatch(), t, lr: 3e-3 })).loss)
    const sum = (part: readonly number[]) => part.reduce((total, loss) => total + loss, 0)
    expect(sum(losses.slice(-10))).to.be.below(0.95 * sum(losses.slice(0, 10)))
    const denoiser = new Denoiser(unet, schedule, { clip: false })
    const xt = await denoiser.noise([2, 1, 8, 8], 3)
    const { xStart } = await denoiser.predictXStart(xt, 999)
    const { data, shape } = await xt.toHost()
    const out = await unet.forward({ x: { data, shape }, t: { data: Float32Array.of(999, 999), shape: [2] } })
    const half = Array.from(out.data as Float32Array, (value) => 0.5 * value)
    expectClose((await xStart.toHost()).data as Float32Array, half, { relative: 1e-6, what: 'xStart' })
    const images = await sample({
      denoiser: new Denoiser(unet, schedule.respace('4')),
      shape: [2, 1, 8, 8],
      seed: 1,
      eta: 0,
    })
    expect(images.every(Number.isFinite)).to.equal(true)
  })

  it('stands alone', async () => {
    const error = await rejection(tinyTrainer({}, { heads: ['v', 'F'] }))
    expect(error.message).to.include('or xPrev or F alone, got ["v", "F"]')
  })
})
