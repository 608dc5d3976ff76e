import { argumentError, checkInteger, checkKnownOptions, checkOneOf } from '../check.ts'
import type { SlotPlan } from '../curriculum/plan.ts'
import { checkSlots, type Slot } from '../curriculum/slot.ts'
import { keyedRandom } from '../random.ts'
import { checkDraw, type TimestepDraw, type TimestepSampler } from './sampler.ts'
import { positionStream, STREAMS, type StreamName, timestepAt } from './stream.ts'

/** Options of `slotSampler`. */
export interface SlotSamplerOptions {
  /** Ascending, not overlapping; of `partitionByLoss` as a rule. */
  readonly slots: readonly Slot[]
  /** Which slots are open at which step. */
  readonly plan: SlotPlan
  /** A whole number in [0, 2^53); 0 by default. */
  readonly seed?: number
  /**
   * Weight examples so that over the whole plan every timestep of the visited slots counts the same; false by
   * default, as in the paper, where a short slot's timesteps count more (math.md, eq. 24).
   */
  readonly importanceWeights?: boolean
  /** How the draws of a batch depend on one another within the open slots; `iid` by default. */
  readonly stream?: StreamName
}

/**
 * Draws from the slots that the plan has open: a slot with equal chances among the open ones, then a timestep
 * uniformly inside it. With one open slot a batch never mixes losses of different scales (arXiv 2502.01990).
 *
 * @throws RangeError when importance weights are asked of a plan that does not know its shares
 */
export function slotSampler(options: SlotSamplerOptions): TimestepSampler {
  const call = 'slotSampler'
  checkKnownOptions(call, options, ['slots', 'plan', 'seed', 'importanceWeights', 'stream'])
  const { slots, plan, seed = 0, importanceWeights = false, stream = 'iid' } = options
  checkSlots(call, slots)
  checkInteger(call, 'seed', seed, 0)
  checkOneOf(call, 'stream', stream, STREAMS)
  if (plan.slotCount !== slots.length) {
    throw argumentError(
      call,
      'plan',
      `a plan over ${slots.length} slots`,
      `${plan.text} over ${plan.slotCount} slots`,
    )
  }
  const factors = importanceWeights ? slotWeights(call, slots, plan) : slots.map(() => 1)
  const pick = slotDraw(seed, stream)
  return {
    name: 'slots',
    unbiased: importanceWeights,
    draw(count, step) {
      checkDraw(`${call}.draw`, count, step)
      const open = checkOpen(`${call}.draw`, plan, step)
      return pick(count, step, slots, open, factors)
    },
  }
}

/**
 * Draws from open slots: an open slot with equal chances, then a timestep uniformly inside it. A stream other than iid spreads both by one
 * position: the open slots lie beside one another with equal room.
 */
export function slotDraw(
  seed: number,
  stream: StreamName,
): (
  count: number,
  step: number,
  slots: readonly Slot[],
  open: readonly number[],
  factors: readonly number[],
) => TimestepDraw {
  const random = keyedRandom(seed, 'timesteps')
  const positions = positionStream(stream, seed)
  return (count, step, slots, open, factors) => {
    const t = new Int32Array(count)
    const weight = new Float32Array(count)
    const put = (i: number, k: number, timestep: number): void => {
      t[i] = timestep
      weight[i] = factors[k]!
    }
    if (stream === 'iid') {
      const numbers = random.at(step)
      for (let i = 0; i < count; i++) {
        const k = open.length === 1 ? open[0]! : open[numbers.integer(0, open.length)]!
        put(i, k, numbers.integer(slots[k]!.begin, slots[k]!.end))
      }
      return { t, weight }
    }
    for (const [i, u] of positions(count, step).entries()) {
      const at = u * open.length
      const k = open[timestepAt(u, open.length)]!
      const { begin, end } = slots[k]!
      put(i, k, begin + timestepAt(Math.min(at - Math.floor(at), 1), end - begin))
    }
    return { t, weight }
  }
}

/** Length of the slot over (timesteps visited x the plan's share of the slot): math.md, eq. 24. */
export function slotWeights(call: string, slots: readonly Slot[], plan: SlotPlan): number[] {
  const { shares } = plan
  if (!shares) {
    throw argumentError(
      call,
      'plan',
      'one that knows the share of each slot, for importanceWeights',
      plan.text,
      {
        hint: 'give shares to customPlan',
      },
    )
  }
  const lengths = slots.map(({ begin, end }) => end - begin)
  const visited = lengths.reduce((sum, length, k) => sum + (shares[k]! > 0 ? length : 0), 0)
  return lengths.map((length, k) => (shares[k]! > 0 ? length / (visited * shares[k]!) : 1))
}

export function checkOpen(call: string, plan: SlotPlan, step: number): readonly number[] {
  const open = plan.openAt(step)
  const fits = (k: number): boolean => Number.isInteger(k) && k >= 0 && k < plan.slotCount
  if (!Array.isArray(open) || open.length === 0 || !open.every(fits)) {
    throw argumentError(call, `plan.openAt(${step})`, `one or more slots in [0, ${plan.slotCount - 1}]`, open)
  }
  return open
}
