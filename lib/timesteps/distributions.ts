// The normal distribution in float64, to about 1e-14 of its value.

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
