import { argumentError, checkInteger, checkKnownOptions, checkNumber, checkOneOf } from '../check.ts'
import { inMemory } from '../data/dataset.ts'
import { toUint8 } from '../data/to-uint8.ts'
import { DeviceTensor } from '../device-tensor.ts'
import { slicedWasserstein } from '../metrics/pixels.ts'
import type { UNet } from '../model/unet.ts'
import { Denoiser, type DenoiserOptions } from '../sampling/denoiser.ts'
import type { NoiseSchedule } from '../schedule/noise-schedule.ts'
import { type MeanInterval, meanInterval } from '../statistics/paired.ts'
import { checkImages, type ImageBatch } from '../tensor.ts'
import { type DdimTrajectory, openLoopSum, walkDdim } from './ddim-trajectory.ts'
import {
  type NoisyWeights,
  noisyOpenLoopWeights,
  openLoopWeights,
  replacementWindows,
  type StepWindow,
  WINDOW_MEASURES,
  type WindowMeasure,
  windowOfRange,
} from './replacement-windows.ts'

/** What happens in a window: the truth in place of a prediction, or noise on top of it. */
export const INTERVENTIONS = ['xStart', 'eps', 'noise'] as const
/** One of `INTERVENTIONS`. */
export type Intervention = (typeof INTERVENTIONS)[number]

/** Options of `replacement`. */
export interface ReplacementOptions {
  /** Real images that training has not seen: the truth, [N, C, H, W]. */
  readonly images: ImageBatch
  /** Timesteps T' to which they are noised; 999, 600, 300 by default, as far as the process goes. */
  readonly starts?: readonly number[]
  /** DDIM steps from each; 50 by default. */
  readonly steps?: number
  /** All three by default; without eps where there is noise. */
  readonly interventions?: readonly Intervention[]
  /** Of which windows have equal amounts; all by default. */
  readonly measures?: readonly WindowMeasure[]
  /** Windows of your own: pairs of timesteps, all that lie between them; none by default. Each must hold a visited step. */
  readonly ranges?: readonly (readonly [number, number])[]
  /** DDIM's share of DDPM's noise, in [0, 1]; 0 by default. With more the truth of eps is no constant, and cannot be put in its place. */
  readonly eta?: number
  /** Windows of each measure; 10 by default. */
  readonly positions?: number
  /** Share of the process in each; 0.1 by default. */
  readonly width?: number
  /** Deviation of the noise on xStart of the intervention `noise`; 0.1 by default. */
  readonly noiseSize?: number
  /** Intervene in the last step too, as a window of its own; false by default, because its xStart is the result. */
  readonly includesLast?: boolean
  /** Keys all noise; 0 by default. */
  readonly seed?: number
  readonly denoiser?: DenoiserOptions
  readonly signal?: AbortSignal
  /** Called after each walk. */
  readonly onProgress?: (done: number, total: number) => void
}

/** The walk without intervention. */
export interface ReplacementBaseline {
  readonly start: number
  /** Visited timesteps, ascending. */
  readonly t: number[]
  /** Mean squared error of the result against the truth, over images. */
  readonly error: MeanInterval
  /** Sliced Wasserstein distance of the results to the images. */
  readonly slicedWasserstein: number
  /**
   * What a change of the prediction at each visited timestep does to the result while every other prediction stays (math.md, eq. 123 to 126).
   * At the last step, the first of them, xStart is the result itself. Without eps where there is noise.
   */
  readonly weights: { readonly xStart: number[]; readonly eps?: number[] }
  /** Largest difference between x at step 0 and the sum that DDIM is, over the largest x. */
  readonly identityError: number
}

/** One intervention in one window. */
export interface ReplacementResult {
  readonly start: number
  readonly intervention: Intervention
  readonly measure: WindowMeasure | 'range' | 'last'
  /** Timesteps of the window, noisiest first. */
  readonly from: number
  readonly to: number
  readonly stepCount: number
  /** Change of the squared error by the intervention, paired over images. */
  readonly change: MeanInterval
  /** What that change would be if the network's other predictions stayed as they were: algebra (math.md, eq. 125). */
  readonly openLoop: MeanInterval
  readonly slicedWasserstein: number
}

/** Where in the process the prediction matters. */
export interface Replacement {
  readonly imageCount: number
  readonly steps: number
  readonly eta: number
  readonly noiseSize: number
  readonly seed: number
  readonly baselines: readonly ReplacementBaseline[]
  readonly results: readonly ReplacementResult[]
}

const KNOWN = [
  'images', 'starts', 'steps', 'interventions', 'measures', 'ranges', 'eta', 'positions', 'width', 'noiseSize', 'includesLast', 'seed',
  'denoiser', 'signal', 'onProgress',
] as const // biome-ignore format: one list

/**
 * Ground truth in place of the prediction in windows of a DDIM walk from noised real images, and noise on top of it, each with what the
 * linear sum that DDIM is predicts for it (math.md, eq. 122 to 126). Trajectories are held in host memory: 2 x steps x images
 * x 4 bytes.
 */
export async function replacement(
  unet: UNet,
  schedule: NoiseSchedule,
  options: ReplacementOptions,
): Promise<Replacement> {
  const call = 'replacement'
  checkKnownOptions(call, options, KNOWN)
  const { images, steps = 50, measures = WINDOW_MEASURES, ranges = [], eta = 0, seed = 0 } = options
  const { interventions = eta === 0 ? INTERVENTIONS : (['xStart', 'noise'] as const) } = options
  const { positions = 10, width = 0.1, noiseSize = 0.1, includesLast = false, signal, onProgress } = options
  checkImages(call, 'images', images)
  checkInteger(call, 'steps', steps, 2, schedule.timestepCount)
  checkNumber(call, 'noiseSize', noiseSize, 0)
  checkInteger(call, 'seed', seed, 0)
  for (const word of interventions) checkOneOf(call, 'interventions', word, INTERVENTIONS)
  checkNumber(call, 'eta', eta, 0, 1)
  if (eta > 0 && interventions.includes('eps')) {
    throw argumentError(
      call,
      'interventions',
      'without eps, whose truth is a constant on the walk without noise alone',
      'eps',
    )
  }
  for (const word of measures) checkOneOf(call, 'measures', word, WINDOW_MEASURES)
  const lastTimestep = schedule.timestepCount - 1
  const tenths = [10, 6, 3].map((tenth) => Math.round((tenth * schedule.timestepCount) / 10))
  const starts = options.starts ?? tenths.map((t) => Math.min(t, lastTimestep)).filter((t) => t >= steps - 1)
  for (const [i, start] of starts.entries())
    checkInteger(call, `starts[${i}]`, start, steps - 1, lastTimestep)
  const plans = starts.map((start) => {
    const visited = Int32Array.from({ length: steps }, (_, k) => Math.round((start * k) / (steps - 1)))
    const process = schedule.respace(visited)
    const given = ranges.map((range, i) => {
      const window = windowOfRange(visited, range)
      if (window) return window
      const what = `timesteps with one of ${visited.subarray(1).join(', ')} between them`
      throw argumentError(call, `ranges[${i}]`, what, range)
    })
    const jobs = interventions.flatMap((intervention) => [
      ...measures.flatMap((measure) =>
        replacementWindows(measure, intervention === 'eps' ? 'eps' : 'xStart', process.tables.snr, {
          ...{ positions, width },
        }).map((window) => ({ intervention, measure, window })),
      ),
      ...given.map((window) => ({ intervention, measure: 'range' as const, window })),
      ...(includesLast ? [{ intervention, measure: 'last' as const, window: { from: 0, to: 0 } }] : []),
    ])
    return { start, process, jobs }
  })
  const total = plans.reduce((sum, { jobs }) => sum + 1 + jobs.length, 0)
  let done = 0

  const baselines: ReplacementBaseline[] = []
  const results: ReplacementResult[] = []
  const walk = async ({ start, process, jobs }: (typeof plans)[number]): Promise<void> => {
    if (interventions.includes('eps') && process.tables.alphaBar[steps - 1] === 0) {
      throw argumentError(call, 'starts', 'timesteps that hold some signal, for eps', start)
    }
    const bench = await Bench.create(unet, process, { ...options, interventions, eta, seed, noiseSize })
    const t = Array.from(process.tables.timestepMap)
    baselines.push({ start, t, ...(await bench.baseline()) })
    onProgress?.(++done, total)
    const known = new Map<string, Awaited<ReturnType<Bench['intervene']>>>()
    for (const { intervention, measure, window } of jobs) {
      signal?.throwIfAborted()
      const key = `${intervention} ${window.from} ${window.to}` // measures may agree on a window
      const found = known.get(key) ?? (await bench.intervene(intervention, window))
      known.set(key, found)
      const [from, to] = [t[window.from]!, t[window.to]!]
      results.push({
        start,
        intervention,
        measure,
        from,
        to,
        stepCount: window.from - window.to + 1,
        ...found,
      })
      onProgress?.(++done, total)
    }
  }
  try {
    for (const plan of plans) await walk(plan)
  } finally {
    for (const { process } of plans) process.dispose()
  }
  return { imageCount: images.shape[0], steps, eta, noiseSize, seed, baselines, results }
}

type BenchOptions = ReplacementOptions &
  Required<Pick<ReplacementOptions, 'interventions' | 'eta' | 'seed' | 'noiseSize'>>

/** One process, its baseline, and what is compared with it. */
class Bench {
  readonly #denoiser: Denoiser
  readonly #images: ImageBatch
  readonly #truth: Float32Array
  readonly #eps: Float32Array
  readonly #disturbances: readonly Float32Array[]
  readonly #walk: DdimTrajectory
  readonly #options: BenchOptions
  readonly #weights: NoisyWeights

  private constructor(parts: {
    denoiser: Denoiser
    images: ImageBatch
    truth: Float32Array
    eps: Float32Array
    disturbances: readonly Float32Array[]
    walk: DdimTrajectory
    options: BenchOptions
  }) {
    this.#denoiser = parts.denoiser
    this.#images = parts.images
    this.#truth = parts.truth
    this.#eps = parts.eps
    this.#disturbances = parts.disturbances
    this.#walk = parts.walk
    this.#options = parts.options
    this.#weights = noisyOpenLoopWeights(parts.denoiser.process.tables.alphaBar, parts.options.eta)
  }

  static async create(unet: UNet, process: NoiseSchedule, options: BenchOptions): Promise<Bench> {
    const { images, seed, eta, signal } = options
    const denoiser = new Denoiser(unet, process, {
      ...options.denoiser,
      ...(images.labels && { y: images.labels }),
      ...(images.lowRes && { lowRes: images.lowRes }),
    })
    const truth =
      images.data instanceof Float32Array
        ? images.data
        : Float32Array.from(images.data, (value) => value / 127.5 - 1)
    const noise = async (step: number): Promise<Float32Array> => {
      const key = { seed, purpose: 'probe', step, firstSample: 0 } as const
      const tensor = await DeviceTensor.noise(images.shape, key)
      const { data } = await tensor.toHost()
      tensor.dispose()
      return data as Float32Array
    }
    const eps = await noise(0)
    const last = process.timestepCount - 1
    const { sqrtAlphaBar, sqrtOneMinusAlphaBar } = process.tables
    const start = truth.map((value, i) => sqrtAlphaBar[last]! * value + sqrtOneMinusAlphaBar[last]! * eps[i]!)
    const walk = await walkDdim(denoiser, start, images.shape, last, { eta, seed, signal })
    const disturbances: Float32Array[] = []
    const disturbs = options.interventions.includes('noise')
    for (let k = 0; disturbs && k <= last; k++) disturbances.push(await noise(1 + k))
    return new Bench({ denoiser, images, truth, eps, disturbances, walk, options })
  }

  /** How the walk without intervention ends. */
  async baseline(): Promise<Omit<ReplacementBaseline, 'start' | 't'>> {
    const { seed } = this.#options
    const sum = await openLoopSum(this.#walk, this.#weights, async (k) => {
      const noise = await this.#denoiser.stepNoise(this.#images.shape, seed, k)
      const { data } = await noise.toHost()
      noise.dispose()
      return data as Float32Array
    })
    const exact = this.#walk.x[0]!
    const largest = exact.reduce((most, value) => Math.max(most, Math.abs(value)), 0)
    const difference = sum.reduce((most, value, i) => Math.max(most, Math.abs(value - exact[i]!)), 0)
    return {
      error: meanInterval(this.#errors(this.#walk.final)),
      slicedWasserstein: await this.#distance(this.#walk.final),
      weights: {
        xStart: this.#resultWeights('xStart'),
        ...(this.#options.eta === 0 && { eps: this.#resultWeights('eps') }),
      },
      identityError: difference / largest,
    }
  }

  /** What an intervention in a window changes, and what of that is algebra. */
  async intervene(
    intervention: Intervention,
    window: StepWindow,
  ): Promise<Pick<ReplacementResult, 'change' | 'openLoop' | 'slicedWasserstein'>> {
    const { from, to } = window
    const { alphaBar } = this.#denoiser.process.tables
    const isInside = (k: number): boolean => k <= from && k >= to
    const { noiseSize, eta, seed, signal } = this.#options
    // Up to the window the walk is the baseline's.
    const { final } = await walkDdim(this.#denoiser, this.#walk.x[from]!, this.#images.shape, from, {
      ...{ eta, seed, signal },
      ...(intervention !== 'noise' && {
        replace: (x, k) => {
          if (!isInside(k)) return undefined
          if (intervention === 'xStart') return this.#truth
          const [signalPart, noisePart] = [Math.sqrt(alphaBar[k]!), Math.sqrt(1 - alphaBar[k]!)]
          return x.map((value, i) => (value - noisePart * this.#eps[i]!) / signalPart)
        },
      }),
      ...(intervention === 'noise' && {
        disturb: (xStart, k) =>
          isInside(k) ? xStart.map((value, i) => value + noiseSize * this.#disturbances[k]![i]!) : xStart,
      }),
    })
    const before = this.#errors(this.#walk.final)
    const paired = (result: ArrayLike<number>): MeanInterval =>
      meanInterval(this.#errors(result).map((error, i) => error - before[i]!))
    return {
      change: paired(final),
      openLoop: paired(this.#openLoop(intervention, window)),
      slicedWasserstein: await this.#distance(final),
    }
  }

  /** [K] of each prediction in the result; the last step keeps its eps, so that it passes changes on. */
  #resultWeights(variable: 'xStart' | 'eps'): number[] {
    const { snr, alphaBar } = this.#denoiser.process.tables
    const [signalPart, noisePart] = [Math.sqrt(alphaBar[0]!), Math.sqrt(1 - alphaBar[0]!)]
    // The last step: xStart is the result, and eps enters with all the noise that is left.
    if (variable === 'eps') {
      const weights = openLoopWeights('eps', snr)
      return Array.from(weights, (weight, k) => (k > 0 ? -weight : -noisePart / signalPart))
    }
    // In the unit of the result: x at step 0 less its noise, over sqrt(alphaBar).
    return Array.from(this.#weights.xStart, (weight, k) => (k > 0 ? weight / signalPart : 1))
  }

  /** The result if every other prediction stayed the baseline's. */
  #openLoop(intervention: Intervention, { from, to }: StepWindow): Float64Array {
    const { alphaBar } = this.#denoiser.process.tables
    const result = Float64Array.from(this.#walk.final)
    const weights = this.#resultWeights(intervention === 'eps' ? 'eps' : 'xStart')
    for (let k = from; k >= to; k--) {
      const predicted = this.#walk.xStart[k]!
      const x = this.#walk.x[k]!
      const [signalPart, noisePart] = [Math.sqrt(alphaBar[k]!), Math.sqrt(1 - alphaBar[k]!)]
      const weight = weights[k]!
      for (let i = 0; i < result.length; i++) {
        const change =
          intervention === 'noise'
            ? this.#options.noiseSize * this.#disturbances[k]![i]!
            : intervention === 'xStart'
              ? this.#truth[i]! - predicted[i]!
              : this.#eps[i]! - (x[i]! - signalPart * predicted[i]!) / noisePart
        result[i]! += weight * change
      }
    }
    return result
  }

  /** Mean squared error of each image against the truth. */
  #errors(result: ArrayLike<number>): number[] {
    const [count] = this.#images.shape
    const size = this.#truth.length / count
    return Array.from({ length: count }, (_, i) => {
      let sum = 0
      for (let j = i * size; j < (i + 1) * size; j++) sum += (result[j]! - this.#truth[j]!) ** 2
      return sum / size
    })
  }

  async #distance(result: Float32Array): Promise<number> {
    const { shape } = this.#images
    const dataset = (values: Float32Array) => inMemory({ data: toUint8(values), shape })
    return slicedWasserstein(dataset(result), dataset(this.#truth), { directions: 256 })
  }
}
