import { argumentError, show } from '../check.ts'
import { ALL_HEADS, type Head } from '../prediction/heads.ts'
import type { NoiseSchedule } from '../schedule/noise-schedule.ts'
import type { Combine, HeadWeights } from './denoiser.ts'

/**
 * Weights that trust each head where it is well conditioned: xStart with 1 - alphaBar, eps with alphaBar, v everywhere. With
 * all three heads v gets one half and the two others share the rest, which is the best linear combination of three
 * predictions with independent errors of one size in their outputs; in xStart space the errors of eps alone would grow
 * without bound towards t = T - 1 (math.md, "Conversions"). What a sampler uses unless told otherwise.
 */
export function signalWeights(alphaBar: number, heads: readonly Head[]): HeadWeights {
  const has = (head: Head): boolean => heads.includes(head)
  if (has('xStart') && has('eps')) {
    const rest = has('v') ? 0.5 : 1
    return { xStart: rest * (1 - alphaBar), eps: rest * alphaBar, ...(has('v') && { v: 0.5 }) }
  }
  return { [has('v') ? 'v' : (heads[0] as Head)]: 1 }
}

/**
 * `signalWeights` at each timestep.
 *
 * @param schedule - the process that the network was trained on
 */
export function combineBySignal(schedule: NoiseSchedule, heads: readonly Head[]): Combine {
  return (t) => signalWeights(schedule.alphaBarAt(t), heads)
}

/**
 * Reads which head predicts xStart: `signal` (see `combineBySignal`), `mean`, `gate` (the network's own), a head, or weights such as `xStart=0.3,v=0.7`.
 *
 * @throws RangeError for words that are none of these
 */
export function parseCombine(text: string, schedule: NoiseSchedule, heads: readonly Head[]): Combine {
  if (text === 'signal') return combineBySignal(schedule, heads)
  if (text === 'gate') return text
  if (text === 'mean') return Object.fromEntries(heads.map((head) => [head, 1 / heads.length]))
  if (ALL_HEADS.includes(text as Head)) {
    if (heads.includes(text as Head)) return text as Head
    throw argumentError('parseCombine', 'combine', `among the network's heads (${heads.join(', ')})`, text)
  }
  const pairs = text.split(',').map((part) => /^(\w+)=([\d.eE+-]+)$/.exec(part.trim()))
  if (pairs.every((pair) => pair !== null)) {
    return Object.fromEntries(pairs.map((pair) => [pair[1], Number(pair[2])])) as HeadWeights
  }
  throw new RangeError(
    `parseCombine: expected combine to be signal, mean, gate, one of ${heads.join(', ')}, or weights such as xStart=0.3,v=0.7, got ${show(text)}`,
  )
}
