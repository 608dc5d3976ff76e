// Student's t by the incomplete beta function (math.md, eq. 103).
import { checkNumber } from '../check.ts'

const LANCZOS = [
  0.99999999999980993, 676.5203681218851, -1259.1392167224028, 771.32342877765313, -176.61502916214059,
  12.507343278686905, -0.13857109526572012, 9.9843695780195716e-6, 1.5056327351493116e-7,
] as const

/** log of the gamma function of x > 0 (Lanczos, g = 7). */
function logGamma(x: number): number {
  const z = x - 1
  let sum: number = LANCZOS[0]
  for (let i = 1; i < LANCZOS.length; i++) sum += LANCZOS[i]! / (z + i)
  const base = z + 7.5
  return 0.5 * Math.log(2 * Math.PI) + (z + 0.5) * Math.log(base) - base + Math.log(sum)
}

/** Regularised incomplete beta function I_x(a, b), by its continued fraction (Lentz). */
export function incompleteBeta(x: number, a: number, b: number): number {
  const call = 'incompleteBeta'
  checkNumber(call, 'x', x, 0, 1)
  checkNumber(call, 'a', a, Number.MIN_VALUE)
  checkNumber(call, 'b', b, Number.MIN_VALUE)
  if (x === 0 || x === 1) return x
  if (x > (a + 1) / (a + b + 2)) return 1 - incompleteBeta(1 - x, b, a)
  const tiny = 1e-300
  const guard = (value: number): number => (Math.abs(value) < tiny ? tiny : value)
  let c = 1
  let d = 1 / guard(1 - ((a + b) * x) / (a + 1))
  let fraction = d
  for (let m = 1; m <= 500; m++) {
    const even = (m * (b - m) * x) / ((a + 2 * m - 1) * (a + 2 * m))
    d = 1 / guard(1 + even * d)
    c = guard(1 + even / c)
    fraction *= d * c
    const odd = (-(a + m) * (a + b + m) * x) / ((a + 2 * m) * (a + 2 * m + 1))
    d = 1 / guard(1 + odd * d)
    c = guard(1 + odd / c)
    fraction *= d * c
    if (Math.abs(d * c - 1) < 1e-15) break
  }
  const logFront = logGamma(a + b) - logGamma(a) - logGamma(b) + a * Math.log(x) + b * Math.log1p(-x)
  return (Math.exp(logFront) * fraction) / a
}

/** P(|T| >= |t|) of Student's distribution: the two-sided p value. */
export function studentTail(t: number, degrees: number): number {
  checkNumber('studentTail', 'degrees', degrees, Number.MIN_VALUE)
  if (!Number.isFinite(t)) return Number.isNaN(t) ? Number.NaN : 0
  return incompleteBeta(degrees / (degrees + t * t), degrees / 2, 0.5)
}

/** The t that T stays below with a probability: 0.975 gives the half-width of a 95 % interval. */
export function studentQuantile(probability: number, degrees: number): number {
  checkNumber('studentQuantile', 'probability', probability, 1e-12, 1 - 1e-12)
  if (probability < 0.5) return -studentQuantile(1 - probability, degrees)
  const tail = 2 * (1 - probability)
  let low = 0
  let high = 1
  while (studentTail(high, degrees) > tail) high *= 2
  for (let i = 0; i < 200 && high - low > 1e-14 * high; i++) {
    const middle = (low + high) / 2
    if (studentTail(middle, degrees) > tail) low = middle
    else high = middle
  }
  return (low + high) / 2
}
