import { argumentError, checkInteger, checkKnownOptions, checkNumber, checkOneOf, nearest } from '../check.ts'
import { keyedRandom } from '../random.ts'
import type { Slot } from './slot.ts'

/** Says which slots are open at which training step. */
export interface SlotPlan {
  readonly name: string
  /** The plan in words that `parsePlan` reads, for configuration files; `custom` cannot be read back. */
  readonly text: string
  readonly slotCount: number
  /**
   * The share of all drawn examples that each slot gets in the long run, shape [slots]; 0 for slots never
   * opened. Undefined when it is not known; importance weights need it.
   */
  readonly shares: readonly number[] | undefined
  /** Indices of the open slots, at least one; a pure function of the step. */
  openAt(step: number): readonly number[]
}

/** Which end of the timesteps a sequential plan starts from. */
export const PLAN_DIRECTIONS = ['noisyFirst', 'cleanFirst'] as const
/** One of `PLAN_DIRECTIONS`. */
export type PlanDirection = (typeof PLAN_DIRECTIONS)[number]

/** Keeps one slot open for good: the paper's separate fine-tuning of slot k. */
export function oneSlot(slotCount: number, k: number): SlotPlan {
  const call = 'oneSlot'
  checkSlotCount(call, slotCount)
  checkInteger(call, 'k', k, 0, slotCount - 1)
  const shares = Array.from({ length: slotCount }, (_, index) => (index === k ? 1 : 0))
  return { name: 'one', text: `one:${k}`, slotCount, shares, openAt: () => [k] }
}

/** Keeps every slot open at every step: all slots are visited equally often within each batch. */
export function allSlots(slotCount: number): SlotPlan {
  checkSlotCount('allSlots', slotCount)
  const open = Array.from({ length: slotCount }, (_, k) => k)
  return { name: 'all', text: 'all', slotCount, shares: equalShares(slotCount), openAt: () => open }
}

/** Options of `sequential`. */
export interface SequentialOptions {
  /** Training steps spent in a slot before the next one opens. */
  readonly stepsPerSlot: number
  /** `noisyFirst` (from t = T - 1 down) or `cleanFirst`; `noisyFirst` by default. */
  readonly direction?: PlanDirection
  /** Passes over all slots, after which every slot is open; endless by default. */
  readonly cycles?: number
}

/** Opens the slots one after another, from one end of the noise range to the other. */
export function sequential(slotCount: number, options: SequentialOptions): SlotPlan {
  const call = 'sequential'
  checkSlotCount(call, slotCount)
  checkKnownOptions(call, options, ['stepsPerSlot', 'direction', 'cycles'])
  const { stepsPerSlot, direction = 'noisyFirst', cycles } = options
  checkInteger(call, 'stepsPerSlot', stepsPerSlot, 1)
  checkOneOf(call, 'direction', direction, PLAN_DIRECTIONS)
  if (cycles !== undefined) checkInteger(call, 'cycles', cycles, 1)
  const all = Array.from({ length: slotCount }, (_, k) => k)
  const words = ['sequential', direction === 'noisyFirst' ? 'noisy-first' : 'clean-first', stepsPerSlot]
  if (cycles !== undefined) words.push(cycles)
  return {
    name: 'sequential',
    text: words.join(':'),
    slotCount,
    shares: equalShares(slotCount),
    openAt(step) {
      const visit = Math.floor(step / stepsPerSlot)
      if (cycles !== undefined && visit >= cycles * slotCount) return all
      const k = visit % slotCount
      return [direction === 'cleanFirst' ? k : slotCount - 1 - k]
    },
  }
}

/** Visits the slots in turn, from the cleanest, again and again. */
export function roundRobin(slotCount: number, options: { readonly stepsPerSlot?: number } = {}): SlotPlan {
  const call = 'roundRobin'
  checkSlotCount(call, slotCount)
  checkKnownOptions(call, options, ['stepsPerSlot'])
  const { stepsPerSlot = 1 } = options
  checkInteger(call, 'stepsPerSlot', stepsPerSlot, 1)
  return {
    name: 'round-robin',
    text: stepsPerSlot === 1 ? 'round-robin' : `round-robin:${stepsPerSlot}`,
    slotCount,
    shares: equalShares(slotCount),
    openAt: (step) => [Math.floor(step / stepsPerSlot) % slotCount],
  }
}

/** Options of `weightedRandom`. */
export interface WeightedRandomOptions {
  /** How often each slot opens, shape [slots], relative; equally often by default. */
  readonly weights?: readonly number[]
  /** A whole number in [0, 2^53); 0 by default. Step k opens the same slot whenever it runs. */
  readonly seed?: number
}

/** Opens one slot a step, drawn at random and keyed by (seed, step). */
export function weightedRandom(slotCount: number, options: WeightedRandomOptions = {}): SlotPlan {
  const call = 'weightedRandom'
  checkSlotCount(call, slotCount)
  checkKnownOptions(call, options, ['weights', 'seed'])
  const { weights, seed = 0 } = options
  checkInteger(call, 'seed', seed, 0)
  const shares = weights ? normalised(call, 'weights', weights, slotCount) : equalShares(slotCount)
  const last = shares.findLastIndex((share) => share > 0)
  const random = keyedRandom(seed, 'slots')
  return {
    name: 'random',
    text: weights ? `random:${weights.join(',')}` : 'random',
    slotCount,
    shares,
    openAt(step) {
      let left = random.at(step).uniform()
      for (let k = 0; k < last; k++) {
        left -= shares[k]!
        if (left < 0) return [k]
      }
      return [last]
    },
  }
}

/**
 * A plan of your own.
 *
 * @param openAt - the open slots of a step; must be a pure function, so that a resumed run opens the same
 *   ones
 * @param options.shares - how often each slot gets an example, relative; needed for importance weights only
 */
export function customPlan(
  slotCount: number,
  openAt: (step: number) => readonly number[],
  options: { readonly name?: string; readonly shares?: readonly number[] } = {},
): SlotPlan {
  const call = 'customPlan'
  checkSlotCount(call, slotCount)
  checkKnownOptions(call, options, ['name', 'shares'])
  if (typeof openAt !== 'function') {
    throw argumentError(call, 'openAt', 'a function of the step', openAt, { kind: 'type' })
  }
  const { name = 'custom', shares } = options
  return {
    name,
    text: 'custom',
    slotCount,
    shares: shares && normalised(call, 'shares', shares, slotCount),
    openAt,
  }
}

const PLAN_WORDS = ['one', 'all', 'sequential', 'round-robin', 'random']

/**
 * Reads a plan in words: `one:3`, `all`, `sequential:noisy-first:500`, `sequential:clean-first:500:2` (two
 * cycles), `round-robin`, `round-robin:25`, `random`, `random:1,2,1`. Numbers are slot, steps in a slot,
 * cycles, weights.
 *
 * @param slots - the slots, or how many there are
 * @param options.seed - of `random`; 0 by default
 */
export function parsePlan(
  text: string,
  slots: number | readonly Slot[],
  options: { readonly seed?: number } = {},
): SlotPlan {
  const call = 'parsePlan'
  if (typeof text !== 'string') throw argumentError(call, 'text', 'a plan in words', text, { kind: 'type' })
  const slotCount = typeof slots === 'number' ? slots : slots.length
  checkSlotCount(call, slotCount)
  const [word = '', ...rest] = text.trim().split(':')
  const [first, second, third] = rest
  if (word === 'one' && rest.length === 1) return oneSlot(slotCount, numberIn(text, first))
  if (word === 'all' && rest.length === 0) return allSlots(slotCount)
  if (word === 'round-robin' && rest.length <= 1) {
    return roundRobin(slotCount, first === undefined ? {} : { stepsPerSlot: numberIn(text, first) })
  }
  if (word === 'random' && rest.length <= 1) {
    const weights = first?.split(',').map((part) => numberIn(text, part))
    return weightedRandom(slotCount, { ...options, ...(weights && { weights }) })
  }
  if (word === 'sequential' && (rest.length === 2 || rest.length === 3)) {
    const directions: Record<string, PlanDirection> = {
      'noisy-first': 'noisyFirst',
      'clean-first': 'cleanFirst',
    }
    const direction = directions[first!]
    if (!direction) throw argumentError(call, 'direction', 'noisy-first or clean-first', first)
    const cycles = third === undefined ? {} : { cycles: numberIn(text, third) }
    return sequential(slotCount, { direction, stepsPerSlot: numberIn(text, second), ...cycles })
  }
  const guess = nearest(word, PLAN_WORDS)
  throw argumentError(
    call,
    'text',
    'one:SLOT, all, sequential:noisy-first|clean-first:STEPS[:CYCLES], round-robin[:STEPS] or random[:W0,W1,…]',
    text,
    guess && guess !== word ? { hint: `did you mean ${guess}?` } : {},
  )
}

function numberIn(text: string, part: string | undefined): number {
  const value = part?.trim() ? Number(part) : Number.NaN
  if (Number.isNaN(value))
    throw argumentError('parsePlan', `numbers in ${JSON.stringify(text)}`, 'decimal numbers', part)
  return value
}

function checkSlotCount(call: string, slotCount: number): void {
  checkInteger(call, 'slotCount', slotCount, 1)
}

function equalShares(slotCount: number): number[] {
  return Array.from({ length: slotCount }, () => 1 / slotCount)
}

function normalised(call: string, name: string, weights: readonly number[], slotCount: number): number[] {
  if (!Array.isArray(weights) || weights.length !== slotCount) {
    throw argumentError(call, name, `${slotCount} numbers, one a slot`, weights)
  }
  for (const [k, weight] of weights.entries()) checkNumber(call, `${name}[${k}]`, weight, 0)
  const total = weights.reduce((a, b) => a + b, 0)
  if (!(total > 0)) throw argumentError(call, name, 'positive somewhere', weights)
  return weights.map((weight) => weight / total)
}
