import { expect } from 'chai'
import type { TimestepSampler } from '../../lib/timesteps/sampler.ts'
import { stratifiedSampler, systematicSampler } from '../../lib/timesteps/stratified.ts'
import { uniformSampler } from '../../lib/timesteps/uniform.ts'
import { fulfilsTheContract } from './contract.ts'

/** Variance over steps of the batch mean of f(t). */
function variance(sampler: TimestepSampler, f: (t: number) => number): number {
  const means = Array.from({ length: 400 }, (_, step) => {
    const { t } = sampler.draw(16, step)
    return t.reduce((sum, value) => sum + f(value), 0) / t.length
  })
  const mean = means.reduce((a, b) => a + b, 0) / means.length
  return means.reduce((sum, value) => sum + (value - mean) ** 2, 0) / means.length
}

describe('stratifiedSampler', () => {
  fulfilsTheContract((seed) => stratifiedSampler({ timestepCount: 19, seed }), {
    timestepCount: 19,
    steps: 2000,
  })

  it('draws one timestep from each stratum', () => {
    for (let step = 0; step < 50; step++) {
      const { t } = stratifiedSampler({ timestepCount: 1000, seed: 1 }).draw(10, step)
      expect(Array.from(t, (value) => Math.floor(value / 100))).to.deep.equal([0, 1, 2, 3, 4, 5, 6, 7, 8, 9])
    }
  })

  it('estimates the mean of a smooth loss with far less variance than uniform draws', () => {
    const options = { timestepCount: 1000, seed: 3 }
    const smooth = (t: number) => Math.exp(-t / 300)
    expect(variance(stratifiedSampler(options), smooth)).to.be.below(
      variance(uniformSampler(options), smooth) / 20,
    )
  })
})

describe('systematicSampler', () => {
  fulfilsTheContract((seed) => systematicSampler({ timestepCount: 19, seed }), {
    timestepCount: 19,
    steps: 2000,
  })

  it('spaces the batch evenly around the circle of timesteps', () => {
    const t = [...systematicSampler({ timestepCount: 1000, seed: 1 }).draw(4, 7).t].sort((a, b) => a - b)
    for (const [i, value] of t.slice(1).entries()) expect(value - t[i]!).to.be.closeTo(250, 1)
  })

  it('draws an antithetic pair for a batch of two', () => {
    const [a, b] = systematicSampler({ timestepCount: 1000, seed: 1 }).draw(2, 0).t
    expect(Math.abs(a! - b!)).to.be.closeTo(500, 1)
  })

  it('estimates the mean of a smooth loss with far less variance than uniform draws', () => {
    const options = { timestepCount: 1000, seed: 3 }
    const smooth = (t: number) => Math.exp(-t / 300)
    expect(variance(systematicSampler(options), smooth)).to.be.below(
      variance(uniformSampler(options), smooth) / 5,
    )
  })
})
