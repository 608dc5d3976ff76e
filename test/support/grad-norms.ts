import { expect } from 'chai'

/** The norm of every parameter's gradient against the original's, relative 1e-3. */
export function expectGradNorms(
  norms: Float64Array,
  names: readonly string[],
  expected: Record<string, number>,
): void {
  const largest = Math.max(...Object.values(expected))
  for (const [i, name] of names.entries()) {
    const wanted = expected[name] as number
    // A gradient that is zero but for rounding (a bias before a norm) must only be that small.
    const tolerance = Math.max(1e-3 * wanted, 1e-6 * largest)
    expect(Math.abs((norms[i] as number) - wanted), `gradient norm of ${name}`).to.be.at.most(tolerance)
  }
}
