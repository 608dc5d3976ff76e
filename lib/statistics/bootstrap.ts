import { checkInteger, checkNumber } from '../check.ts'
import { keyedRandom } from '../random.ts'

/** How `bootstrapInterval` resamples. */
export interface BootstrapOptions {
  /** Resamples; 2000 by default. */
  readonly resamples?: number
  /** 0.95 by default. */
  readonly confidence?: number
  /** Keys the resamples; 0 by default. */
  readonly seed?: number
}

/**
 * Percentile interval of a statistic over resamples of what was observed (math.md, eq. 106). The same numbers give the same
 * interval.
 *
 * @param items - what is independent: images, seeds, pairs
 */
export function bootstrapInterval<T>(
  items: readonly T[],
  statistic: (sample: readonly T[]) => number,
  { resamples = 2000, confidence = 0.95, seed = 0 }: BootstrapOptions = {},
): { readonly value: number; readonly low: number; readonly high: number } {
  const call = 'bootstrapInterval'
  checkInteger(call, 'items (count)', items.length, 1)
  checkInteger(call, 'resamples', resamples, 1)
  checkNumber(call, 'confidence', confidence, 0.01, 0.999999)
  const random = keyedRandom(seed, 'probe')
  const values = Float64Array.from({ length: resamples }, (_, k) => {
    const stream = random.at(k, 1)
    return statistic(items.map(() => items[stream.integer(0, items.length)] as T))
  }).sort()
  const tail = (1 - confidence) / 2
  return { value: statistic(items), low: quantile(values, tail), high: quantile(values, 1 - tail) }
}

/** A quantile of ascending values, linear between them. */
export function quantile(ascending: ArrayLike<number>, probability: number): number {
  const at = probability * (ascending.length - 1)
  const below = Math.floor(at)
  const above = Math.min(below + 1, ascending.length - 1)
  return ascending[below]! + (at - below) * (ascending[above]! - ascending[below]!)
}
