import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect } from 'chai'
import { lossGradientGram } from '../../lib/analysis/loss-gradient.ts'
import { readTensors, writeTensors } from '../../lib/checkpoint-file.ts'
import { Classifier } from '../../lib/model/classifier.ts'
import { NoiseSchedule } from '../../lib/schedule/noise-schedule.ts'
import { loadCheckpoint, readCheckpoint, saveCheckpoint } from '../../lib/training/checkpoint.ts'
import { ClassifierTrainer } from '../../lib/training/classifier-trainer.ts'
import type { Trainer, TrainerOptions } from '../../lib/training/trainer.ts'
import { expectClose } from '../support/close.ts'
import { rejection } from '../support/rejection.ts'
import { tinyBatch, tinyTimesteps, tinyTrainer } from '../support/tiny.ts'

const half = (training: TrainerOptions = {}) => tinyTrainer({ precision: 'fp16', ...training })
const step = (trainer: Trainer, lr = 1e-3) =>
  trainer.trainStep({ images: tinyBatch(), t: tinyTimesteps(), lr })
const overflowing = (trainer: Trainer) =>
  trainer.trainStep({
    images: tinyBatch(),
    t: tinyTimesteps(),
    weight: new Float32Array(4).fill(3e38),
    lr: 1e-3,
  })

describe('The loss scale of fp16', () => {
  it('leaves no trace in the gradient: steps are those of fp32 but for rounding', async () => {
    const reports = []
    for (const precision of ['fp32', 'fp16'] as const) {
      const { trainer } = await tinyTrainer({ precision, clipNorm: 0 })
      const rows: number[][] = []
      for (let i = 0; i < 4; i++) {
        const { loss, gradNorm } = await step(trainer)
        rows.push([loss, gradNorm])
      }
      reports.push(rows.flat())
    }
    expectClose(reports[1] as number[], reports[0] as number[], {
      relative: 2e-3,
      what: 'loss, gradient norm',
    })
    expect(reports[1]).to.not.deep.equal(reports[0])
  })

  it('begins at 2^20 and grows a little with each step, up to a bound', async () => {
    const { trainer } = await half({ lossScale: { growth: 0.75, max: 21 } })
    const scales: number[] = []
    for (let i = 0; i < 4; i++) scales.push(Math.log2((await step(trainer)).lossScale))
    expectClose(scales, [20, 20.75, 21, 21], { absolute: 1e-12, what: 'log2' })
    const { trainer: single } = await tinyTrainer()
    expect((await step(single)).lossScale).to.equal(1)
  })

  it('is halved by an overflow, whose step changes nothing, until gradients are finite again', async () => {
    const { trainer } = await half({ lossScale: { log2: 40, growth: 0, max: 64 }, nonFiniteLimit: 1 })
    await step(trainer) // the last convolution is zero at first and lets no gradient through to the half-precision layers
    const folder = await mkdtemp(join(tmpdir(), 'trislot-loss-scale-'))
    try {
      await trainer.saveTensors(folder)
      const before = await readFile(join(folder, 'model.safetensors'))
      const skipped: number[] = []
      let result = await step(trainer)
      while (result.skipped) {
        skipped.push(Math.log2(result.lossScale))
        await trainer.saveTensors(folder)
        expect(await readFile(join(folder, 'model.safetensors'))).to.deep.equal(before)
        result = await step(trainer)
      }
      expect(skipped).to.have.length.within(3, 30)
      expect(skipped).to.deep.equal(skipped.map((_, i) => 40 - i))
      expect(Number.isFinite(result.gradNorm)).to.equal(true)
      expect(trainer.step).to.equal(skipped.length + 2)
      await trainer.saveTensors(folder)
      expect(await readFile(join(folder, 'model.safetensors'))).to.not.deep.equal(before)
    } finally {
      await rm(folder, { recursive: true })
    }
  })

  it('ends a run that never becomes finite at its smallest value, with the reason', async () => {
    const { trainer } = await half({ lossScale: { log2: 2 } })
    expect((await overflowing(trainer)).skipped).to.equal(true)
    expect((await overflowing(trainer)).skipped).to.equal(true)
    const error = await rejection(overflowing(trainer))
    expect(error.code).to.equal('ERR_NON_FINITE')
    expect(error.message).to.match(
      /^trainer\.trainStep: expected loss and gradients to be finite, got loss inf and gradient norm \S+ at step 2 with the smallest loss scale, 2\^0; lower the learning rate, or use bf16 or fp32/,
    )
    expect(trainer.step).to.equal(2)
  })

  it('counts no overflow among the steps that may be skipped', async () => {
    const { trainer } = await half({ lossScale: { log2: 2 }, nonFinite: 'skip', nonFiniteLimit: 2 })
    for (let i = 0; i < 3; i++) expect((await overflowing(trainer)).skipped).to.equal(true)
    expect((await rejection(overflowing(trainer))).message).to.match(
      /expected a finite loss at least once in 2 steps, got 2 skipped steps in a row at step 3/,
    )
  })

  it('is kept in checkpoints, exactly: the loaded trainer goes on bit for bit', async () => {
    const run = await mkdtemp(join(tmpdir(), 'trislot-loss-scale-'))
    try {
      const { trainer } = await half({ lossScale: { log2: 30 } })
      for (let i = 0; i < 12; i++) await step(trainer)
      const folder = await saveCheckpoint(trainer, run)
      const { metadata } = await readTensors(join(folder, 'optimizer.safetensors'))
      expect(Number(metadata.lossScaleLog2)).to.be.below(30)
      const { trainer: loaded } = await loadCheckpoint(folder)
      const [a, b] = [await step(trainer), await step(loaded)]
      expect(b).to.deep.equal(a)
      const [first, second] = [
        await saveCheckpoint(trainer, join(run, 'a')),
        await saveCheckpoint(loaded, join(run, 'b')),
      ]
      expect((await readCheckpoint(second)).files).to.deep.equal((await readCheckpoint(first)).files)

      const { tensors } = await readTensors(join(folder, 'optimizer.safetensors'))
      const { lossScaleLog2: _, ...rest } = metadata
      await writeTensors(join(folder, 'optimizer.safetensors'), tensors, rest)
      expect((await rejection(trainer.loadTensors(folder))).message).to.match(
        /: expected metadata lossScaleLog2 to be a number >= 0, got none$/,
      )
    } finally {
      await rm(run, { recursive: true })
    }
  })

  it('is there for classifiers, too: steps are those of fp32 but for rounding, and checkpoints keep it', async () => {
    const run = await mkdtemp(join(tmpdir(), 'trislot-loss-scale-'))
    const made = async (precision: 'fp32' | 'fp16') => {
      const classifier = await Classifier.create(
        { ...{ classCount: 3, imageSize: 8, imageChannels: 1, modelChannels: 16, channelMult: [1, 2] },
          ...{ resBlockCount: 1, headChannels: 16, normGroups: 8 } },
        { seed: 1 },
      ) // biome-ignore format: one network
      return ClassifierTrainer.create(classifier, NoiseSchedule.create(), { precision, clipNorm: 0 })
    }
    const images = { ...tinyBatch(), labels: Int32Array.of(0, 1, 2, 0) }
    const next = (trainer: ClassifierTrainer, lr = 1e-3) =>
      trainer.trainStep({ images, t: tinyTimesteps(), lr })
    try {
      const [whole, scaled] = [await made('fp32'), await made('fp16')]
      let result = await next(scaled)
      expect(Math.log2(result.lossScale)).to.equal(20)
      let skips = 0
      for (; result.skipped; skips++) {
        await next(whole, 0) // the same step, for its noise
        result = await next(scaled)
      }
      expect(skips).to.be.below(16)
      const { loss, gradNorm, lossScale } = await next(whole)
      expectClose([result.loss, result.gradNorm], [loss, gradNorm], { relative: 5e-3, what: 'loss, norm' })
      expect([lossScale, Math.log2(result.lossScale)]).to.deep.equal([1, 20 - skips])
      await scaled.saveTensors(run)
      const loaded = await made('fp16')
      await loaded.loadTensors(run)
      expect(await next(loaded)).to.deep.equal(await next(scaled))
    } finally {
      await rm(run, { recursive: true })
    }
  })

  it('is not needed by instruments, which take gradients in fp32', async () => {
    const { unet, schedule } = await tinyTrainer()
    const norm = async (precision: 'fp32' | 'fp16') => {
      const batch = { images: tinyBatch(), t: tinyTimesteps(), seed: 1, step: 0 }
      return (await lossGradientGram(unet, schedule, [batch], { training: { precision } })).products[0]
    }
    expect(await norm('fp16')).to.equal(await norm('fp32'))
  })

  it('has bounds that make sense', async () => {
    for (const [lossScale, message] of [
      [{ log2: 40 }, 'expected lossScale.log2 to be a number in [0, 32], got 40'],
      [{ min: 5, max: 4 }, 'expected lossScale.max to be a number in [5, 64], got 4'],
      [{ growth: -1 }, 'expected lossScale.growth to be a number >= 0, got -1'],
    ] as const) {
      expect((await rejection(half({ lossScale }))).message).to.equal(`Trainer.create: ${message}`)
    }
  })
})
