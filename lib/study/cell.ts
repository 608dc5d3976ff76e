import { readFile } from 'node:fs/promises'
import { basename, join } from 'node:path'
import { imagesInOrder } from '../data/batches.ts'
import { type ImageDataset, inMemory } from '../data/dataset.ts'
import { imagesBetween } from '../data/image-range.ts'
import { CheckpointError } from '../errors.ts'
import { writeDurably } from '../folder.ts'
import { byPair } from '../mixing/head-row.ts'
import { isSameMix } from '../mixing/strategies.ts'
import type { Head } from '../prediction/heads.ts'
import { combineByBlue, combineByTable, openCombine } from '../sampling/combine.ts'
import { sourceVersion } from '../setup/paths.ts'
import { type Alternation, alternation } from '../statistics/alternation.ts'
import type { ImageBatch } from '../tensor.ts'
import {
  headStatisticsOf,
  latestCheckpoint,
  listCheckpoints,
  loadForSampling,
  readCheckpoint,
} from '../training/checkpoint.ts'
import { openImages, type RunHooks, run, splitImages } from '../training/run.ts'
import { type RunConfig, type RunOptions, runConfig, runDefault } from '../training/run-config.ts'
import { whenFree } from '../training/run-lock.ts'
import { parseLine } from '../training/run-stats.ts'
import { readStoredConfig } from '../training/stored-config.ts'
import { type BitsResult, bitsHash, heldOutBits } from './bits.ts'
import { otherCombinations } from './combinations.ts'
import { featureClassifier } from './features.ts'
import {
  clippedError,
  combinedError,
  comparedTimesteps,
  type HeldOutError,
  heldOutError,
} from './held-out-error.ts'
import { measuredFor } from './metric.ts'
import { compareSamples, type SampleResult, samplesHash } from './samples.ts'
import {
  cellFolder,
  cellOptions,
  type EvaluationSettings,
  type Study,
  type StudyArm,
  settingsHash,
} from './study-file.ts'

/** Means over the timesteps, of the arm's combined prediction. */
export interface HeldOutMeans {
  readonly F: number
  readonly v: number
  /** After xStart is clipped to [-1, 1], as samplers do. */
  readonly 'F.clipped': number
  readonly 'v.clipped': number
  /** Geometric means, in which one per cent counts the same at every timestep. */
  readonly 'F.geometric': number
}

/** Errors at each timestep. */
export interface PerTimestep {
  readonly F: readonly number[]
  readonly v: readonly number[]
}

/** Held-out errors of one set of weights. */
export interface HeldOutResult extends HeldOutMeans {
  readonly perTimestep: PerTimestep & {
    readonly 'F.clipped': readonly number[]
    /** Standard deviation of F.clipped over the images. */
    readonly deviation: readonly number[]
  }
  /** Each head's own errors. */
  readonly heads: Readonly<Partial<Record<Head, PerTimestep>>>
  /** [2][K][H * H] mean products of the heads' errors in v space over the even and the odd images (one half of one image: twice). */
  readonly products: readonly (readonly (readonly number[])[])[]
  /** Who wins; absent where there is one head, and in results from before it was kept. */
  readonly rivalry?: HeadRivalry
  /** By `table` and `blue` from the statistics that training left in the checkpoint; absent as `rivalry`. */
  readonly kept?: Readonly<Record<'table' | 'blue', PerTimestep>>
}

/** What only images one by one tell about several heads, each a value for every timestep. */
export interface HeadRivalry {
  /** By head: share of the images on which it has the smallest error in v space. */
  readonly winRate: Readonly<Record<string, readonly number[]>>
  /** Mean over images of the smallest head's error in v space: what a minimum over heads shows and no sampler can have. */
  readonly minimum: readonly number[]
  /** By pair, as `v-eps`: root mean square difference of the two heads' mean pixel in xStart. */
  readonly brightnessGap: Readonly<Record<string, readonly number[]>>
}

/** A point of a learning curve, on the first `curveImages` held-out images. */
export interface CurvePoint {
  readonly step: number
  readonly imagesSeen: number
  readonly ema?: HeldOutMeans
  readonly raw?: HeldOutMeans
}

/** What result.json of a cell holds. */
export interface CellResult {
  readonly format: 1
  readonly arm: string
  readonly seed: number
  /** Hashes of the run's options and of the evaluation's settings: the cell is finished while both are these. */
  readonly options: string
  readonly evaluation: string
  readonly settings: EvaluationSettings
  /** What the options became when it was trained, as `StudyArm.config`; absent in results from before it was kept. */
  readonly config?: StudyArm['config']
  /** Of the library that trained it, with the commit where it was a checkout; absent in results from before it was kept. */
  readonly version?: string
  readonly step: number
  readonly imagesSeen: number
  /** Computing and waiting for images, without evaluation. */
  readonly trainSeconds: number
  readonly imagesPerSecond: number
  readonly heldOut: {
    readonly t: readonly number[]
    readonly logSnr: readonly number[]
    /** Those of `t` that are in no mean; absent where there are none. */
    readonly alsoAt?: readonly number[]
    readonly heads: readonly Head[]
    readonly combine: string
    readonly ema?: HeldOutResult
    readonly raw?: HeldOutResult
  }
  readonly curve: readonly CurvePoint[]
  /** How the loss went from step to step after the first tenth; only where every step was logged (logEvery 1). */
  readonly alternation?: Alternation
  readonly samples?: SampleResult
  readonly bitsPerDim?: BitsResult
}

/** Who watches a cell. */
export interface CellHooks extends Pick<RunHooks, 'signal' | 'log'> {
  readonly onProgress?: (done: number, total: number, imagesPerSecond: number) => void
  /** Threads of LibTorch where neither the study nor the run's folder says it. */
  readonly threads?: number
}

/** @internal The file of a cell's result. */
export const RESULT = 'result.json'
const CURVE = 'curve.json'

/** Reads result.json of a cell; undefined while the cell is not finished as the study wants it. */
export async function readFinishedCell(
  study: Study,
  arm: StudyArm,
  seed: number,
): Promise<CellResult | undefined> {
  const result = await readJson<CellResult>(join(cellFolder(study.out, arm.name, seed), RESULT))
  return result && finishedCell(arm, seed, result)
}

/** A result as the study reads it; undefined where its options, its evaluation or what it measures are others. */
export function finishedCell(arm: StudyArm, seed: number, result: CellResult): CellResult | undefined {
  const evaluated = evaluatedCell(arm, seed, result)
  return evaluated && missing(evaluated, arm.evaluate).length === 0 ? evaluated : undefined
}

/** What is measured apart from held-out errors, and not there as the settings want it. */
function missing(result: CellResult, settings: EvaluationSettings): ('samples' | 'bitsPerDim')[] {
  const hashes = { samples: samplesHash(settings), bitsPerDim: bitsHash(settings) }
  const { heads, combine } = result.heldOut
  const others = otherCombinations(settings, combine, heads)
  return (['samples', 'bitsPerDim'] as const).filter((name) => {
    const { hash, rows = [] } = result[name] ?? {}
    const isRead = others.every((other) => rows.some((row: { combine?: string }) => row.combine === other))
    return settings[name] !== undefined && !(hash === hashes[name] && isRead)
  })
}

/** What another evaluation of the same run measured and the settings may still mean; the hashes say whether they do. */
function settledApart(
  { samples, bitsPerDim, settings }: CellResult,
  { seed }: EvaluationSettings,
): Pick<CellResult, 'samples' | 'bitsPerDim'> {
  return { ...(samples && { samples }), ...(bitsPerDim && settings.seed === seed && { bitsPerDim }) }
}

/** A cell that is trained and whose held-out errors are as the study wants them, whatever else is missing. */
function evaluatedCell(arm: StudyArm, seed: number, result: CellResult): CellResult | undefined {
  const { evaluate } = arm
  const { bothWeights, weights } = evaluate
  const meant = bothWeights ? (['ema', 'raw'] as const) : [weights]
  const isCurrent =
    isTrainedSo(arm, seed, result) &&
    result.evaluation === evaluationHash(evaluate) &&
    isReadBy(arm.combine, result.heldOut) &&
    meant.every((which) => measuredFor(result, { weights: which }, result.heldOut))
  return isCurrent ? { ...result, settings: evaluate } : undefined
}

/** Whether the heads of a cell were combined so where nothing else is said; one head always is, and so are cells that do not say it. */
function isReadBy(
  combine: string,
  then: { readonly heads: readonly Head[]; readonly combine?: string | undefined },
): boolean {
  return then.heads.length === 1 || then.combine === undefined || then.combine === combine
}

/**
 * Whether a cell was trained as the arm is now. What its options meant then decides, not how they were written: a recipe or a preset may have
 * become another one; options that did not exist then had what is their default now. Results from before this was kept are told by their options and heads.
 */
function isTrainedSo(arm: StudyArm, seed: number, result: CellResult): boolean {
  const { config: then, heldOut, curve } = result
  const isWrittenSo = result.options === optionsHash(arm, seed)
  if (!then) return isWrittenSo && heldOut.heads.join() === (arm.config.heads as readonly Head[]).join()
  const now = arm.config
  const isMeantSo = [...new Set([...Object.keys(then), ...Object.keys(now)])].every(
    (key) =>
      (key === 'mix' && isSameMix(then[key], now[key])) ||
      JSON.stringify(key in then ? then[key] : runDefault(key)) === JSON.stringify(now[key]),
  )
  const hasStops = arm.stops.every((stop) => curve.some(({ step }) => step === stop))
  const isOfOne = result.seed === seed && result.step === arm.steps
  return isOfOne && isMeantSo && (isWrittenSo || hasStops)
}

/**
 * Trains and evaluates one cell, or what is left of it: a run that was killed goes on, measured points are kept.
 *
 * @returns undefined when the signal stopped it
 */
export async function runCell(
  study: Study,
  arm: StudyArm,
  seed: number,
  hooks: CellHooks = {},
): Promise<CellResult | undefined> {
  const { signal, log, onProgress, threads } = hooks
  const folder = cellFolder(study.out, arm.name, seed)
  await whenFree(folder, 30_000, signal) // of a study that was killed, whose cell saves what it has
  const before = await readJson<CellResult>(join(folder, RESULT))
  const finished = before && finishedCell(arm, seed, before)
  if (finished) return finished
  const stored = await readStoredConfig<RunConfig>(folder)
  const given = cellOptions(study, arm, seed)
  const settled = given.threads ?? stored?.threads ?? threads
  const options: RunOptions = { ...given, ...(settled !== undefined && { threads: settled }) }
  const config = await runConfig(options)
  const evaluator = new Evaluator(arm.evaluate, config)
  const evaluation = evaluationHash(arm.evaluate)
  const kept = await readJson<{ evaluation: string; combine?: string; points: CurvePoint[] }>(
    join(folder, CURVE),
  )
  const points = new Map<number, CurvePoint>()
  // Files from before the combination was kept have the one of the result beside them.
  const combine = kept?.combine ?? before?.heldOut.combine
  const heads = arm.config.heads as readonly Head[]
  if (kept?.evaluation === evaluation && isReadBy(arm.combine, { heads, combine }))
    for (const point of kept.points) points.set(point.step, point)
  else if (kept)
    log?.(
      'the evaluation is another than before: points of the learning curve are measured anew, where checkpoints are left',
    )
  // A result of another machine has no checkpoint, or one on the way to it, that more could be measured of.
  const trainedHere = before && (await checkpointOf(folder, before.step)) ? before : undefined
  let cell = trainedHere && evaluatedCell(arm, seed, trainedHere)

  const measure = async (checkpoint: string, step: number): Promise<void> => {
    const known = points.get(step)
    const isWhole = known && evaluator.weights.every((which) => known[which])
    if (!arm.stops.includes(step) || isWhole || signal?.aborted) return
    points.set(step, { ...known, ...(await evaluator.curvePoint(checkpoint, signal)) })
    const text = JSON.stringify({ evaluation, combine: arm.combine, points: inOrder(points) })
    await writeDurably(join(folder, CURVE), `${text}\n`)
  }
  try {
    // A process may have died between a save and its measurement.
    for (const checkpoint of stored && !cell ? await listCheckpoints(folder) : []) {
      await measure(checkpoint, stepOf(checkpoint)).catch((error) => {
        if (!(error instanceof CheckpointError)) throw error // the run says it, and uses the one before
      })
    }
    cell ??= await trained()
    for (const name of cell ? missing(cell, arm.evaluate) : []) {
      const checkpoint = await checkpointOf(folder, (cell as CellResult).step)
      if (checkpoint === undefined) {
        throw new RangeError(`runStudy: expected a checkpoint of the last step in ${folder}, got none`)
      }
      const measured =
        name === 'samples'
          ? { samples: await evaluator.samples(study.out, checkpoint, signal, log) }
          : { bitsPerDim: await evaluator.bitsPerDim(checkpoint, signal) }
      cell = { ...(cell as CellResult), ...measured }
      await writeDurably(join(folder, RESULT), `${JSON.stringify(cell, undefined, 1)}\n`)
    }
    return cell
  } catch (error) {
    if (signal?.aborted) return undefined
    throw error
  }

  async function trained(): Promise<CellResult | undefined> {
    const version = sourceVersion() // before training: a commit meanwhile did not train this
    const result = await run(options, {
      ...(signal && { signal }),
      ...(log && { log }),
      onReport: ({ done, total, imagesPerSecond }) => onProgress?.(done, total, imagesPerSecond),
      saveAt: arm.stops,
      onSave: measure,
    })
    if (result.wasStopped || result.checkpoint === undefined || signal?.aborted) return undefined
    if (result.step > arm.steps) {
      throw new RangeError(
        `runStudy: expected ${folder} to be trained for at most the ${arm.steps} steps of the study, got ${result.step}; give as many images as before, use another folder (out), or remove this one`,
      )
    }
    const heldOut = await evaluator.heldOut(result.checkpoint, signal)
    const { batchSize } = config
    const secondsPerStep = await meanStepSeconds(folder)
    const measured: CellResult = {
      ...{ format: 1, arm: arm.name, seed, options: optionsHash(arm, seed), evaluation, settings: arm.evaluate },
      ...{ config: arm.config, version, step: result.step, imagesSeen: result.step * batchSize },
      trainSeconds: secondsPerStep * result.step,
      imagesPerSecond: batchSize / secondsPerStep,
      heldOut,
      curve: inOrder(points),
      ...(trainedHere?.options === optionsHash(arm, seed) &&
        isReadBy(heldOut.combine, trainedHere.heldOut) &&
        settledApart(trainedHere, arm.evaluate)),
      ...(config.logEvery === 1 && { alternation: await stepAlternation(folder) }),
    } // biome-ignore format: one subject a line
    await writeDurably(join(folder, RESULT), `${JSON.stringify(measured, undefined, 1)}\n`)
    return measured
  }
}

/** Errors of one set of weights, and the timesteps among them that are in no mean. */
interface MeasuredErrors {
  readonly measured: HeldOutError
  readonly result: HeldOutResult
  readonly alsoAt: readonly number[]
}

/** Measures checkpoints of one cell on the study's images, which are read once. */
class Evaluator {
  readonly #settings: EvaluationSettings
  readonly #config: RunConfig
  #images: Promise<ImageBatch> | undefined

  constructor(settings: EvaluationSettings, config: RunConfig) {
    this.#settings = settings
    this.#config = config
  }

  /** The weights that are measured; a run that keeps no average has but one set. */
  get weights(): readonly ('raw' | 'ema')[] {
    const { weights, bothWeights } = this.#settings
    if (this.#config.emaRates.length === 0) return ['raw']
    return bothWeights ? ['raw', 'ema'] : [weights]
  }

  async curvePoint(checkpoint: string, signal?: AbortSignal): Promise<CurvePoint> {
    const { curveImages } = this.#settings
    const measured = await this.#measure(checkpoint, curveImages, signal)
    const means = ({ perTimestep: _, heads: __, products: ___, rivalry: ____, kept: _____, ...rest }: HeldOutResult): HeldOutMeans => rest // biome-ignore format: short
    const { step, imagesSeen, raw, ema } = measured
    return { step, imagesSeen, ...(ema && { ema: means(ema) }), ...(raw && { raw: means(raw) }) }
  }

  async heldOut(checkpoint: string, signal?: AbortSignal): Promise<CellResult['heldOut']> {
    const { images, combine = this.#config.combine } = this.#settings
    const { raw, ema, measured, alsoAt } = await this.#measure(checkpoint, images, signal)
    const { t, snr, heads } = measured
    const logSnr = Array.from(snr, (value) => Math.log(value))
    const apart = alsoAt.length > 0 && { alsoAt }
    return { t: Array.from(t), logSnr, ...apart, heads, combine, ...(ema && { ema }), ...(raw && { raw }) }
  }

  /** Draws samples and compares them, with the study's own classifier where the images have classes; super-resolution of held-out images. */
  async samples(
    out: string,
    checkpoint: string,
    signal?: AbortSignal,
    log?: (line: string) => void,
  ): Promise<SampleResult> {
    const { samples } = this.#settings
    if (!samples) throw new Error('samples: expected settings, got none')
    const dataset = await openImages(this.#config)
    const options = { steps: samples.featureSteps, signal, ...(log && { log }) }
    const classifier = await featureClassifier(out, this.#config, dataset, options)
    try {
      const settings = { ...this.#settings, samples }
      return await compareSamples(
        checkpoint,
        settings,
        this.#config,
        this.#config.superResolution === undefined
          ? { dataset, originals: undefined }
          : await this.#originals(samples.count, dataset.classNames),
        classifier,
        signal,
      )
    } finally {
      classifier?.dispose()
    }
  }

  /** The first held-out images, which super-resolution makes larger from their low-resolution twins. */
  async #originals(count: number, classNames: ImageDataset['classNames']) {
    const originals = await this.#heldOutImages(count)
    const { data, shape, labels } = originals
    const name = `${count} held-out originals`
    const dataset = inMemory({
      ...{ data: data as Uint8Array, shape, name },
      ...(labels && { labels }),
      ...(classNames && { classNames }),
    })
    return { dataset, originals }
  }

  /** Bits per dimension of the first held-out images. */
  async bitsPerDim(checkpoint: string, signal?: AbortSignal): Promise<BitsResult> {
    const { bitsPerDim } = this.#settings
    if (!bitsPerDim) throw new Error('bitsPerDim: expected settings, got none')
    const images = await this.#heldOutImages(bitsPerDim.images)
    return heldOutBits(checkpoint, { ...this.#settings, bitsPerDim }, this.#config, images, signal)
  }

  async #measure(checkpoint: string, imageCount: number, signal?: AbortSignal) {
    const images = await this.#heldOutImages(imageCount)
    const { step, imagesSeen } = await readCheckpoint(checkpoint)
    const found: Partial<Record<'ema' | 'raw', HeldOutResult>> = {}
    let first: MeasuredErrors | undefined
    for (const which of this.weights) {
      const errors = await this.#errors(checkpoint, which, images, signal)
      found[which] = errors.result
      first ??= errors
    }
    const { measured, alsoAt } = first as MeasuredErrors
    return { step, imagesSeen, ...found, measured, alsoAt }
  }

  async #errors(
    checkpoint: string,
    weights: 'ema' | 'raw',
    images: ImageBatch,
    signal?: AbortSignal,
  ): Promise<MeasuredErrors> {
    const {
      timesteps,
      spacing,
      alsoAt: apart = [],
      seed,
      batchSize,
      sigmaData,
      combine: words,
    } = this.#settings
    const { unet, schedule, state } = await loadForSampling(checkpoint, {
      weights,
      device: this.#config.device,
    })
    try {
      const { heads } = unet.layout
      const statistics = headStatisticsOf(state)
      const combine = await openCombine(words ?? this.#config.combine, schedule, heads, {
        statistics,
        path: checkpoint,
      })
      const averaged =
        typeof timesteps === 'number'
          ? comparedTimesteps(schedule, timesteps, spacing)
          : Int32Array.from(timesteps)
      const alsoAt = [...new Set(apart)].filter((t) => !averaged.includes(t)).sort((a, b) => a - b)
      const t = alsoAt.length > 0 ? Int32Array.from([...averaged, ...alsoAt]).sort() : averaged
      const { rescalesTimesteps } = state.trainer
      const measured = await heldOutError(unet, schedule, {
        ...{ images, timesteps: t, combine, seed, batchSize, rescalesTimesteps, signal },
      })
      const both = (options: Parameters<typeof combinedError>[2]) => ({
        F: Array.from(combinedError(measured, 'F', { ...options, sigmaData })),
        v: Array.from(combinedError(measured, 'v', options)),
      })
      const clipped = Array.from(clippedError(measured, 'F', { sigmaData }))
      const perTimestep = {
        ...both({ combine }),
        'F.clipped': clipped,
        deviation: deviations(measured, clipped),
      }
      const own = Object.fromEntries(heads.map((head) => [head, both({ combine: head })]))
      const over = (values: ArrayLike<number>) =>
        mean(Array.from(values).filter((_, k) => averaged.includes(t[k] as number)))
      const result: HeldOutResult = {
        F: over(perTimestep.F),
        v: over(perTimestep.v),
        'F.clipped': over(clipped),
        'v.clipped': over(clippedError(measured, 'v')),
        'F.geometric': Math.exp(over(perTimestep.F.map(Math.log))),
        perTimestep,
        heads: own,
        products: productsOfHalves(measured),
        ...(heads.length > 1 && { rivalry: rivalry(measured) }),
        ...(statistics && {
          kept: {
            table: both({ combine: combineByTable(schedule, statistics) }),
            blue: both({ combine: combineByBlue(schedule, statistics) }),
          },
        }),
      }
      return { measured, result, alsoAt }
    } finally {
      unet.dispose()
      schedule.dispose()
    }
  }

  async #heldOutImages(count: number): Promise<ImageBatch> {
    this.#images ??= (async () => {
      const config = this.#config
      const { heldOut } = splitImages(await openImages(config), config)
      if (!heldOut || heldOut.length < this.#settings.images) {
        throw new RangeError(
          `runStudy: expected heldOut to be at least the ${this.#settings.images} images of the evaluation, got ${heldOut?.length ?? 'none'}`,
        )
      }
      return imagesInOrder(heldOut, 0, this.#settings.images, config.classes !== 'none')
    })()
    return imagesBetween(await this.#images, 0, count)
  }
}

/** Of the clipped error over images, as a share of its mean times the mean in F space. */
function deviations({ clipped, imageCount }: HeldOutError, means: readonly number[]): number[] {
  return means.map((inF, k) => {
    const values = Array.from(clipped.subarray(k * imageCount, (k + 1) * imageCount))
    const center = mean(values)
    const squares = values.reduce((sum, value) => sum + (value - center) ** 2, 0)
    return center === 0 ? 0 : (inF * Math.sqrt(squares / Math.max(1, imageCount - 1))) / center
  })
}

function rivalry({ t, heads, imageCount, products, brightness }: HeldOutError): HeadRivalry {
  const size = heads.length
  const atEach = (of: (image: number) => number): number[] =>
    Array.from(t, (_, k) => mean(Array.from({ length: imageCount }, (_, i) => of(k * imageCount + i))))
  const errors = (image: number) =>
    heads.map((_, h) => products[image * size ** 2 + h * (size + 1)] as number)
  const winner = (image: number): number => {
    const own = errors(image)
    return own.indexOf(Math.min(...own))
  }
  const gap = (a: number, b: number) =>
    atEach((image) => (brightness[image * size + a]! - brightness[image * size + b]!) ** 2).map(Math.sqrt)
  return {
    winRate: Object.fromEntries(
      heads.map((head, h) => [head, atEach((image) => Number(winner(image) === h))]),
    ),
    minimum: atEach((image) => Math.min(...errors(image))),
    brightnessGap: byPair(heads, gap),
  }
}

/** Halves, so that weights chosen on one can be measured on the other. */
function productsOfHalves({ t, heads, imageCount, products }: HeldOutError): number[][][] {
  const square = heads.length ** 2
  return [0, Math.min(1, imageCount - 1)].map((first) =>
    Array.from(t, (_, k) =>
      Array.from({ length: square }, (_, pair) => {
        let sum = 0
        for (let i = first; i < imageCount; i += 2) sum += products[(k * imageCount + i) * square + pair]!
        return sum / Math.ceil((imageCount - first) / 2)
      }),
    ),
  )
}

function mean(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length
}

function inOrder(points: ReadonlyMap<number, CurvePoint>): CurvePoint[] {
  return [...points.values()].sort((a, b) => a.step - b.step)
}

/** @internal Of what decides the training of a cell. */
export function optionsHash(arm: StudyArm, seed: number): string {
  return settingsHash({ ...arm.options, seed, threads: undefined, keep: undefined, stops: arm.stops })
}

/** Of what decides held-out errors; samples and bits are settled apart from them, and `weights` is a matter of the report. */
function evaluationHash(evaluate: EvaluationSettings): string {
  const {
    samples: _,
    bitsPerDim: __,
    combinations: ___,
    weights: ____,
    bothWeights: _____,
    ...settings
  } = evaluate
  return settingsHash(settings)
}

/** Seconds a step, from the lines of timing.jsonl; those of a run that was continued count alike. */
async function meanStepSeconds(folder: string): Promise<number> {
  const rows = await jsonLines<{ stepMs: number; waitMs: number }>(join(folder, 'timing.jsonl'))
  return mean(rows.map(({ stepMs, waitMs }) => stepMs + waitMs)) / 1000
}

/** How the logged losses alternate after the first tenth of them. */
async function stepAlternation(folder: string): Promise<Alternation> {
  const losses = (await jsonLines<{ loss: number }>(join(folder, 'stats.jsonl'))).map(({ loss }) => loss)
  return alternation(losses.slice(Math.floor(losses.length / 10)))
}

async function jsonLines<T>(file: string): Promise<T[]> {
  const lines = (await readFile(file, 'utf8')).split('\n')
  return lines.map((line) => parseLine<T>(line)).filter((row) => row !== undefined)
}

/** The newest checkpoint of a run, where it is that of a step. */
async function checkpointOf(folder: string, step: number): Promise<string | undefined> {
  const checkpoint = await latestCheckpoint(folder)
  return checkpoint !== undefined && stepOf(checkpoint) === step ? checkpoint : undefined
}

function stepOf(checkpoint: string): number {
  return Number(basename(checkpoint).slice('step-'.length))
}

/** @internal A JSON file; undefined when it is not there or a killed process left half of it. */
export async function readJson<T>(file: string): Promise<T | undefined> {
  try {
    return parseNumbers(await readFile(file, 'utf8')) as T
  } catch {
    return undefined
  }
}

/** @internal JSON in which null stands for a number that is not finite, such as the error of a network that went astray. */
export function parseNumbers(text: string): unknown {
  return JSON.parse(text, (_, value) => (value === null ? Number.NaN : value))
}
