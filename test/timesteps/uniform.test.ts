import { expect } from 'chai'
import { uniformSampler } from '../../lib/timesteps/uniform.ts'
import { fulfilsTheContract } from './contract.ts'

describe('uniformSampler', () => {
  fulfilsTheContract((seed) => uniformSampler({ timestepCount: 20, seed }), {
    timestepCount: 20,
    steps: 2000,
  })

  it('weighs every example with 1', () => {
    expect([...uniformSampler({ timestepCount: 10 }).draw(3, 0).weight]).to.deep.equal([1, 1, 1])
  })

  it('draws the same first timesteps whatever the batch size', () => {
    const sampler = uniformSampler({ timestepCount: 1000, seed: 2 })
    expect([...sampler.draw(4, 3).t]).to.deep.equal([...sampler.draw(16, 3).t.slice(0, 4)])
  })

  it('refuses options that do not exist or are out of range', () => {
    // @ts-expect-error a misspelt option
    expect(() => uniformSampler({ timestepCount: 10, sead: 1 })).to.throw(
      TypeError,
      'uniformSampler: expected options to be among timestepCount, seed, got unknown sead (did you mean seed?)',
    )
    expect(() => uniformSampler({ timestepCount: 0 })).to.throw(
      RangeError,
      'uniformSampler: expected timestepCount to be an integer in [1, 2147483647], got 0',
    )
    expect(() => uniformSampler({ timestepCount: 10, seed: -1 })).to.throw(
      RangeError,
      'uniformSampler: expected seed to be an integer >= 0, got -1',
    )
  })
})
