import { rename, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { measureHeadStatistics } from '../analysis/head-statistics.ts'
import { atMostEvery } from '../at-most-every.ts'
import { argumentError, show } from '../check.ts'
import { type Closing, closingAfter } from '../closing.ts'
import { batches } from '../data/batches.ts'
import { holdOut, type ImageDataset } from '../data/dataset.ts'
import { skippedFiles } from '../data/image-folder.ts'
import { isPictureFolder, openDataset } from '../data/open.ts'
import { withLowRes } from '../data/super-resolution.ts'
import { checkDevice, type Kernels, runtimeInfo, setKernels, setThreads } from '../device.ts'
import { exists, writeDurably } from '../folder.ts'
import { freeMemory } from '../free-memory.ts'
import { type HeadRow, headRow } from '../mixing/head-row.ts'
import type { HeadStatistics } from '../mixing/head-statistics.ts'
import { isSameMix } from '../mixing/strategies.ts'
import { UNet } from '../model/unet.ts'
import { writeRunPlots } from '../report/run-plots.ts'
import { checkOpened, fewImagesWarning, openCombine } from '../sampling/combine.ts'
import type { ImageBatch } from '../tensor.ts'
import type { JsonValue } from '../timesteps/sampler.ts'
import { latestCheckpoint, removePartials, restoreCheckpoint, saveCheckpoint } from './checkpoint.ts'
import { gradientCurve } from './gradient-curve.ts'
import { type GradientRow, gradientRow, measuresGradients } from './gradient-shares.ts'
import { loadInitialWeights } from './initial-weights.ts'
import { runLearningRate } from './learning-rate.ts'
import { type StepReport, train } from './loop.ts'
import { LossBins } from './loss-bins.ts'
import { memoryWarning } from './memory-fit.ts'
import { runMixing } from './mixing-options.ts'
import { previewFile, writePreview } from './preview.ts'
import {
  datasetOptions,
  FREE_OPTIONS,
  networkOptions,
  type RunConfig,
  type RunOptions,
  runConfig,
  runWarnings,
} from './run-config.ts'
import { inRunFolder } from './run-lock.ts'
import { JsonLines, type StatsRow, statsRow } from './run-stats.ts'
import { SkipWarnings } from './skip-warnings.ts'
import { begunWith } from './stored-config.ts'
import { runSchedule, timestepSampler } from './timestep-options.ts'
import { Trainer, type TrainerOptions } from './trainer.ts'

/** Held-out images of which a run with previews measures the errors of several heads. */
const HELD_OUT_IMAGES = 32

/** A step of a run. */
export interface RunReport extends StepReport {
  /** Steps done and to do. */
  readonly done: number
  readonly total: number
  /** A moving average over steps, with rate 0.9. */
  readonly imagesPerSecond: number
}

/** Who watches a run, and what stops it. */
export interface RunHooks {
  /** Stops after the step under way and saves. */
  readonly signal?: AbortSignal
  /** Called after each step. */
  readonly onReport?: (report: RunReport) => void
  /** Told in one line what happens besides steps: where the run is, what it continues from, what it saves. */
  readonly log?: (line: string) => void
  /** Steps after which a checkpoint is saved, besides those that `saveEvery` asks for. */
  readonly saveAt?: readonly number[]
  /** Called with each checkpoint; training waits for it. */
  readonly onSave?: (checkpoint: string, step: number) => Promise<void> | void
}

/** How a run ended. */
export interface RunResult {
  /** The run's folder. */
  readonly folder: string
  /** Steps done. */
  readonly step: number
  /** The last checkpoint, if any step was done. */
  readonly checkpoint: string | undefined
  /** The signal stopped it before its last step. */
  readonly wasStopped: boolean
}

/** What the checkpoints of a run say about its images. */
export interface RunImages {
  /** Images of the data, those that are held out among them; absent in checkpoints from before it was kept. */
  readonly count?: number
  readonly channels: number
  readonly height: number
  readonly width: number
  readonly classNames: readonly string[] | null
  /** How many times smaller the low-resolution images are, for super-resolution. */
  readonly lowResFactor?: number
}

/**
 * Trains into a folder: `config.json`, `stats.jsonl`, where there are several heads `heads.jsonl` and, with previews, `gradients.jsonl` and
 * (with `heldOut`) `held-out-heads.jsonl` (`HeadRow`, `GradientRow`), plots, `previews/` and `checkpoints/`. The same call continues a run
 * that was stopped or killed, bit for bit as if it had never been; with more `steps` it goes on further, unless a recipe or a course of the learning rate follows `steps` (then give
 * the options of its `config.json`, and `steps`).
 *
 * @throws RangeError for options that are wrong or differ from those that the run began with; DataError, CheckpointError; Error where another
 * process uses the folder; the signal's reason where it comes before the pictures of a folder are decoded
 * @see `RunConfig` for what the options become; README's table and `trislot train --help` for what each means
 *
 * @example
 * const { checkpoint } = await run({ data: 'digits', preset: 'digits', recipe: 'small-batch', batchSize: 4, steps: 6000, run: 'runs/digits' })
 */
export async function run(options: RunOptions, hooks: RunHooks = {}): Promise<RunResult> {
  const { log = () => {} } = hooks
  const wanted = await runConfig(options)
  const folder = wanted.run
  if (wanted.device !== 'cpu') await checkDevice(wanted.device)
  const dataset = await openImages(wanted, 'data', hooks)
  return inRunFolder(folder, async () => {
    await removePartials(folder)
    const resumed = await findCheckpoint(folder, log)
    const stored = resumed === undefined ? undefined : await begunWith<RunConfig>('run', folder, resumed)
    if (stored) refuseChanges('run', folder, stored, wanted, FREE_OPTIONS)
    const config = { ...wanted, ...(await settleRuntime(wanted, stored)) }
    return closingAfter((closing) => trainInto(config, dataset, resumed, { ...hooks, log }, closing))
  })
}

/**
 * Opens the images that a run's options name (`name` is the option); `classes` decides whether they have labels.
 *
 * @param hooks - told every ten seconds how many pictures of a folder are decoded, and what stops it
 */
export async function openImages(
  config: RunConfig,
  name = 'data',
  { signal, log }: Pick<RunHooks, 'signal' | 'log'> = {},
): Promise<ImageDataset> {
  const { data, classes } = config
  const options = datasetOptions(config)
  const onProgress = atMostEvery(10_000, (done: number, total: number) =>
    log?.(`${done} of ${total} pictures of ${data} decoded`),
  )
  const watched = (await isPictureFolder(data))
    ? { ...options, onProgress, ...(signal && { signal }) }
    : options
  const dataset = await openDataset(data, watched, 'run', name).catch((error: Error) => {
    // What the source refuses, by the names that a run has for it.
    const stray = Object.entries(options).find(([key]) =>
      new RegExp(`got unknown .*\\b${key}\\b`).test(error.message),
    )
    if (!stray || !(error instanceof TypeError)) throw error
    const option = stray[0] === 'labels' ? 'classes' : stray[0]
    throw argumentError(
      'run',
      option,
      `absent with data ${data}, which is not a folder of pictures`,
      stray[1],
    )
  })
  if (classes !== 'none' && !dataset.label) {
    throw new RangeError(
      `run: expected data to have classes, because classes is ${classes}, got ${dataset.name} without`,
    )
  }
  const { superResolution } = config
  if (superResolution === undefined) return dataset
  if (superResolution >= dataset.height || dataset.height % superResolution !== 0) {
    throw new RangeError(
      `run: expected superResolution to be a divisor of the height ${dataset.height} of ${dataset.name}, got ${superResolution}`,
    )
  }
  return withLowRes(dataset, dataset.height / superResolution)
}

/** The images to train on and those that are kept out of training, where the options ask for some. */
export function splitImages(
  dataset: ImageDataset,
  config: {
    readonly heldOut?: number | undefined
    readonly seed: number
    readonly splitSeed?: number | undefined
  },
  call = 'run',
): { train: ImageDataset; heldOut?: ImageDataset } {
  const { heldOut, seed, splitSeed = seed } = config
  if (heldOut === undefined) return { train: dataset }
  if (heldOut >= dataset.length) {
    const what = `fewer than the ${dataset.length} images of ${dataset.name}`
    throw argumentError(call, 'heldOut', what, heldOut)
  }
  return holdOut(dataset, heldOut, splitSeed)
}

async function trainInto(
  config: RunConfig & { threads: number },
  all: ImageDataset,
  resumed: string | undefined,
  hooks: RunHooks & { log: (line: string) => void },
  closing: Closing,
): Promise<RunResult> {
  const { train: dataset, heldOut } = splitImages(all, config)
  const { run: folder, batchSize, seed, steps, emaRates, precision, device } = config
  const { signal, onReport, log, saveAt = [], onSave } = hooks
  const { channels, height, width, classNames } = dataset
  const isConditional = config.classes !== 'none'
  const schedule = runSchedule(config)
  closing.push(() => schedule.dispose())
  const classCount = isConditional ? (classNames?.length ?? 0) : 0
  const network = networkOptions(config, channels, classCount)
  const freeBytes = freeMemory() // before the network takes its part
  const unet = await UNet.create(network, { seed, device })
  closing.push(() => unet.dispose())
  unet.checkImageShape('run', [batchSize, channels, height, width])
  if (config.init !== undefined && !resumed) await loadInitialWeights(unet, config, log)
  const trainer = await Trainer.create(unet, schedule, trainerOptions(config))
  closing.push(() => trainer.dispose())
  const { heads } = unet.layout
  const mixing = runMixing(config, heads, schedule)
  const onRead = (file: string, statistics: HeadStatistics) => {
    const few = fewImagesWarning(file, statistics)
    if (few) log?.(few)
  }
  const sources = { statistics: mixing?.statistics, path: 'a run of one head', onRead }
  const combine = await openCombine(config.combine, schedule, heads, sources)
  checkOpened(combine, heads, unet.layout.gate ?? false, schedule.tables.alphaBar.at(-1) === 0)
  const { sampler, plan, slots, refreshed } = timestepSampler(config, height)
  const lr = runLearningRate('run', config)
  const { lowResFactor } = dataset
  const images: RunImages = {
    ...{ count: all.length, channels, height, width, classNames: classNames ?? null },
    ...(lowResFactor !== undefined && { lowResFactor }),
  }
  const average = emaRates.length > 0 ? await trainer.averaged() : undefined
  closing.push(() => average?.dispose())

  const bins = new LossBins(heads, schedule.timestepCount)
  if (resumed) {
    const { extra } = await restoreCheckpoint(resumed, trainer, sampler, mixing?.policy)
    refuseOtherImages('run', folder, (extra as { images?: RunImages } | null)?.images, all)
    bins.restore((extra as { lossBins?: JsonValue } | null)?.lossBins)
  }
  await writeDurably(join(folder, 'config.json'), `${JSON.stringify(config, undefined, 2)}\n`)
  const openLines = async <Row extends { step: number }>(name: string) => {
    const opened = await JsonLines.open<Row>(join(folder, `${name}.jsonl`), trainer.step, log)
    closing.push(() => opened.lines.close())
    return opened
  }
  const { lines: stats, rows } = await openLines<StatsRow>('stats')
  const { lines: timing } = await openLines('timing')
  const gradients =
    mixing && measuresGradients(trainer) && config.previewEvery > 0
      ? await openLines<GradientRow>('gradients')
      : undefined
  const heldOutHeads =
    mixing && heldOut && config.previewEvery > 0 ? await openLines<HeadRow>('held-out-heads') : undefined
  const headLines = mixing && (await openLines('heads')).lines
  const from = resumed ? `, from step ${trainer.step}` : ''
  const found = [
    skippedFiles(all),
    stillSteps(config, lr, trainer.step),
    device === 'cpu' && memoryWarning(network, [height, width], config, freeBytes),
  ]
  for (const warning of [...runWarnings(config), ...found]) if (warning) log(`warning: ${warning}`)
  log(`${dataset.length} images of ${dataset.name}, ${unet.parameterCount} weights, ${steps} steps${from}`)
  if (mixing?.about) log(mixing.about)

  let checkpoint = resumed
  let savedStep = resumed ? trainer.step : 0
  let imagesPerSecond = 0
  let headStep = 0
  const writeHeads = async (): Promise<void> => {
    if (mixing && trainer.step > headStep) await headLines?.write(headRow(mixing.statistics, trainer.step))
    headStep = trainer.step
  }
  const save = async (): Promise<void> => {
    await writeHeads()
    await stats.sync()
    await headLines?.sync()
    await gradients?.lines.sync()
    await heldOutHeads?.lines.sync()
    checkpoint = await saveCheckpoint(trainer, folder, {
      sampler,
      ...(mixing && { mixing: mixing.policy }),
      imagesSeen: trainer.step * batchSize,
      extra: { run: config, images, lossBins: bins.state() } as unknown as JsonValue,
      keep: config.keep,
    })
    savedStep = trainer.step
    if (rows.some((row) => row.loss > 0)) await writeRunPlots(folder, rows, dataset.name)
    log(`saved ${checkpoint}`)
    await onSave?.(checkpoint, trainer.step)
  }
  // The last thing that a preview writes.
  const isShown = async (): Promise<boolean> => {
    const lines = heldOutHeads ?? gradients
    if (lines) return lines.rows.at(-1)?.step === trainer.step
    return exists(previewFile(folder, trainer.step, average ? 'ema' : 'raw'))
  }
  const preview = async (): Promise<void> => {
    const shown =
      lowResFactor === undefined
        ? undefined
        : await firstImages(heldOut ?? dataset, config.previewCount, config)
    const drawing = {
      schedule,
      count: config.previewCount,
      image: [channels, height, width] as const,
      batchSize: Math.min(config.previewCount, batchSize),
      seed,
      respacing: String(Math.min(25, schedule.timestepCount)),
      eta: 0,
      combine,
      rescalesTimesteps: trainer.config.rescalesTimesteps,
      precision,
      classOf: isConditional ? (k: number) => shown?.labels?.[k] ?? k % classCount : undefined,
      lowRes: shown?.lowRes,
      original: shown,
      signal,
    }
    await writePreview(folder, trainer.step, 'raw', unet, drawing)
    if (average) await writePreview(folder, trainer.step, 'ema', average, drawing)
    // A run that was finished already shows its last step again, but has the line of it.
    if (mixing && gradients && gradients.rows.at(-1)?.step !== trainer.step) {
      const options = { policy: mixing.policy, seed, withLabels: isConditional, signal }
      await gradients.lines.write(await gradientRow(trainer, dataset, options))
    }
    if (heldOut && heldOutHeads && heldOutHeads.rows.at(-1)?.step !== trainer.step) {
      const measured = await measureHeadStatistics(average ?? unet, schedule, {
        ...{ images: await firstImages(heldOut, Math.min(HELD_OUT_IMAGES, heldOut.length), config) },
        ...{ timestepsPerBin: 1, batchSize, seed, training: trainer.config },
        ...(signal && { signal }),
      })
      await heldOutHeads.lines.write(headRow(measured, trainer.step))
    }
  }

  // A process may have died between a save and its preview.
  const isPreviewStep = config.previewEvery > 0 && trainer.step % config.previewEvery === 0
  if (resumed && isPreviewStep && trainer.step < steps && !(await isShown())) {
    await unlessStopped(preview, signal)
  }

  const { referenceBatch, flip } = config
  const references =
    referenceBatch === undefined
      ? undefined
      : batches(dataset, { batchSize: referenceBatch, seed: seed + 2, firstStep: trainer.step, flip })
  closing.push(() => references?.return?.())
  const source = batches(dataset, {
    batchSize,
    seed,
    firstStep: trainer.step,
    flip,
    withLabels: isConditional,
  })
  const loop = {
    ...{ trainer, sampler, batches: source, lr, stepCount: steps },
    ...(references && { reference: async () => (await references.next()).value as ImageBatch }),
    ...(mixing && { mixing: mixing.policy }),
    ...(signal && { signal }),
  }
  const warnings = new SkipWarnings(config.precision, log)
  for await (const report of train(loop)) {
    const done = report.step + 1
    if (report.skipped) warnings.add(done)
    bins.add(report)
    if (refreshed?.isDue)
      refreshed.recut(
        await gradientCurve(trainer, dataset, {
          ...{ seed, withLabels: isConditional, policy: mixing?.policy },
        }),
      )
    const speed = (1000 * batchSize) / (report.waitMs + report.stepMs)
    imagesPerSecond = imagesPerSecond === 0 ? speed : 0.9 * imagesPerSecond + 0.1 * speed
    if (done === 1 || done % config.logEvery === 0) {
      const cut = {
        ...(plan && { slot: plan.openAt(report.step) }),
        ...(slots && { slotEdges: [0, ...slots().map(({ end }) => end)] }),
      }
      const row = statsRow(report, heads, cut, bins.take())
      rows.push(row)
      await stats.write(row)
      await timing.write({
        step: done,
        stepMs: report.stepMs,
        waitMs: report.waitMs,
        imagesPerSecond,
        at: new Date(),
      })
    }
    if (done % (10 * config.logEvery) === 0) await writeHeads()
    onReport?.({ ...report, done, total: steps, imagesPerSecond })
    if (done === steps || signal?.aborted) break
    const isDue = config.saveEvery > 0 && done % config.saveEvery === 0
    if (isDue || saveAt.includes(done)) await save()
    if (config.previewEvery > 0 && done % config.previewEvery === 0) await unlessStopped(preview, signal)
  }
  if (trainer.step > savedStep) await save()
  if (trainer.step === steps && config.previewEvery > 0) await unlessStopped(preview, signal)
  warnings.end()
  return { folder, step: trainer.step, checkpoint, wasStopped: trainer.step < steps }
}

/** What to say where steps are to come that train nothing, because the learning rate has fallen to 0; else undefined. */
function stillSteps(
  { steps, lrSchedule, lrSteps, run: folder }: RunConfig,
  lr: (step: number) => number,
  done: number,
): string | undefined {
  if (done >= steps || lr(steps - 1) > 0) return undefined // it never rises again
  let first = steps - 1
  while (first > done && lr(first - 1) === 0) first--
  const wayOut =
    done === 0
      ? 'give more lrSteps to let it fall more slowly'
      : `lrSteps of a run that has begun are fixed; to train on, begin another in another folder from its weights (option init, a checkpoint of ${folder}) with its own lrSteps`
  return `from step ${first + 1} on the learning rate is 0, and nothing is trained: ${lrSchedule} ends at lrSteps ${lrSteps}; ${wayOut}`
}

/** Images for what is shown while a run trains, the same at every step. */
async function firstImages(dataset: ImageDataset, batchSize: number, config: RunConfig): Promise<ImageBatch> {
  const { seed, classes } = config
  const source = batches(dataset, { batchSize, seed: seed + 1, withLabels: classes !== 'none', prefetch: 0 })
  return (await source.next()).value
}

/** A preview that the signal cuts short is simply not written. */
async function unlessStopped(work: () => Promise<void>, signal: AbortSignal | undefined): Promise<void> {
  try {
    await work()
  } catch (error) {
    if (!signal?.aborted) throw error
  }
}

export function trainerOptions(config: RunConfig): TrainerOptions {
  const { labelDropout = 0 } = config
  const { seed, boundWeight, beta1, beta2, weightDecay, decayAll, emaRates, emaWarmsUp, clipNorm } = config
  const {
    microBatch,
    precision,
    nonFinite,
    loss: kind,
    choose,
    compare,
    space,
    sigmaData,
    directionWeight,
  } = config
  const { variance, rescalesTimesteps, sumsMicroBatches, lossScaleLog2, lossScaleGrowth } = config
  return {
    loss: {
      ...(kind && { kind }),
      ...{ choose, compare, space, sigmaData },
      ...(directionWeight !== undefined && { directionWeight }),
    },
    lossScale: {
      ...(lossScaleLog2 !== undefined && { log2: lossScaleLog2 }),
      ...(lossScaleGrowth !== undefined && { growth: lossScaleGrowth }),
    },
    ...(variance && { variance }),
    ...(rescalesTimesteps !== undefined && { rescalesTimesteps }),
    ...(sumsMicroBatches !== undefined && { sumsMicroBatches }),
    ...{ seed, boundWeight, beta1, beta2, weightDecay, decayAll, emaRates, emaWarmsUp, clipNorm },
    ...{ labelDropout, microBatch, precision, nonFinite },
  }
}

/** @internal The newest readable checkpoint; unreadable newer ones are set aside, so that they are never counted as one again. */
export async function findCheckpoint(
  folder: string,
  log: (line: string) => void,
): Promise<string | undefined> {
  const unreadable: string[] = []
  const found = await latestCheckpoint(folder, {
    onUnreadable(path, error) {
      unreadable.push(path)
      log(`warning: ${error.message}; the checkpoint before it is used`)
    },
  })
  for (const path of unreadable) {
    await rm(`${path}.unreadable`, { recursive: true, force: true })
    await rename(path, `${path}.unreadable`)
  }
  return found
}

/** @internal A continued run has the images that it began with: others would be shuffled and held out otherwise. */
export function refuseOtherImages(
  call: string,
  folder: string,
  before: RunImages | undefined,
  now: ImageDataset,
): void {
  if (before?.count === undefined || before.count === now.length) return
  throw new RangeError(
    `${call}: expected data to hold ${before.count} images, as when ${folder} began, got ${now.length} of ${now.name}; begin a run of its own in another folder (option run), from these weights if you like (option init, a checkpoint of ${folder})`,
  )
}

/** Options on which the last bits of results depend. */
interface Runtime {
  readonly threads?: number | undefined
  readonly kernels?: Kernels | undefined
}

/** @internal Sets what is asked for, else what a continued run began with, else leaves the process as it is. */
export async function settleRuntime(
  wanted: Runtime,
  stored?: Runtime,
): Promise<{ threads: number; kernels: Kernels }> {
  const info = await runtimeInfo()
  const threads = wanted.threads ?? stored?.threads ?? Number(info.threads)
  const kernels = wanted.kernels ?? stored?.kernels ?? (info.kernels as Kernels)
  await setThreads(threads)
  await setKernels(kernels)
  return { threads, kernels }
}

/** @internal A continued run must be the run that it continues. */
export function refuseChanges<
  Config extends Runtime & { readonly lrSteps?: number | undefined; readonly mixSteps?: number | undefined },
>(call: string, folder: string, stored: Config, wanted: Config, free: readonly (keyof Config)[]): void {
  const keys = [...new Set([...Object.keys(stored), ...Object.keys(wanted)])] as (keyof Config & string)[]
  const changed = keys.filter((key) => {
    const isRuntime = key === 'threads' || key === 'kernels' // a continued run keeps what it began with
    if (free.includes(key) || (isRuntime && wanted[key] === undefined)) return false
    if (key === 'mix' && isSameMix(stored[key], wanted[key])) return false
    return JSON.stringify(stored[key]) !== JSON.stringify(wanted[key])
  })
  if (changed.length === 0) return
  const parts = changed.map(
    (key) => `${key} to be ${show(stored[key])}, as when ${folder} began, got ${show(wanted[key])}`,
  )
  const ends = (['lrSteps', 'mixSteps'] as const).filter((key) =>
    changed.includes(key as keyof Config & string),
  )
  const hint =
    ends.length > 0
      ? `give ${ends.map((key) => `${key} ${stored[key]}`).join(' and ')} to train on with more steps, or `
      : changed.some((key) => key === 'emaHalfLife' || key === 'warmupSteps')
        ? 'a recipe derives emaHalfLife and warmupSteps from steps; give them as they were to train on with more, or '
        : ''
  throw new RangeError(
    `${call}: expected ${parts.join('; ')}; ${hint}use another folder (option run) for another run`,
  )
}
