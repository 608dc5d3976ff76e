// Cumulative distributions in float64, to about 1e-14 of their value.

/** P(Z < z) of a standard normal Z. */
export function normalCdf(z: number): number {
  if (z > 0) return 1 - normalCdf(-z)
  return upperTail(-z)
}

/** P(low < Z < high) of a standard normal Z, exact in both tails. */
export function normalMass(low: number, high: number): number {
  if (low >= 0) return upperTail(low) - upperTail(high)
  if (high <= 0) return upperTail(-high) - upperTail(-low)
  return 1 - upperTail(-low) - upperTail(high)
}

/** P(Z > z) for z >= 0: a series near 0, a continued fraction beyond (Abramowitz & Stegun, 26.2.11 and 26.2.14). */
function upperTail(z: number): number {
  if (z > 39) return 0
  const density = Math.exp((-z * z) / 2) / Math.sqrt(2 * Math.PI)
  if (z < 3) {
    let term = z
    let sum = z
    for (let k = 1; Math.abs(term) > 1e-17 * Math.abs(sum); k++) sum += term *= (z * z) / (2 * k + 1)
    return 0.5 - density * sum
  }
  let fraction = z
  for (let k = 200; k >= 1; k--) fraction = z + k / fraction
  return density / fraction
}

/** P(X < x) of X with a Beta(a, b) law: the regularised incomplete beta function (Abramowitz & Stegun, 26.5.8). */
export function betaCdf(x: number, a: number, b: number): number {
  if (x <= 0) return 0
  if (x >= 1) return 1
  if (x > (a + 1) / (a + b + 2)) return 1 - betaCdf(1 - x, b, a)
  const logFront =
    a * Math.log(x) + b * Math.log1p(-x) + logGamma(a + b) - logGamma(a) - logGamma(b) - Math.log(a)
  // Modified Lentz's method.
  const guard = (value: number): number => (Math.abs(value) < 1e-300 ? 1e-300 : value)
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
  return Math.exp(logFront) * fraction
}

/** log Gamma(x) for x > 0 (Lanczos, g = 7, nine terms). */
function logGamma(x: number): number {
  const terms = [
    676.5203681218851, -1259.1392167224028, 771.32342877765313, -176.61502916214059, 12.507343278686905,
    -0.13857109526572012, 9.9843695780195716e-6, 1.5056327351493116e-7,
  ]
  if (x < 0.5) return Math.log(Math.PI / Math.sin(Math.PI * x)) - logGamma(1 - x)
  const sum = terms.reduce((total, term, i) => total + term / (x + i), 0.99999999999980993)
  const base = x + 6.5
  return 0.5 * Math.log(2 * Math.PI) + (x - 0.5) * Math.log(base) - base + Math.log(sum)
}
