import { argumentError, checkInteger, checkKnownOptions, checkNumber, checkOneOf } from '../check.ts'
import { partitionByLoss } from '../curriculum/partition.ts'
import type { Slot } from '../curriculum/slot.ts'
import { lossBins, numbersOf, quadraticBins } from './loss-bins.ts'
import { checkDraw, type JsonValue, type TimestepSampler } from './sampler.ts'
import { checkOpen, type SlotSamplerOptions, slotDraw, slotSampler, slotWeights } from './slots.ts'

/** What slots get equal parts of. */
export const SLOT_REFRESH_RULES = ['loss', 'excess', 'loss-moment', 'gradient-moment'] as const
/** One of `SLOT_REFRESH_RULES`. */
export type SlotRefreshRule = (typeof SLOT_REFRESH_RULES)[number]

/** Options of `refreshedSlotSampler`; `slots` are those of the beginning. */
export interface RefreshedSlotOptions extends SlotSamplerOptions {
  /**
   * `loss`: the loss, as in the paper. `excess`: the loss above `floor`, which leaves out what cannot be learned, as far as `floor` knows it.
   * `loss-moment`: the square of the loss. `gradient-moment`: the second moment of the gradient, which a step does not report: whoever trains
   * measures it when the sampler says `isDue` (`run` does).
   */
  readonly rule: SlotRefreshRule
  /** [T] loss that cannot be learned away, for the rule `excess`, which needs it. */
  readonly floor?: Float64Array
  /** Steps between two cuts. */
  readonly every: number
  /** Bins of timesteps in which losses are averaged; 64 by default. */
  readonly binCount?: number
  /** What a bin's average keeps at each of its losses, in [0, 1); 0.99 by default. */
  readonly decay?: number
}

/** `refreshedSlotSampler` and its slots. */
export interface RefreshedSlotSampler extends TimestepSampler {
  /** The slots now. */
  slots(): readonly Slot[]
  /** With the rule `gradient-moment`: `recut` is wanted before the next draw. */
  readonly isDue: boolean
  /**
   * Cuts as many slots of equal parts of a curve over the timesteps; where it is 0 everywhere they stay.
   *
   * @param curve - [T], at least 0
   */
  recut(curve: Float64Array): void
}

/**
 * Slots that are cut anew from the losses, or the gradients, of the training itself every so many steps, as many as before (math.md, eq. 23 with averages of
 * eq. 96). They stay until every bin has a loss, and while there is nothing to divide. Slots must cover [0, T).
 */
export function refreshedSlotSampler(options: RefreshedSlotOptions): RefreshedSlotSampler {
  const call = 'refreshedSlotSampler'
  const own = ['rule', 'floor', 'every', 'binCount', 'decay']
  checkKnownOptions(call, options, ['slots', 'plan', 'seed', 'importanceWeights', 'stream', ...own])
  const { rule, floor, every, binCount = 64, decay = 0.99, ...rest } = options
  slotSampler(rest) // checks what both share
  checkOneOf(call, 'rule', rule, SLOT_REFRESH_RULES)
  checkInteger(call, 'every', every, 1)
  checkInteger(call, 'binCount', binCount, 1)
  checkNumber(call, 'decay', decay, 0, 1 - 1e-9)
  const { plan, seed = 0, importanceWeights = false, stream = 'iid' } = rest
  const timestepCount = rest.slots.at(-1)!.end
  const covers = rest.slots.every(({ begin }, k) => begin === (k === 0 ? 0 : rest.slots[k - 1]!.end))
  if (!covers) throw argumentError(call, 'slots', `slots that cover [0, ${timestepCount})`, rest.slots)
  const needsFloor = rule === 'excess'
  if (needsFloor !== (floor !== undefined) || (floor && floor.length !== timestepCount)) {
    const what = needsFloor ? `one loss for each of ${timestepCount} timesteps` : `absent with rule ${rule}`
    throw argumentError(call, 'floor', what, floor && `${floor.length} losses`)
  }
  const bins = lossBins(call, quadraticBins(timestepCount, binCount), decay)
  const floorOf = new Float64Array(bins.binCount) // mean over the timesteps of each bin
  const sizes = new Float64Array(bins.binCount)
  for (const k of bins.binOf) sizes[k]!++
  for (const [t, value] of (floor ?? []).entries()) floorOf[bins.binOf[t]!]! += value / sizes[bins.binOf[t]!]!
  const draws = slotDraw(seed, stream)
  const factorsOf = (of: readonly Slot[]): readonly number[] =>
    importanceWeights ? slotWeights(call, of, plan) : of.map(() => 1)
  let slots = rest.slots
  let factors = factorsOf(slots)
  let seen = 0
  let isDue = false

  const curve = (): Float64Array => {
    const { mean, meanSquare, binOf } = bins
    if (rule === 'loss-moment') return Float64Array.from(binOf, (k) => meanSquare[k]!)
    if (!floor) return Float64Array.from(binOf, (k) => mean[k]!)
    return Float64Array.from(binOf, (k) => Math.max(0, mean[k]! - floorOf[k]!))
  }
  const cut = (to: readonly Slot[]): void => {
    slots = to
    factors = factorsOf(slots)
  }
  const recut = (perTimestep: Float64Array): void => {
    isDue = false
    if (perTimestep.some((value) => value > 0)) cut(partitionByLoss(perTimestep, slots.length))
  }

  return {
    name: 'refreshed-slots',
    unbiased: importanceWeights,
    slots: () => slots,
    get isDue() {
      return isDue
    },
    recut,
    draw(count, step) {
      checkDraw(`${call}.draw`, count, step)
      return draws(count, step, slots, checkOpen(`${call}.draw`, plan, step), factors)
    },
    observe(losses) {
      bins.observe(losses)
      seen++
      const isRefresh = seen % every === 0
      if (rule === 'gradient-moment') isDue = isRefresh
      else if (isRefresh && bins.counts.every((count) => count > 0)) recut(curve())
    },
    state: () => ({ seen: [seen], ends: slots.map(({ end }) => end), bins: bins.state() }),
    restore(state) {
      const ends = numbersOf(`${call}.restore`, state, 'ends', slots.length)
      if (ends.at(-1) !== timestepCount)
        throw argumentError(`${call}.restore`, 'state.ends', `slots of ${timestepCount} timesteps`, ends)
      bins.restore((state as { bins: JsonValue }).bins)
      seen = numbersOf(`${call}.restore`, state, 'seen', 1)[0]!
      isDue = false // a checkpoint comes after the cut
      cut(ends.map((end, k) => ({ begin: k === 0 ? 0 : ends[k - 1]!, end })))
    },
  }
}
