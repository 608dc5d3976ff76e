import { argumentError, checkNumber } from '../check.ts'

/** A mean and where it may lie. */
export interface MeanInterval {
  readonly mean: number
  /** Bounds of the interval; the mean itself where there is one value only. */
  readonly low: number
  readonly high: number
  readonly count: number
}

/**
 * The mean of independent values and Student's interval around it: mean +- q s / sqrt(n), q the quantile of n - 1 degrees of freedom
 * (math.md, eq. 115).
 *
 * @param confidence - in (0, 1); 0.95 by default
 */
export function meanInterval(values: ArrayLike<number>, confidence = 0.95): MeanInterval {
  const count = values.length
  if (count === 0) throw argumentError('meanInterval', 'values', 'at least one number', values)
  let mean = 0
  for (let i = 0; i < count; i++) mean += values[i]! / count
  if (count === 1) return { mean, low: mean, high: mean, count }
  let squares = 0
  for (let i = 0; i < count; i++) squares += (values[i]! - mean) ** 2
  const half = studentQuantile((1 + confidence) / 2, count - 1) * Math.sqrt(squares / (count - 1) / count)
  return { mean, low: mean - half, high: mean + half, count }
}

/**
 * Quantile of Student's distribution, by bisection of its distribution function.
 *
 * @param p - in [0.5, 1)
 * @param freedom - degrees of freedom, at least 1
 */
export function studentQuantile(p: number, freedom: number): number {
  checkNumber('studentQuantile', 'p', p, 0.5, 1 - 1e-12)
  checkNumber('studentQuantile', 'freedom', freedom, 1)
  let [low, high] = [0, 1]
  while (studentCdf(high, freedom) < p) high *= 2
  for (let i = 0; i < 100; i++) {
    const middle = (low + high) / 2
    if (studentCdf(middle, freedom) < p) low = middle
    else high = middle
  }
  return (low + high) / 2
}

/** P(X <= t) for t >= 0: 1 - I_x(n/2, 1/2) / 2 with x = n / (n + t^2). */
function studentCdf(t: number, freedom: number): number {
  return 1 - incompleteBeta(freedom / (freedom + t * t), freedom / 2, 0.5) / 2
}

/** The regularised incomplete beta function, by its continued fraction (Numerical Recipes, section 6.4). */
function incompleteBeta(x: number, a: number, b: number): number {
  if (x <= 0 || x >= 1) return x <= 0 ? 0 : 1
  if (x > (a + 1) / (a + b + 2)) return 1 - incompleteBeta(1 - x, b, a)
  const front = Math.exp(logGamma(a + b) - logGamma(a) - logGamma(b) + a * Math.log(x) + b * Math.log1p(-x))
  let [c, d] = [1, 1 / (1 - ((a + b) * x) / (a + 1))]
  let value = d
  for (let m = 1; m < 400; m++) {
    const even = (m * (b - m) * x) / ((a + 2 * m - 1) * (a + 2 * m))
    d = 1 / (1 + even * d)
    c = 1 + even / c
    value *= c * d
    const odd = (-(a + m) * (a + b + m) * x) / ((a + 2 * m) * (a + 2 * m + 1))
    d = 1 / (1 + odd * d)
    c = 1 + odd / c
    value *= c * d
    if (Math.abs(c * d - 1) < 1e-15) break
  }
  return (front * value) / a
}

/** Lanczos' approximation with g = 7 and nine terms. */
function logGamma(x: number): number {
  const terms = [
    676.5203681218851, -1259.1392167224028, 771.32342877765313, -176.61502916214059, 12.507343278686905,
    -0.13857109526572012, 9.9843695780195716e-6, 1.5056327351493116e-7,
  ]
  const sum = terms.reduce((total, term, i) => total + term / (x + i), 0.99999999999980993)
  const base = x + 6.5
  return 0.5 * Math.log(2 * Math.PI) + (x - 0.5) * Math.log(base) - base + Math.log(sum)
}
