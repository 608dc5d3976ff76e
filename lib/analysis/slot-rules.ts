import { partitionByLoss } from '../curriculum/partition.ts'
import type { Slot } from '../curriculum/slot.ts'
import type { RandomStream } from '../random.ts'

/** What slots carry equal shares of (math.md, eq. 115). */
export const SLOT_RULES = ['loss', 'excess', 'excessMin', 'gradientMoment', 'gradientRoot'] as const
/** One of `SLOT_RULES`. */
export type SlotRule = (typeof SLOT_RULES)[number]

/** Edges of slots and where they may lie. */
export interface SlotEdges {
  /** [K + 1], from 0 to T. */
  readonly edges: number[]
  /** [K + 1] bounds of the 95 % bootstrap interval of each edge. */
  readonly low: number[]
  readonly high: number[]
}

/** The curve whose cumulative sum a rule on losses cuts evenly; `floor` is the Gaussian model's, in the same space. */
export function ruleCurve(rule: SlotRule, curve: Float64Array, floor: Float64Array): Float64Array {
  if (rule === 'excess') return curve.map((value, t) => Math.max(0, value - floor[t]!))
  if (rule === 'excessMin') {
    const smallest = curve.reduce((a, b) => Math.min(a, b), Number.POSITIVE_INFINITY)
    return curve.map((value) => value - smallest)
  }
  return rule === 'gradientRoot' ? curve.map(Math.sqrt) : curve
}

/**
 * Slots of equal cumulative value, with intervals from curves of resampled images.
 *
 * @returns undefined where the curve is zero everywhere
 */
export function slotEdges(
  curve: Float64Array,
  resampled: readonly Float64Array[],
  slotCount: number,
): SlotEdges | undefined {
  if (!curve.some((value) => value > 0)) return undefined
  const edges = edgesOf(partitionByLoss(curve, slotCount))
  const drawn = resampled
    .filter((one) => one.some((value) => value > 0))
    .map((one) => edgesOf(partitionByLoss(one, slotCount)))
  const at = (k: number, share: number): number => {
    const sorted = drawn.map((one) => one[k]!).sort((a, b) => a - b)
    return sorted[Math.round(share * (sorted.length - 1))] ?? edges[k]!
  }
  return { edges, low: edges.map((_, k) => at(k, 0.025)), high: edges.map((_, k) => at(k, 0.975)) }
}

/** Edges of slots, [K + 1]. */
export function edgesOf(slots: readonly Slot[]): number[] {
  return [slots[0]!.begin, ...slots.map(({ end }) => end)]
}

/** How often each of `count` images is drawn when `count` are drawn with replacement. */
export function resampleCounts(count: number, stream: RandomStream): Float64Array {
  const counts = new Float64Array(count)
  for (let i = 0; i < count; i++) counts[stream.integer(0, count)]!++
  return counts
}
