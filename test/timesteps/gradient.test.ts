import { expect } from 'chai'
import { gradient } from '../../lib/timesteps/gradient.ts'

describe('gradient', () => {
  it('is central inside and one-sided at the ends, as numpy.gradient is', () => {
    expect([...gradient(Float64Array.of(1, 2, 4, 7, 11, 16))]).to.deep.equal([1, 1.5, 2.5, 3.5, 4.5, 5])
    expect([...gradient(Float64Array.of(3, 5))]).to.deep.equal([2, 2])
    expect([...gradient(Float64Array.of(3))]).to.deep.equal([0])
  })
})
