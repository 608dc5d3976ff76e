import { expect } from 'chai'
import { meanInterval, studentQuantile } from '../../lib/analysis/student-interval.ts'

describe('studentQuantile', () => {
  it('has the values of tables', () => {
    for (const [freedom, wanted] of [
      [1, 12.7062],
      [2, 4.30265],
      [4, 2.77645],
      [9, 2.26216],
      [30, 2.04227],
    ] as const) {
      expect(studentQuantile(0.975, freedom)).to.be.closeTo(wanted, 1e-4)
    }
    expect(studentQuantile(0.5, 3)).to.be.closeTo(0, 1e-9)
  })
})

describe('meanInterval', () => {
  it('is Student’s, and one value alone has no width', () => {
    const { mean, low, high, count } = meanInterval([1, 2, 3])
    expect([mean, count]).to.deep.equal([2, 3])
    expect(high - mean).to.be.closeTo(4.30265 / Math.sqrt(3), 1e-4)
    expect(mean - low).to.be.closeTo(high - mean, 1e-12)
    expect(meanInterval([5])).to.deep.equal({ mean: 5, low: 5, high: 5, count: 1 })
  })

  it('refuses no values', () => {
    expect(() => meanInterval([])).to.throw(
      RangeError,
      'meanInterval: expected values to be at least one number, got []',
    )
  })
})
