import { checkInteger, checkKnownOptions, checkNumber } from '../check.ts'
import type { HeadDecider } from '../mixing/policy.ts'
import type { UNet } from '../model/unet.ts'
import type { Head } from '../prediction/heads.ts'
import { keyedRandom } from '../random.ts'
import type { NoiseSchedule } from '../schedule/noise-schedule.ts'
import { quantile } from '../statistics/bootstrap.ts'
import type { ImageBatch } from '../tensor.ts'
import type { TrainerOptions } from '../training/trainer.ts'
import { pixelVariance } from './data-variance.ts'
import { ERROR_SPACES, type ErrorSpace, errorFactors } from './error-space.ts'
import { gaussianEpsLoss } from './gaussian-model.ts'
import { type GradientMoments, gradientMoments } from './gradient-moments.ts'
import { resampleCounts, ruleCurve, type SlotEdges, type SlotRule, slotEdges } from './slot-rules.ts'
import {
  type CurveSpread,
  curveDistance,
  curveOverTimesteps,
  curveSpread,
  probeTimesteps,
} from './timestep-curve.ts'
import { measureTimestepLoss, type TimestepLoss } from './timestep-loss.ts'

/** Options of `probe`. */
export interface ProbeOptions {
  /** Images that training has not seen, [N, C, H, W]. */
  readonly images: ImageBatch
  /** Timesteps to measure, ascending; those of `probeTimesteps` by default. */
  readonly timesteps?: Int32Array
  /** Keys noise and resampling; 0 by default. */
  readonly seed?: number
  /** Images a forward pass; all by default. */
  readonly batchSize?: number
  /** Slots that are recommended; 10 by default. */
  readonly slotCount?: number
  /** Deviation of the pixels for space F; 0.5 by default. */
  readonly sigmaData?: number
  /** Resamplings of the images behind the intervals of the edges; 200 by default. */
  readonly resamples?: number
  /** How the network is trained: what the training loss and its gradients are. */
  readonly training?: TrainerOptions
  /** What the training's strategy of several heads says at these timesteps; by default nothing. */
  readonly decide?: HeadDecider | undefined
  /** Images whose gradients are taken at each of `gradientTimesteps` timesteps; 0, which costs nothing, by default. */
  readonly gradientImages?: number
  /** 12 by default, evenly in log snr. */
  readonly gradientTimesteps?: number
  readonly signal?: AbortSignal
  /** Called after each timestep, and then after each gradient. */
  readonly onProgress?: (done: number, total: number) => void
}

/** The error of one head in one space. */
export interface ProbeCurve extends CurveSpread {
  readonly head: Head
  readonly space: ErrorSpace
  /** Mean over the images at each measured timestep. */
  readonly value: Float64Array
  /** Standard error of `value` over the images. */
  readonly standardError: Float64Array
  /** Bounds of the 95 % bootstrap interval of `span` over images. */
  readonly spanLow: number
  readonly spanHigh: number
  /** Factor that the curve is off the Gaussian model's on average, the same in every space (math.md, eq. 113). */
  readonly distance: number
}

/** Slots that a rule recommends. */
export interface RecommendedSlots extends SlotEdges {
  readonly rule: SlotRule
  /** Head and space whose curve is cut; absent where it is the gradient of the training loss. */
  readonly head?: Head
  readonly space?: ErrorSpace
}

/** What a probe found. */
export interface Probe {
  readonly heads: readonly Head[]
  readonly timestepCount: number
  readonly imageCount: number
  readonly seed: number
  readonly sigmaData: number
  /** Measured timesteps, ascending. */
  readonly t: Int32Array
  /** The training loss at each of them. */
  readonly loss: Float64Array
  /** Every head in every space. */
  readonly curves: readonly ProbeCurve[]
  /** Bayes errors of the Gaussian model of these images, [T] for each space. */
  readonly gaussian: {
    readonly dataVariance: number
    readonly size: number
    readonly curves: Readonly<Record<ErrorSpace, Float64Array>>
    readonly spread: Readonly<Record<ErrorSpace, CurveSpread>>
  }
  readonly slots: readonly RecommendedSlots[]
  readonly gradient?: GradientMoments
}

const KNOWN = [
  'images', 'timesteps', 'seed', 'batchSize', 'slotCount', 'sigmaData', 'resamples', 'training', 'decide', 'gradientImages',
  'gradientTimesteps', 'signal', 'onProgress',
] as const // biome-ignore format: one list

/**
 * The held-out loss of a network over the timesteps with fixed images and noise: every head in every space, how far each spans, the
 * Gaussian model of the images beside it, and the slots that each rule would cut (math.md, eq. 110 to 115).
 *
 * @throws RangeError for options that do not fit the network
 *
 * @example
 * const found = await probe(unet, schedule, { images: heldOut })
 * console.log(found.curves.map(({ head, space, span }) => `${head} in ${space}: factor ${span}`))
 */
export async function probe(unet: UNet, schedule: NoiseSchedule, options: ProbeOptions): Promise<Probe> {
  const call = 'probe'
  checkKnownOptions(call, options, KNOWN)
  const {
    images,
    seed = 0,
    slotCount = 10,
    sigmaData = 0.5,
    resamples = 200,
    training = {},
    decide,
  } = options
  const { gradientImages = 0, gradientTimesteps = 12, signal, onProgress, batchSize } = options
  checkInteger(call, 'slotCount', slotCount, 1, schedule.timestepCount)
  checkInteger(call, 'resamples', resamples, 0)
  checkInteger(call, 'gradientImages', gradientImages, 0, images.shape[0])
  checkInteger(call, 'gradientTimesteps', gradientTimesteps, 2)
  checkNumber(call, 'sigmaData', sigmaData, 1e-6)
  const { snr } = schedule.tables
  const t = options.timesteps ?? probeTimesteps(snr)

  const measured = await measureTimestepLoss(unet, schedule, {
    images,
    timesteps: t,
    seed,
    training,
    ...(decide && { decide }),
    keepsExamples: true,
    ...(batchSize !== undefined && { batchSize }),
    ...(signal && { signal }),
    ...(onProgress && { onTimestep: onProgress }),
  })
  const gaussian = gaussianOf(schedule, images, sigmaData)
  const curves: ProbeCurve[] = []
  const slots: RecommendedSlots[] = []
  const draws = resampledMeans(measured, images.shape[0], resamples, seed)
  for (const [column, head] of measured.heads.entries()) {
    const at = (values: Float64Array, factor: Float64Array): Float64Array =>
      Float64Array.from(t, (s, row) => values[row * measured.heads.length + column]! * factor[s]!)
    // Between measured timesteps errors are interpolated in v, where they vary least; conversions are exact.
    const toV = errorFactors(schedule, head, 'v', sigmaData)
    const overT = (values: Float64Array): Float64Array => curveOverTimesteps(t, at(values, toV), snr)
    const inV = overT(measured.perHead)
    const drawnInV = draws.map(overT)
    for (const space of ERROR_SPACES) {
      const factor = errorFactors(schedule, head, space, sigmaData)
      const fromV = errorFactors(schedule, 'v', space, sigmaData)
      const converted = (curve: Float64Array): Float64Array => curve.map((value, s) => value * fromV[s]!)
      const full = converted(inV)
      const drawn = drawnInV.map(converted)
      const spread = curveSpread(full)
      const spans = Float64Array.from(drawn, (curve) => curveSpread(curve).span).sort()
      curves.push({
        ...{
          head,
          space,
          value: at(measured.perHead, factor),
          standardError: at(measured.standardError, factor),
        },
        ...spread,
        spanLow: spans.length > 0 ? quantile(spans, 0.025) : spread.span,
        spanHigh: spans.length > 0 ? quantile(spans, 0.975) : spread.span,
        distance: curveDistance(full, gaussian.curves[space]),
      })
      for (const rule of ['loss', 'excess', 'excessMin'] as const) {
        const cut = (curve: Float64Array) => ruleCurve(rule, curve, gaussian.curves[space])
        const edges = slotEdges(cut(full), drawn.map(cut), slotCount)
        if (edges) slots.push({ rule, head, space, ...edges })
      }
    }
  }
  const gradient =
    gradientImages > 0
      ? await gradientMoments(unet, schedule, {
          ...{ images, count: gradientImages, timestepCount: gradientTimesteps, seed, training, decide },
          ...(signal && { signal }),
          ...(onProgress && { onProgress }),
        })
      : undefined
  if (gradient) slots.push(...gradientSlots(gradient, snr, slotCount, resamples, seed))
  return {
    ...{
      heads: measured.heads,
      timestepCount: schedule.timestepCount,
      imageCount: images.shape[0],
      seed,
      sigmaData,
    },
    ...{ t, loss: measured.loss, curves, gaussian, slots, ...(gradient && { gradient }) },
  }
}

/** The smallest errors that Gaussian images with the same variance of pixels would have. */
function gaussianOf(schedule: NoiseSchedule, images: ImageBatch, sigmaData: number): Probe['gaussian'] {
  const [, , height, width] = images.shape
  const size = Math.max(1, Math.round(Math.sqrt(height * width)))
  const dataVariance = Math.max(pixelVariance(images), 1e-6) // images that are all alike have none
  const alphaBar = schedule.tables.alphaBar.map((value) => Math.min(Math.max(value, 1e-12), 1 - 1e-12))
  const eps = gaussianEpsLoss({ size, alphaBar, dataVariance })
  const in_ = (space: ErrorSpace) => {
    const factor = errorFactors(schedule, 'eps', space, sigmaData)
    return eps.map((value, s) => value * factor[s]!)
  }
  const curves = Object.fromEntries(ERROR_SPACES.map((space) => [space, in_(space)]))
  const spread = Object.fromEntries(ERROR_SPACES.map((space) => [space, curveSpread(curves[space]!)]))
  return { dataVariance, size, curves, spread } as Probe['gaussian']
}

/** Means [t, heads] over images drawn with replacement, the same images at every timestep. */
function resampledMeans(measured: TimestepLoss, count: number, draws: number, seed: number): Float64Array[] {
  const { perExample, perHead, heads } = measured
  const random = keyedRandom(seed, 'probe')
  return Array.from({ length: draws }, (_, draw) => {
    const counts = resampleCounts(count, random.at(1, draw))
    return perHead.map((_, at) => {
      const [row, head] = [Math.floor(at / heads.length), at % heads.length]
      let sum = 0
      for (let i = 0; i < count; i++)
        sum += counts[i]! * perExample![(row * count + i) * heads.length + head]!
      return sum / count
    })
  })
}

/** Slots of equal second moment of the gradient, and of equal root of it. */
function gradientSlots(
  { t, squaredNorms }: GradientMoments,
  snr: Float64Array,
  slotCount: number,
  resamples: number,
  seed: number,
): RecommendedSlots[] {
  const count = squaredNorms.length / t.length
  const random = keyedRandom(seed, 'probe')
  const curveOf = (counts?: Float64Array): Float64Array => {
    const means = Float64Array.from(t, (_, row) => {
      let sum = 0
      for (let i = 0; i < count; i++) sum += (counts?.[i] ?? 1) * squaredNorms[row * count + i]!
      return sum / count
    })
    return curveOverTimesteps(t, means, snr)
  }
  const drawn = Array.from({ length: resamples }, (_, k) => curveOf(resampleCounts(count, random.at(2, k))))
  return (['gradientMoment', 'gradientRoot'] as const).flatMap((rule) => {
    const cut = (curve: Float64Array) => ruleCurve(rule, curve, curve)
    const edges = slotEdges(cut(curveOf()), drawn.map(cut), slotCount)
    return edges ? [{ rule, ...edges }] : []
  })
}
