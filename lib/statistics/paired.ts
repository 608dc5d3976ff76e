import { argumentError, checkFinite, checkNumber } from '../check.ts'
import { studentQuantile, studentTail } from './student.ts'

/** Mean of a sample with a t interval, and the p value of a true mean of 0; NaN where a sample of one says nothing. */
export interface MeanInterval {
  /** Size of the sample: pairs, where differences are compared. */
  readonly n: number
  readonly mean: number
  readonly standardDeviation: number
  readonly low: number
  readonly high: number
  readonly t: number
  readonly p: number
}

/** The t interval of a mean (math.md, eq. 102). */
export function meanInterval(values: readonly number[], confidence = 0.95): MeanInterval {
  checkNumber('meanInterval', 'confidence', confidence, 0.01, 0.999999)
  checkFinite('meanInterval', 'values', Float64Array.from(values))
  const n = values.length
  const mean = values.reduce((sum, value) => sum + value, 0) / n
  if (n < 2) {
    const none = Number.NaN
    return { n, mean, standardDeviation: none, low: none, high: none, t: none, p: none }
  }
  const squares = values.reduce((sum, value) => sum + (value - mean) ** 2, 0)
  const standardDeviation = Math.sqrt(squares / (n - 1))
  const standardError = standardDeviation / Math.sqrt(n)
  const half = studentQuantile((1 + confidence) / 2, n - 1) * standardError
  const t = mean === 0 ? 0 : mean / standardError
  return { n, mean, standardDeviation, low: mean - half, high: mean + half, t, p: studentTail(t, n - 1) }
}

/**
 * Differences of pairs that share a seed, and with it images, timesteps and noise (math.md, eq. 102).
 *
 * @param relative - each difference as a share of its control's value
 */
export function pairedDifference(
  arm: readonly number[],
  control: readonly number[],
  { relative = false, confidence = 0.95 }: { relative?: boolean; confidence?: number } = {},
): MeanInterval {
  if (arm.length !== control.length || arm.length === 0) {
    throw argumentError('pairedDifference', 'arm', `${control.length} values, one a pair`, arm)
  }
  const differences = arm.map((value, i) => (value - control[i]!) / (relative ? control[i]! : 1))
  return meanInterval(differences, confidence)
}

/** Holm's correction: p values of several comparisons, each as if it were the only one (math.md, eq. 104). NaN stays. */
export function holm(values: readonly number[]): number[] {
  const order = values.flatMap((p, i) => (Number.isNaN(p) ? [] : [i]))
  order.sort((a, b) => values[a]! - values[b]!)
  const corrected = values.map(() => Number.NaN)
  let largest = 0
  for (const [rank, i] of order.entries()) {
    largest = Math.max(largest, Math.min(1, (order.length - rank) * values[i]!))
    corrected[i] = largest
  }
  return corrected
}

/** The smallest difference that this many pairs would find with 80 % power at 5 % (math.md, eq. 105). */
export function minimumDetectableEffect(standardDeviation: number, n: number, power = 0.8): number {
  checkNumber('minimumDetectableEffect', 'power', power, 0.01, 0.999)
  if (n < 2) return Number.NaN
  const t = studentQuantile(0.975, n - 1) + studentQuantile(power, n - 1)
  return (t * standardDeviation) / Math.sqrt(n)
}

/** The least pairs whose minimum detectable effect is `effect` or less. */
export function pairsNeeded(standardDeviation: number, effect: number, power = 0.8): number {
  checkNumber('pairsNeeded', 'standardDeviation', standardDeviation, 0)
  checkNumber('pairsNeeded', 'effect', effect, Number.MIN_VALUE)
  let n = Math.max(2, Math.floor((2.8 * standardDeviation) ** 2 / effect ** 2) - 2) // normal numbers need fewer than t
  while (minimumDetectableEffect(standardDeviation, n, power) > effect) n++
  return n
}
