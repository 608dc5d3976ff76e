import { expect } from 'chai'
import { smoothed } from '../../lib/statistics/smoothed.ts'

describe('smoothed', () => {
  it('keeps a constant, does not shift a line, and passes over NaN', () => {
    expect([...smoothed([2, 2, Number.NaN, 2], 1)]).to.deep.equal([2, 2, 2, 2])
    expect(
      smoothed(
        Array.from({ length: 101 }, (_, i) => i),
        3,
      )[50],
    ).to.be.closeTo(50, 1e-9)
    expect([...smoothed([Number.NaN], 1)]).to.deep.equal([Number.NaN])
  })

  it('counts a neighbour at the half-life half', () => {
    expect(smoothed([0, 0, 1], 2)[0]).to.be.closeTo(0.5 / (1 + 0.5 + Math.SQRT1_2), 1e-12)
  })
})
