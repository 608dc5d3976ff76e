import { expect } from 'chai'
import { isotonicFit } from '../../lib/statistics/isotonic.ts'

describe('isotonicFit', () => {
  it('leaves what rises, and lets neighbours that fall share their weighted mean', () => {
    expect(isotonicFit([], [])).to.deep.equal([])
    expect(isotonicFit([1, 2, 2, 5], [1, 1, 1, 1])).to.deep.equal([1, 2, 2, 5])
    expect(isotonicFit([3, 1, 2], [1, 1, 1])).to.deep.equal([2, 2, 2])
    expect(isotonicFit([1, 4, 2, 6], [1, 1, 3, 1])).to.deep.equal([1, 2.5, 2.5, 6])
  })

  it('is nearer than any other list that never falls', () => {
    const values = [0.3, 0.1, 0.5, 0.4, 0.45, 0.2, 0.9]
    const weights = [1, 2, 1, 3, 1, 2, 1]
    const fit = isotonicFit(values, weights)
    const distance = (list: readonly number[]): number =>
      list.reduce((sum, value, i) => sum + weights[i]! * (value - values[i]!) ** 2, 0)
    // The conditions of optimality: within the cone every direction away from the fit is uphill.
    for (let i = 0; i < values.length; i++) {
      for (const by of [-1e-4, 1e-4]) {
        const upper = fit.map((value, j) =>
          j >= i ? Math.max(value, fit[i]! + by) : Math.min(value, fit[i]! + by),
        )
        expect(distance(upper)).to.be.at.least(distance(fit) - 1e-12)
      }
    }
    for (const [i, value] of fit.entries()) if (i > 0) expect(value).to.be.at.least(fit[i - 1]!)
  })
})
