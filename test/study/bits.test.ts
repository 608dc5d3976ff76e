import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect } from 'chai'
import { bitsPerDim } from '../../lib/analysis/bits-per-dim.ts'
import { lowResTwin } from '../../lib/data/super-resolution.ts'
import type { UNetOptions } from '../../lib/model/unet.ts'
import { Denoiser } from '../../lib/sampling/denoiser.ts'
import { heldOutBits } from '../../lib/study/bits.ts'
import type { EvaluationSettings } from '../../lib/study/study-file.ts'
import type { ImageBatch } from '../../lib/tensor.ts'
import { saveCheckpoint } from '../../lib/training/checkpoint.ts'
import type { TrainerOptions } from '../../lib/training/trainer.ts'
import { tinyBatch, tinyTimesteps, tinyTrainer } from '../support/tiny.ts'

const SETTINGS = { weights: 'raw', seed: 3, batchSize: 64 } as EvaluationSettings
const CONFIG = { combine: 'signal', device: 'cpu' } as const

describe('heldOutBits', () => {
  let folder: string
  before(async () => {
    folder = await mkdtemp(join(tmpdir(), 'trislot-bits-'))
  })
  after(() => rm(folder, { recursive: true }))

  /** Of a network that was trained for two steps, with what `bitsPerDim` itself says about it. */
  async function measured(
    images: ImageBatch,
    network: Partial<UNetOptions> = {},
    training: TrainerOptions = {},
  ) {
    const { trainer, unet, schedule } = await tinyTrainer(training, network)
    const [count] = images.shape
    for (let k = 0; k < 2; k++) await trainer.trainStep({ images, t: tinyTimesteps(count), lr: 1e-2 })
    const checkpoint = await saveCheckpoint(trainer, await mkdtemp(join(folder, 'run-')))
    const bits = async (settings: Partial<EvaluationSettings> = {}) => {
      const given = { ...SETTINGS, bitsPerDim: { images: count, steps: 4 }, ...settings }
      return (await heldOutBits(checkpoint, given, CONFIG, images)).rows.map(({ mean }) => mean)
    }
    const alone = async (variance: 'fixedSmall' | 'fixedLarge' | 'learned' | 'learnedRange') => {
      const denoiser = new Denoiser(unet, schedule.respace('4'))
      const { total } = await bitsPerDim({ denoiser, images, variance, seed: 3 })
      return total.reduce((a, b) => a + b, 0) / count
    }
    return { bits, alone }
  }

  it('is the mean of bitsPerDim, whatever the batches, once for each combination', async () => {
    const { bits, alone } = await measured(tinyBatch(5))
    const [own, mean] = await bits({ combinations: ['mean'] })
    expect(own).to.be.closeTo(await alone('fixedLarge'), 1e-9)
    expect(mean).to.not.equal(own)
    expect(await bits({ combinations: ['signal'] }), 'its own, once').to.deep.equal([own])
    const [inParts] = await bits({ batchSize: 2 })
    expect(inParts).to.be.closeTo(own as number, 1e-5)
  })

  it('takes the variance that the network was trained with', async () => {
    const small = await measured(tinyBatch(), { heads: ['eps'] }, { variance: 'fixedSmall' })
    expect((await small.bits())[0]).to.be.closeTo(await small.alone('fixedSmall'), 1e-9)
    const learned = await measured(
      tinyBatch(),
      { heads: ['eps'], learnsVariance: true },
      { variance: 'learned' },
    )
    expect((await learned.bits())[0]).to.be.closeTo(await learned.alone('learned'), 1e-9)
    expect((await learned.bits())[0]).to.not.be.closeTo(await learned.alone('learnedRange'), 1e-3)
  })

  it('gives networks their classes and low-resolution images', async () => {
    const images = tinyBatch()
    const labels = Int32Array.of(0, 1, 1, 0)
    const classes = await measured({ ...images, labels }, { classCount: 2 })
    expect((await classes.bits({ batchSize: 3 }))[0]).to.be.closeTo(await classes.alone('fixedLarge'), 1e-5)
    const lowRes = lowResTwin(images, 2)
    const upscaled = await measured({ ...images, lowRes }, { lowRes: true })
    expect((await upscaled.bits({ batchSize: 3 }))[0]).to.be.closeTo(await upscaled.alone('fixedLarge'), 1e-5)
  })
})
