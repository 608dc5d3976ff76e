import { expect } from 'chai'
import { extent } from '../../lib/statistics/extent.ts'

describe('extent', () => {
  it('has the least and the greatest, of a hundred thousand too', () => {
    expect(extent([3, -1, 2])).to.deep.equal([-1, 3])
    expect(extent(Float64Array.from({ length: 100_000 }, (_, i) => i))).to.deep.equal([0, 99_999])
    expect(extent([])).to.deep.equal([Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY])
  })
})
