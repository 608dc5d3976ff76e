import { expect } from 'chai'
import type { TimestepSampler } from '../../lib/timesteps/sampler.ts'

export interface ContractOptions {
  readonly timestepCount: number
  /** Steps over which draws are averaged; whole cycles of a plan. */
  readonly steps: number
  /** Timesteps that are ever drawn; all by default. */
  readonly visited?: (t: number) => boolean
}

/** What every timestep sampler promises; to be called inside a describe. */
export function fulfilsTheContract(
  create: (seed: number) => TimestepSampler,
  options: ContractOptions,
): void {
  const { timestepCount, steps, visited = () => true } = options

  it('draws as many timesteps and weights as asked, also one', () => {
    for (const count of [1, 2, 7, 64]) {
      const { t, weight } = create(0).draw(count, 5)
      expect(t).to.be.an.instanceof(Int32Array).with.length(count)
      expect(weight).to.be.an.instanceof(Float32Array).with.length(count)
    }
  })

  it('stays in range and gives positive, finite weights', () => {
    const sampler = create(1)
    for (let step = 0; step < steps; step++) {
      const { t, weight } = sampler.draw(5, step)
      expect([...t].every((value) => value >= 0 && value < timestepCount && visited(value))).to.equal(true)
      expect([...weight].every((value) => value > 0 && Number.isFinite(value))).to.equal(true)
    }
  })

  it('draws the same for the same seed and step, whatever was drawn before', () => {
    const [one, other] = [create(3), create(3)]
    for (let step = 0; step < 9; step++) one.draw(4, step)
    expect(one.draw(4, 9)).to.deep.equal(other.draw(4, 9))
    expect(one.draw(4, 9)).to.deep.equal(other.draw(4, 9))
  })

  it('draws something else for another seed or step', () => {
    const t = create(3).draw(64, 9).t
    expect(t).not.to.deep.equal(create(4).draw(64, 9).t)
    expect(t).not.to.deep.equal(create(3).draw(64, 10).t)
  })

  it('goes on from a restored state, through JSON, as if it had never stopped', () => {
    const learn = (sampler: TimestepSampler, step: number) => {
      const { t } = sampler.draw(8, step)
      const loss = Float32Array.from(t, (value) => 1 / (1 + value + 0.1 * step))
      sampler.observe?.({ t, loss, perHead: loss, heads: ['eps'] })
    }
    const uninterrupted = create(5)
    for (let step = 0; step < 60; step++) learn(uninterrupted, step)
    const first = create(5)
    for (let step = 0; step < 30; step++) learn(first, step)
    const resumed = create(5)
    if (first.state) resumed.restore?.(JSON.parse(JSON.stringify(first.state())))
    for (let step = 30; step < 60; step++) learn(resumed, step)
    expect(resumed.draw(32, 60)).to.deep.equal(uninterrupted.draw(32, 60))
    expect(resumed.state?.()).to.deep.equal(uninterrupted.state?.())
  })

  if (create(0).unbiased) {
    it('counts every visited timestep the same, in expectation', () => {
      const count = 8
      const sampler = create(11)
      const mass = new Float64Array(timestepCount)
      const squares = new Float64Array(timestepCount)
      for (let step = 0; step < steps; step++) {
        const { t, weight } = sampler.draw(count, step)
        for (const [i, value] of t.entries()) {
          mass[value]! += weight[i]!
          squares[value]! += weight[i]! ** 2
        }
      }
      const visitedCount = Array.from(mass, (_, t) => t).filter(visited).length
      const expected = (steps * count) / visitedCount
      for (const [t, value] of mass.entries()) {
        if (!visited(t)) expect(value).to.equal(0)
        // 5 standard deviations of a sum of independent draws
        else expect(value, `t = ${t}`).to.be.closeTo(expected, 5 * Math.sqrt(squares[t]!))
      }
    })
  }

  it('refuses a batch of nothing and a step that is none', () => {
    expect(() => create(0).draw(0, 0)).to.throw(
      RangeError,
      /\.draw: expected count to be an integer >= 1, got 0/,
    )
    expect(() => create(0).draw(1, -1)).to.throw(
      RangeError,
      /expected step to be an integer in \[0, 4294967295\], got -1/,
    )
  })
}
