import { join } from 'node:path'
import { type Closing, closingAfter } from '../closing.ts'
import { batches } from '../data/batches.ts'
import type { ImageDataset } from '../data/dataset.ts'
import { skippedFiles } from '../data/image-folder.ts'
import { checkDevice } from '../device.ts'
import { DataError } from '../errors.ts'
import { writeDurably } from '../folder.ts'
import { Classifier } from '../model/classifier.ts'
import { NoiseSchedule } from '../schedule/noise-schedule.ts'
import type { JsonValue } from '../timesteps/sampler.ts'
import { removePartials } from './checkpoint.ts'
import { readClassifierCheckpoint, saveClassifierCheckpoint } from './classifier-checkpoint.ts'
import {
  CLASSIFIER_FREE_OPTIONS,
  type ClassifierRunConfig,
  type ClassifierRunOptions,
  classifierOptions,
  classifierRunConfig,
} from './classifier-config.ts'
import { accuracy, type ClassifierLosses, ClassifierTrainer } from './classifier-trainer.ts'
import { runLearningRate } from './learning-rate.ts'
import {
  findCheckpoint,
  openImages,
  type RunImages,
  type RunResult,
  refuseChanges,
  refuseOtherImages,
  settleRuntime,
  splitImages,
} from './run.ts'
import type { RunConfig } from './run-config.ts'
import { inRunFolder } from './run-lock.ts'
import { JsonLines } from './run-stats.ts'
import { SkipWarnings } from './skip-warnings.ts'
import { begunWith } from './stored-config.ts'
import { timestepSampler } from './timestep-options.ts'

/** Cross-entropy and accuracies of a batch. */
export interface ClassifierScore {
  /** Mean cross-entropy, in nats. */
  readonly loss: number
  /** Share of examples whose class is thought the most probable, or is among the first five. */
  readonly accuracy1: number
  readonly accuracy5: number
}

/** A line of a classifier's stats.jsonl; a pure function of the run's options and the step. */
export interface ClassifierRow extends ClassifierScore {
  /** Steps done. */
  readonly step: number
  readonly imagesSeen: number
  readonly gradNorm: number
  readonly lr: number
  /** Apart for the four quarters of the timesteps, least noise first; null where none was drawn. */
  readonly quarters: readonly (ClassifierScore | null)[]
  /** One batch of images that are not trained on, where there are some. */
  readonly validation?: ClassifierScore & { readonly quarters: readonly (ClassifierScore | null)[] }
  /** The step was not finite, and nothing was changed. */
  readonly skipped?: true
}

/** A step of a classifier's run. */
export interface ClassifierReport extends ClassifierRow {
  readonly total: number
  /** Of the last steps. */
  readonly imagesPerSecond: number
}

/** Who watches a classifier's run, and what stops it. */
export interface ClassifierHooks {
  /** Stops after the step under way and saves. */
  readonly signal?: AbortSignal
  /** Called after each step. */
  readonly onReport?: (report: ClassifierReport) => void
  /** Told in one line what happens besides steps. */
  readonly log?: (line: string) => void
}

/**
 * Trains a classifier of noised images into a folder: `config.json`, `stats.jsonl` and `checkpoints/`. The same call
 * continues a run that was stopped or killed, bit for bit as if it had never been; with more `steps` it goes on further.
 *
 * @throws RangeError for options that are wrong or differ from those that the run began with; DataError, CheckpointError
 *
 * @example
 * await runClassifier({ data: 'digits', steps: 1000, modelChannels: 32, headChannels: 32, run: 'runs/classifier' })
 */
export async function runClassifier(
  options: ClassifierRunOptions,
  hooks: ClassifierHooks = {},
): Promise<RunResult> {
  const call = 'runClassifier'
  const { log = () => {} } = hooks
  const wanted = classifierRunConfig(options, call)
  const folder = wanted.run
  if (wanted.device !== 'cpu') await checkDevice(wanted.device)
  const { all, ...split } = await openClasses(wanted, hooks)
  return inRunFolder(folder, async () => {
    await removePartials(folder)
    const resumed = await findCheckpoint(folder, log)
    const state = resumed === undefined ? undefined : await readClassifierCheckpoint(call, resumed)
    const stored =
      resumed === undefined ? undefined : await begunWith<ClassifierRunConfig>(call, folder, resumed)
    if (stored) refuseChanges(call, folder, stored, wanted, CLASSIFIER_FREE_OPTIONS)
    const config = { ...wanted, ...(await settleRuntime(wanted, stored)) }
    const before = (state?.extra as { images?: RunImages } | null | undefined)?.images
    refuseOtherImages(call, folder, before, all)
    const images = { ...split, count: all.length }
    return closingAfter((closing) =>
      trainInto(config, images, resumed, state?.skips, { ...hooks, log }, closing),
    )
  })
}

/** The images to train on and, where there are some, those for validation; both with classes. */
async function openClasses(
  config: ClassifierRunConfig,
  hooks: ClassifierHooks,
): Promise<{ all: ImageDataset; train: ImageDataset; validation: ImageDataset | undefined }> {
  // The options that openImages reads mean the same here.
  const all = await openImages(config as unknown as RunConfig, 'data', hooks)
  const { train, heldOut } = splitImages(all, config, 'runClassifier')
  if (config.valData === undefined) return { all, train, validation: heldOut }
  const validation = await openImages(
    { ...config, data: config.valData } as unknown as RunConfig,
    'valData',
    hooks,
  )
  const [here, there] = [train.classNames ?? [], validation.classNames ?? []]
  if (here.join('\n') !== there.join('\n')) {
    throw new DataError(
      `runClassifier: expected valData to have the classes of data (${here.slice(0, 5).join(', ')}, … ${here.length} in all), got ${there.slice(0, 5).join(', ')}, … ${there.length} in all`,
      config.valData,
    )
  }
  return { all, train, validation }
}

async function trainInto(
  config: ClassifierRunConfig,
  {
    train: dataset,
    validation,
    count,
  }: { train: ImageDataset; validation: ImageDataset | undefined; count: number },
  resumed: string | undefined,
  skips: number | undefined,
  hooks: ClassifierHooks & { log: (line: string) => void },
  closing: Closing,
): Promise<RunResult> {
  const { run: folder, batchSize, seed, steps, device, timestepCount } = config
  const { signal, onReport, log } = hooks
  const { channels, height, width, classNames = [] } = dataset
  const schedule = NoiseSchedule.create({
    name: config.schedule,
    timestepCount,
    zeroTerminalSnr: config.zeroTerminalSnr,
  })
  closing.push(() => schedule.dispose())
  const classCount = classNames.length
  const classifier = await Classifier.create(classifierOptions(config, { channels, height, classCount }), {
    seed,
    device,
  })
  closing.push(() => classifier.dispose())
  classifier.checkImageShape('runClassifier', [batchSize, channels, height, width])
  const { noised, beta1, beta2, weightDecay, decayAll, clipNorm, microBatch, precision, nonFinite } = config
  const trainer = await ClassifierTrainer.create(classifier, schedule, {
    ...{ seed, noised, beta1, beta2, weightDecay, decayAll, clipNorm, microBatch, precision, nonFinite },
  })
  closing.push(() => trainer.dispose())
  const lr = runLearningRate('runClassifier', config)
  const timesteps = (samplerSeed: number) =>
    timestepSampler({ sampler: config.sampler, timestepCount, seed: samplerSeed }).sampler
  const [sampler, validationSampler] = [timesteps(seed), timesteps(seed + 1)]

  if (resumed) await trainer.loadTensors(resumed, skips)
  await writeDurably(join(folder, 'config.json'), `${JSON.stringify(config, undefined, 2)}\n`)
  const { lines: stats } = await JsonLines.open(join(folder, 'stats.jsonl'), trainer.step, log)
  closing.push(() => stats.close())
  const from = resumed ? `, from step ${trainer.step}` : ''
  const skipped = skippedFiles(dataset)
  if (skipped) log(`warning: ${skipped}`)
  log(
    `${dataset.length} images of ${dataset.name}, ${classCount} classes, ${classifier.parameterCount} weights, ${steps} steps${from}`,
  )

  const images: RunImages = { count, channels, height, width, classNames }
  let checkpoint = resumed
  let savedStep = resumed ? trainer.step : 0
  let imagesPerSecond = 0
  const save = async (): Promise<void> => {
    await stats.sync()
    checkpoint = await saveClassifierCheckpoint(trainer, folder, {
      imagesSeen: trainer.step * batchSize,
      extra: { run: config, images } as unknown as JsonValue,
      keep: config.keep,
    })
    savedStep = trainer.step
    log(`saved ${checkpoint}`)
  }
  const score = (losses: ClassifierLosses, t: Int32Array) => ({
    ...scoreOf(losses),
    quarters: quartersOf(losses, t, timestepCount),
  })
  const validate = async (step: number) => {
    if (!validation || config.evalEvery === 0 || (step + 1) % config.evalEvery !== 0) return undefined
    const count = Math.min(batchSize, validation.length)
    const source = batches(validation, {
      ...{ batchSize: count, seed, withLabels: true, prefetch: 0 },
      firstStep: Math.floor(step / config.evalEvery),
    })
    const { value: batch } = await source.next()
    const { t } = validationSampler.draw(count, step)
    return score(await trainer.evaluate({ images: batch, t, step }), t)
  }

  const source = batches(dataset, {
    ...{ batchSize, seed, firstStep: trainer.step, flip: config.flip, withLabels: true },
  })
  const warnings = new SkipWarnings(config.precision, log)
  let before = performance.now()
  if (trainer.step < steps) {
    for await (const batch of source) {
      if (signal?.aborted) break
      const { step } = trainer
      const { t } = sampler.draw(batchSize, step)
      const rate = lr(step)
      const result = await trainer.trainStep({ images: batch, t, lr: rate })
      const validated = await validate(step)
      if (result.skipped) warnings.add(step + 1)
      const row: ClassifierRow = {
        step: step + 1,
        imagesSeen: (step + 1) * batchSize,
        ...score(result, t),
        gradNorm: result.gradNorm,
        lr: rate,
        ...(validated && { validation: validated }),
        ...(result.skipped && { skipped: true }),
      }
      const now = performance.now()
      const speed = (1000 * batchSize) / (now - before)
      imagesPerSecond = imagesPerSecond === 0 ? speed : 0.9 * imagesPerSecond + 0.1 * speed
      before = now
      if (row.step === 1 || row.step % config.logEvery === 0 || validated) await stats.write(row)
      onReport?.({ ...row, total: steps, imagesPerSecond })
      if (row.step === steps || signal?.aborted) break
      if (config.saveEvery > 0 && row.step % config.saveEvery === 0) await save()
    }
  }
  if (trainer.step > savedStep) await save()
  warnings.end()
  return { folder, step: trainer.step, checkpoint, wasStopped: trainer.step < steps }
}

function scoreOf({ exampleLoss, rank }: ClassifierLosses): ClassifierScore {
  const loss = exampleLoss.reduce((sum, value) => sum + value, 0) / exampleLoss.length
  return { loss, accuracy1: accuracy(rank, 1), accuracy5: accuracy(rank, 5) }
}

/** Scores apart for each quarter of [0, T), as guided-diffusion's `_q0` to `_q3`. */
function quartersOf(
  { exampleLoss, rank }: ClassifierLosses,
  t: Int32Array,
  timestepCount: number,
): (ClassifierScore | null)[] {
  return [0, 1, 2, 3].map((quarter) => {
    const isIn = (_: number, i: number) => Math.floor((4 * (t[i] as number)) / timestepCount) === quarter
    const part = { exampleLoss: exampleLoss.filter(isIn), rank: rank.filter(isIn) }
    return part.rank.length > 0 ? scoreOf(part) : null
  })
}
