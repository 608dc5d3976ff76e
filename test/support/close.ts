import { expect } from 'chai'

type Numbers = ArrayLike<number>

/** Fails with the worst element, its index and both values, when |a - b| exceeds absolute + relative |b| somewhere. */
export function expectClose(
  actual: Numbers,
  expected: Numbers,
  { absolute = 0, relative = 0, what = 'values' }: { absolute?: number; relative?: number; what?: string },
): void {
  expect(actual.length, `${what}: length`).to.equal(expected.length)
  let worst = -1
  let worstExcess = 0
  for (let i = 0; i < expected.length; i++) {
    const a = actual[i] as number
    const b = expected[i] as number
    if (a === b) continue
    const excess = Math.abs(a - b) - (absolute + relative * Math.abs(b))
    if (!(excess <= worstExcess)) {
      worst = i
      worstExcess = Number.isNaN(excess) ? Number.POSITIVE_INFINITY : excess
    }
  }
  if (worst !== -1) {
    throw new Error(
      `${what}: expected element ${worst} of ${expected.length} to be ${expected[worst]} within ${absolute} + ${relative} |b|, got ${actual[worst]}`,
    )
  }
}

/** The tolerance of network outputs: a share of the largest expected value. */
export function expectCloseToMax(actual: Numbers, expected: Numbers, share: number, what: string): void {
  let max = 0
  for (let i = 0; i < expected.length; i++) max = Math.max(max, Math.abs(expected[i] as number))
  expectClose(actual, expected, { absolute: share * max, what })
}
