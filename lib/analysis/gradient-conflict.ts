import { checkInteger, checkKnownOptions } from '../check.ts'
import { checkSlots, type Slot } from '../curriculum/slot.ts'
import { batches } from '../data/batches.ts'
import type { ImageDataset } from '../data/dataset.ts'
import type { HeadDecider } from '../mixing/policy.ts'
import type { UNet } from '../model/unet.ts'
import type { Space } from '../native.ts'
import type { Head } from '../prediction/heads.ts'
import { keyedRandom } from '../random.ts'
import type { NoiseSchedule } from '../schedule/noise-schedule.ts'
import type { TrainerOptions } from '../training/trainer.ts'
import {
  cosineErrors,
  cosines,
  meanProducts,
  meanSquares,
  noiseScaleErrors,
  noiseScales,
  splitHalves,
  traces,
} from './gram-statistics.ts'
import { type HeadShares, headShares, withoutBound } from './head-gradients.ts'
import { type GradientBatch, lossGradientGram } from './loss-gradient.ts'

/** Options of `gradientConflict`. */
export interface GradientConflictOptions {
  readonly slots: readonly Slot[]
  /** Images whose gradients are taken. */
  readonly images: ImageDataset
  readonly withLabels?: boolean
  /** Independent batches of each slot, at least 4; 8 by default. */
  readonly draws?: number
  /** Images in each; 8 by default. */
  readonly batchSize?: number
  readonly seed?: number
  /** Spaces of the loss; eps and F by default, and for several heads `own` before them. */
  readonly spaces?: readonly Space[]
  /** The head whose loss is taken in a common space, where another head's conversion may drown all; v where there is one, else the first. */
  readonly head?: Head
  readonly training?: TrainerOptions
  /** What the training's strategy of several heads says at these timesteps; by default nothing. */
  readonly decide?: HeadDecider | undefined
  /** Bound on the gradients held; 512 MiB by default. */
  readonly memoryBytes?: number
  readonly signal?: AbortSignal
  /** Called after each space and each slot of the heads’ part. */
  readonly onProgress?: (done: number, total: number) => void
}

/** Gradients of the slots, with the loss in one space. */
export interface SlotGradients {
  /** `own`: of the training loss as it is. */
  readonly space: Space
  /** [slots, slots] cosines of the slots' gradients without the bias of noise; null where a gradient drowns in noise. */
  readonly cosine: (number | null)[]
  /** [slots, slots] their standard errors. */
  readonly cosineError: (number | null)[]
  /** [slots, slots] cosines of the measured means, noise and all. */
  readonly rawCosine: (number | null)[]
  /** [slots] cosine of two halves of the same slot's batches: the ceiling of `rawCosine`. */
  readonly ceiling: number[]
  /** [slots] squared norm of the gradient, without the bias of noise. */
  readonly squaredNorm: number[]
  /** [slots] trace of the covariance of one example's gradient. */
  readonly trace: number[]
  /** [slots] gradient noise scale in images: trace / squared norm; null where the gradient drowns in noise. */
  readonly noiseScale: (number | null)[]
  /** [slots] its standard error. */
  readonly noiseScaleError: (number | null)[]
  /** [slots] share of the variance within slots, under uniform timesteps; adds up to 1. */
  readonly varianceShare: number[]
}

/** Gradients of single heads within one slot. */
export interface HeadGradients extends HeadShares {
  readonly slot: Slot
}

/** Whether timesteps pull a network in different directions. */
export interface GradientConflict {
  readonly slots: readonly Slot[]
  readonly draws: number
  readonly batchSize: number
  readonly seed: number
  readonly spaces: readonly SlotGradients[]
  /** Of the loss in common spaces. */
  readonly head: Head
  readonly heads: readonly Head[]
  /** One a slot; empty for networks of one head. */
  readonly byHead: readonly HeadGradients[]
}

const KNOWN = [
  'slots', 'images', 'withLabels', 'draws', 'batchSize', 'seed', 'spaces', 'head', 'training', 'decide', 'memoryBytes', 'signal', 'onProgress',
] as const // biome-ignore format: one list

/**
 * Cosines of the gradients of slots of timesteps, each slot's gradient noise scale and its share of the variance, and for several heads
 * what each contributes to the trunk (math.md, eq. 117 to 121). Costs a backward pass for each slot, batch and space; nothing is trained.
 */
export async function gradientConflict(
  unet: UNet,
  schedule: NoiseSchedule,
  options: GradientConflictOptions,
): Promise<GradientConflict> {
  const call = 'gradientConflict'
  checkKnownOptions(call, options, KNOWN)
  const { slots, images, draws = 8, batchSize = 8, seed = 0 } = options
  const { training = {}, decide, memoryBytes, signal, onProgress, withLabels = false } = options
  checkSlots(call, slots, schedule.timestepCount)
  checkInteger(call, 'draws', draws, 4)
  checkInteger(call, 'batchSize', batchSize, 1)
  const { heads } = unet.layout
  const { head = heads.includes('v') ? 'v' : heads[0]! } = options
  const spaces: readonly Space[] = options.spaces ?? (heads.length > 1 ? ['own', 'eps', 'F'] : ['eps', 'F'])
  const total = spaces.length + (heads.length > 1 ? slots.length : 0)
  const gramOptions = { ...(memoryBytes !== undefined && { memoryBytes }) }

  const source = batches(images, { batchSize, seed, withLabels, prefetch: 0 })
  const random = keyedRandom(seed, 'timesteps')
  const drawn: GradientBatch[] = []
  for (const [k, { begin, end }] of slots.entries()) {
    for (let draw = 0; draw < draws; draw++) {
      const step = k * draws + draw
      const stream = random.at(step)
      const t = Int32Array.from({ length: batchSize }, () => stream.integer(begin, end))
      drawn.push({ images: (await source.next()).value, t, seed, step })
    }
  }
  await source.return?.()

  const found: SlotGradients[] = []
  for (const space of spaces) {
    signal?.throwIfAborted()
    const list = drawn.map((batch) =>
      space === 'own'
        ? { ...batch, ...(decide && { decision: decide(batch.t) }) }
        : { ...batch, space, choose: head },
    )
    const { products } = await lossGradientGram(unet, schedule, list, {
      ...gramOptions,
      training: space === 'own' ? training : withoutBound(training),
    })
    found.push(slotGradients(space, products, slots, draws, batchSize))
    onProgress?.(found.length, total)
  }

  const byHead: HeadGradients[] = []
  for (const [k, slot] of slots.entries()) {
    if (heads.length === 1) break
    signal?.throwIfAborted()
    const ofSlot = drawn.slice(k * draws, (k + 1) * draws)
    byHead.push({ slot, ...(await headShares(unet, schedule, ofSlot, { ...gramOptions, training })) })
    onProgress?.(spaces.length + byHead.length, total)
  }
  return { slots, draws, batchSize, seed, spaces: found, head, heads, byHead }
}

function slotGradients(
  space: Space,
  products: Float64Array,
  slots: readonly Slot[],
  draws: number,
  batchSize: number,
): SlotGradients {
  const groups = slots.length
  const gram = { products, groups, draws }
  const mean = meanProducts(gram)
  const squaredNorm = slots.map((_, k) => mean[k * (groups + 1)]!)
  const squares = meanSquares(gram)
  const trace = traces(gram, batchSize)
  const lengths = slots.map(({ begin, end }) => end - begin)
  const variance = trace.reduce((sum, value, k) => sum + value * lengths[k]!, 0)
  const raw = mean.map((product, at) => {
    const [a, b] = [Math.floor(at / groups), at % groups]
    return a === b ? product + (squares[a]! - product) / draws : product
  })
  return {
    space,
    cosine: cosines(mean, groups),
    cosineError: cosineErrors(gram),
    rawCosine: cosines(raw, groups),
    ceiling: Array.from(splitHalves(gram)),
    squaredNorm,
    trace,
    noiseScale: noiseScales(gram, batchSize),
    noiseScaleError: noiseScaleErrors(gram, batchSize),
    varianceShare: trace.map((value, k) => (variance > 0 ? (value * lengths[k]!) / variance : 0)),
  }
}
