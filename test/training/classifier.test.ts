import { existsSync } from 'node:fs'
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect } from 'chai'
import { readTensors, writeTensors } from '../../lib/checkpoint-file.ts'
import { writeNpz } from '../../lib/data/npz.ts'
import { Classifier, type ClassifierOptions, classifierConfig } from '../../lib/model/classifier.ts'
import { NoiseSchedule } from '../../lib/schedule/noise-schedule.ts'
import type { HostTensor, ImageBatch } from '../../lib/tensor.ts'
import { latestCheckpoint, loadForSampling, readCheckpoint } from '../../lib/training/checkpoint.ts'
import {
  loadClassifierCheckpoint,
  openClassifier,
  saveClassifierCheckpoint,
} from '../../lib/training/classifier-checkpoint.ts'
import { classifierRunConfig } from '../../lib/training/classifier-config.ts'
import { runClassifier } from '../../lib/training/classifier-run.ts'
import { accuracy, ClassifierTrainer } from '../../lib/training/classifier-trainer.ts'
import { expectClose } from '../support/close.ts'
import { command, start, until } from '../support/command.ts'
import { fixtureJson, fixturePath } from '../support/fixtures.ts'
import { formulaWeights, loadFormulaWeights } from '../support/formula-weights.ts'
import { rejection } from '../support/rejection.ts'
import { smallData } from '../support/small-run.ts'

const TINY: ClassifierOptions = {
  classCount: 4,
  imageSize: 8,
  modelChannels: 16,
  channelMult: [1, 2],
  resBlockCount: 1,
  attentionResolutions: [2],
  headChannels: 16,
  normGroups: 8,
  resBlockUpDown: false,
}

/** The four images of guidance.py. */
function waves(labels: readonly number[]): ImageBatch {
  const data = Uint8Array.from({ length: 4 * 3 * 64 }, (_, i) => {
    const [n, c, y, x] = [Math.floor(i / 192), Math.floor(i / 64) % 3, Math.floor(i / 8) % 8, i % 8]
    return Math.floor(127.5 + 127 * Math.sin(0.9 * x + 0.37 * n) * Math.cos(0.7 * y - 0.23 * n + 1.1 * c))
  })
  return { data, shape: [4, 3, 8, 8], labels: Int32Array.from(labels) }
}

async function tiny(options: Partial<ClassifierOptions> = {}, training = {}) {
  const classifier = await Classifier.create({ ...TINY, ...options }, { seed: 1 })
  const schedule = NoiseSchedule.create({ name: 'linear' })
  const trainer = await ClassifierTrainer.create(classifier, schedule, training)
  return { classifier, schedule, trainer }
}

async function weightsOf(classifier: Classifier): Promise<Map<string, HostTensor>> {
  const folder = await mkdtemp(join(tmpdir(), 'trislot-weights-'))
  const file = join(folder, 'weights.safetensors')
  await classifier.saveWeights(file)
  const { tensors } = await readTensors(file)
  await rm(folder, { recursive: true })
  return tensors
}

/** Gives it logits so far apart that the loss of every second class is infinite. */
async function spoil(classifier: Classifier): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), 'trislot-spoil-'))
  const file = join(folder, 'weights.safetensors')
  const tensors = await weightsOf(classifier)
  const bias = [...tensors.values()].at(-1)?.data as Float32Array
  bias.forEach((_, i) => {
    bias[i] = i % 2 === 0 ? -3e38 : 3e38
  })
  await writeTensors(file, tensors)
  await classifier.loadWeights(file)
  await rm(folder, { recursive: true })
}

describe('Classifier', () => {
  it('refuses options that do not fit, and names them', () => {
    const wrong = (options: Partial<ClassifierOptions>, message: string) =>
      expect(() => classifierConfig({ ...TINY, ...options })).to.throw(
        `Classifier.create: expected ${message}`,
      )
    wrong({ imageSize: 9 }, "imageSize to be divisible by 2, the network's down-sampling, got 9")
    wrong({ headChannels: -1 }, 'headChannels to be a number of channels for attention pooling, got -1')
    wrong({ classCount: 0 }, 'classCount to be an integer >= 1, got 0')
    wrong(
      { pool: 'mean' as 'spatial' },
      'pool to be one of adaptive, attention, spatial, spatial_v2, got "mean"',
    )
    wrong(
      { pool: 'spatial_v2', modelChannels: 48, headChannels: 48, normGroups: 24 },
      'normGroups to be a divisor of 2048, the hidden layer of pool spatial_v2, got 24',
    )
    wrong({ pol: 1 } as object, 'options to be among')
  })

  it('refuses images and classes that it was not made for', async () => {
    const { classifier, trainer } = await tiny()
    const x = (shape: number[]) => ({ data: new Float32Array(shape.reduce((a, b) => a * b)), shape })
    const t = { data: Float32Array.of(0), shape: [1] }
    const forward = (shape: number[]) => rejection(classifier.forward({ x: x(shape), t }))
    expect((await forward([1, 3, 16, 16])).message).to.equal(
      'classifier.forward: expected height and width to be 8 x 8, the size of the attention pool, got [16, 16]',
    )
    expect((await forward([1, 1, 8, 8])).message).to.equal(
      'classifier.forward: expected images to be 3 channels, got 1',
    )
    const step = (labels: readonly number[] | undefined) => {
      const { labels: _, ...images } = waves([])
      const given = labels ? { ...images, labels: Int32Array.from(labels) } : images
      return rejection(trainer.trainStep({ images: given, t: new Int32Array(4), lr: 0 }))
    }
    expect((await step([0, 1, 2, 4])).message).to.equal(
      'classifierTrainer.trainStep: expected y[3] to be a class in [0, 3], got 4',
    )
    expect((await step(undefined)).message).to.equal(
      'classifierTrainer.trainStep: expected images.labels to be 4 classes, got undefined',
    )
    expect(trainer.step).to.equal(0)
  })

  it('takes images of other sizes where it pools by means', async () => {
    const { classifier } = await tiny({ pool: 'spatial_v2' })
    const x = { data: new Float32Array(2 * 3 * 16 * 12).fill(0.1), shape: [2, 3, 16, 12] }
    const logits = await classifier.forward({ x, t: { data: Float32Array.of(0, 9.5), shape: [2] } })
    expect(logits.shape).to.deep.equal([2, 4])
  })
})

describe('ClassifierTrainer', () => {
  const { training } = fixtureJson('guidance.json')
  const t = Int32Array.from(training.t)

  it('takes the steps of the reference in float64, also in micro-batches', async () => {
    for (const microBatch of [0, 3]) {
      const { classifier, trainer } = await tiny(
        {},
        { seed: 5, weightDecay: training.weightDecay, microBatch },
      )
      await loadFormulaWeights(classifier)
      for (const [step, losses] of training.losses.entries()) {
        const result = await trainer.trainStep({ images: waves(training.y), t, lr: training.lr })
        expectClose(result.exampleLoss, losses, { absolute: 1e-4, what: `losses of step ${step}` })
        const norm = training.gradNorms[step]
        if (norm) expect(result.gradNorm).to.be.closeTo(norm, 2e-4 * norm)
        else expect(Array.from(result.rank)).to.deep.equal(training.rank)
      }
    }
  })

  it('begins without any knowledge: the loss of equal chances, no class before another', async () => {
    const { trainer } = await tiny({ pool: 'adaptive' })
    const { exampleLoss, rank } = await trainer.evaluate({ images: waves([0, 1, 2, 3]), t })
    expectClose(exampleLoss, new Float32Array(4).fill(Math.log(4)), { absolute: 1e-6 })
    expect(Array.from(rank)).to.deep.equal([0, 1, 2, 3])
    expect([1, 2, 5].map((k) => accuracy(rank, k))).to.deep.equal([0.25, 0.5, 1])
  })

  it('looks at clean images at t = 0 when they are not noised', async () => {
    const { classifier, trainer } = await tiny({}, { noised: false })
    const images = waves([0, 1, 2, 3])
    const { exampleLoss } = await trainer.evaluate({ images, t })
    const x = { data: images.data, shape: images.shape }
    const logits = await classifier.forward({ x, t: { data: new Float32Array(4), shape: [4] } })
    const rows = Array.from({ length: 4 }, (_, i) => (logits.data as Float32Array).slice(4 * i, 4 * i + 4))
    const expected = rows.map((row, i) => Math.log(row.reduce((sum, z) => sum + Math.exp(z), 0)) - row[i]!)
    expectClose(exampleLoss, expected, { absolute: 1e-5 })
  })

  it('asks the same question for the same step, and changes nothing', async () => {
    const { trainer } = await tiny()
    const ask = async (step: number) =>
      Array.from((await trainer.evaluate({ images: waves([0, 1, 2, 3]), t, step })).exampleLoss)
    const first = await ask(1)
    expect(await ask(2)).to.not.deep.equal(first)
    expect(await ask(1)).to.deep.equal(first)
    expect(trainer.step).to.equal(0)
  })

  it('leaves everything as it was when a loss is not finite', async () => {
    const { classifier, trainer } = await tiny()
    await spoil(classifier)
    const before = await weightsOf(classifier)
    const error = await rejection(trainer.trainStep({ images: waves([0, 1, 2, 3]), t, lr: 1 }))
    expect(error.code).to.equal('ERR_NON_FINITE')
    expect(error.message).to.match(
      /^classifierTrainer\.trainStep: expected loss and gradients to be finite, got loss /,
    )
    expect(await weightsOf(classifier)).to.deep.equal(before)
  })
})

describe('runClassifier', () => {
  let small: Awaited<ReturnType<typeof smallData>>
  let data: string
  before(async () => {
    small = await smallData()
    data = join(small.folder, 'classes.npz')
    const pixels = Uint8Array.from({ length: 24 * 64 }, (_, i) => (i * 37 + Math.floor(i / 64) * 91) % 256)
    const labels = BigInt64Array.from({ length: 24 }, (_, i) => BigInt(i % 3))
    await writeNpz(data, {
      arr_0: { data: pixels, shape: [24, 8, 8, 1] },
      arr_1: { data: labels, shape: [24] },
    })
  })
  after(() => small.remove())

  const options = (name: string, steps: number) =>
    ({
      ...{ data, steps, heldOut: 6, modelChannels: 16, channelMult: [1, 2], resBlockCount: 1, normGroups: 8 },
      ...{
        headChannels: 16,
        dropout: 0.1,
        flip: true,
        batchSize: 4,
        microBatch: 3,
        evalEvery: 4,
        threads: 1,
      },
      ...{ weightDecay: 0.05, logEvery: 1, run: join(small.folder, name) },
    }) as const

  it('continues after kill -9 as if it had never stopped: weights, optimizer and log, byte for byte', async () => {
    const killed = options('killed', 1_000_000)
    const words = Object.entries(killed).flatMap(([key, value]) => {
      const name = key.replaceAll(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)
      return value === true ? [`--${name}`] : [`--${name}`, String(value)]
    })
    const { child, ended } = start(['train-classifier', ...words, '--save-every', '5', '--keep', '2'])
    await until(() => existsSync(join(killed.run, 'checkpoints', 'step-00000010')), 'two checkpoints')
    child.kill('SIGKILL')
    expect((await ended).signal).to.equal('SIGKILL')
    const { step } = await readCheckpoint((await latestCheckpoint(killed.run)) as string)
    const resumed = await runClassifier({ ...killed, steps: step + 7 })
    const straight = await runClassifier(options('straight', step + 7))
    const filesOf = async (checkpoint: string | undefined) =>
      (await readCheckpoint(checkpoint as string)).files
    expect(await filesOf(resumed.checkpoint)).to.deep.equal(await filesOf(straight.checkpoint))
    const stats = await readFile(join(straight.folder, 'stats.jsonl'), 'utf8')
    expect(await readFile(join(resumed.folder, 'stats.jsonl'), 'utf8')).to.equal(stats)
    const rows = stats
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line))
    expect(rows).to.have.length(step + 7)
    expect(Object.keys(rows[3])).to.deep.equal([
      ...['step', 'imagesSeen', 'loss', 'accuracy1', 'accuracy5', 'quarters', 'gradNorm', 'lr', 'validation'],
    ])
    expect(rows[0].validation).to.equal(undefined)
    expect(rows[3].quarters).to.have.length(4)
  })

  it('says when steps are skipped', async () => {
    const lines: string[] = []
    // After one step of this rate no weight is of use.
    const useless = { ...options('useless', 4), lr: 1e30, nonFinite: 'skip' } as const
    await runClassifier(useless, { log: (line) => lines.push(line) })
    expect(lines.filter((line) => line.includes('skipped'))).to.deep.equal([
      'warning: step 2 was skipped, because its loss or gradient was not finite; lower the learning rate',
      'warning: 3 steps were skipped in all',
    ])
  })

  it('is opened for guidance by its folder, with the names of its classes', async () => {
    const { folder } = await runClassifier(options('opened', 1))
    const { classifier, classNames } = await openClassifier(folder)
    expect(classifier.config).to.include({ classCount: 3, imageSize: 8, imageChannels: 1 })
    expect(classNames).to.deep.equal(['0', '1', '2'])
    const { message } = await rejection(loadForSampling((await latestCheckpoint(folder)) as string))
    expect(message).to.match(/^loadForSampling: expected .* to hold a UNet, got a classifier$/)
  })

  it('is opened from a file of weights with the options of guided-diffusion beside it', async () => {
    const file = join(small.folder, 'published.safetensors')
    const made = await Classifier.fromGuidedDiffusion(fixtureJson('classifier-attention.json').config)
    await writeTensors(file, formulaWeights(made.parameters()))
    const { classifier } = await openClassifier(file, fixturePath('classifier-attention.json'))
    expect(classifier.parameters()).to.deep.equal(made.parameters())
    const { message } = await rejection(openClassifier(file))
    expect(message).to.equal(
      `openClassifier: expected ${join(small.folder, 'published.json')} to hold the classifier's options, got ENOENT`,
    )
  })

  it('comes back from a checkpoint with its optimizer', async () => {
    const { trainer } = await tiny({}, { weightDecay: 0.05 })
    const batch = { images: waves([0, 1, 2, 3]), t: Int32Array.of(0, 1, 2, 3), lr: 1e-3 }
    await trainer.trainStep(batch)
    const folder = await saveClassifierCheckpoint(trainer, join(small.folder, 'by-hand'))
    const loaded = await loadClassifierCheckpoint(folder)
    expect(loaded.trainer.step).to.equal(1)
    const [a, b] = [await trainer.trainStep(batch), await loaded.trainer.trainStep(batch)]
    expect(b).to.deep.equal(a)
    expect((await trainer.trainStep(batch)).loss).to.equal((await loaded.trainer.trainStep(batch)).loss)
  })

  it('keeps in a checkpoint how many steps were skipped in a row, and refuses options that are none', async () => {
    const { trainer } = await tiny({}, { nonFinite: 'skip', nonFiniteLimit: 2 })
    await spoil(trainer.classifier)
    const bad = { images: waves([0, 1, 2, 3]), t: Int32Array.of(0, 1, 2, 3), lr: 1e-3 }
    await trainer.trainStep(bad)
    const loaded = await loadClassifierCheckpoint(
      await saveClassifierCheckpoint(trainer, join(small.folder, 'skips')),
    )
    expect((await rejection(loaded.trainer.trainStep(bad))).message).to.contain(
      'got 2 skipped steps in a row at step 1',
    )
    const weights = join(small.folder, 'weights.safetensors')
    const config = join(small.folder, 'odd.json')
    await loaded.classifier.saveWeights(weights)
    await writeFile(config, '{ "config": null }')
    expect((await rejection(openClassifier(weights, config))).message).to.equal(
      `openClassifier: expected ${config} to hold the options of a classifier, got {"config":null}`,
    )
  })

  it('is described by inspect, and its weights are written by convert', async () => {
    const { folder } = await runClassifier(options('shown', 1))
    const shown = await command('inspect', folder)
    expect(shown.code, shown.err).to.equal(0)
    expect(shown.out).to.contain('  pool: attention').and.to.contain('  precision: fp32')
    const file = join(small.folder, 'shown.safetensors')
    const converted = await command('convert', (await latestCheckpoint(folder)) as string, file)
    expect(converted.code, converted.err).to.equal(0)
    expect(existsSync(file)).to.equal(true)
  })

  it('refuses to go on when its data has other images than before', async () => {
    const { folder } = await runClassifier(options('more', 1))
    const pixels = new Uint8Array(25 * 64)
    const labels = BigInt64Array.from({ length: 25 }, (_, i) => BigInt(i % 3))
    const before = await readFile(data)
    try {
      await writeNpz(data, {
        arr_0: { data: pixels, shape: [25, 8, 8, 1] },
        arr_1: { data: labels, shape: [25] },
      })
      expect((await rejection(runClassifier(options('more', 2)))).message).to.contain(
        `runClassifier: expected data to hold 24 images, as when ${folder} began, got 25 of `,
      )
    } finally {
      await writeFile(data, before)
    }
  })

  it('refuses other options for the same run, and two sources of validation', async () => {
    await runClassifier(options('changed', 1))
    const { message } = await rejection(runClassifier({ ...options('changed', 2), lr: 0.5 }))
    expect(message).to.contain('expected lr to be 0.0003, as when')
    expect(() => classifierRunConfig({ ...options('both', 1), valData: data })).to.throw(
      'runClassifier: expected heldOut to be absent when valData is given, got 6',
    )
  })
})
