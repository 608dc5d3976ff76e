import { readFileSync } from 'node:fs'
import { expect } from 'chai'
import {
  type LossSecondMomentOptions,
  lossSecondMomentSampler,
} from '../../lib/timesteps/loss-second-moment.ts'
import type { StepLosses } from '../../lib/timesteps/sampler.ts'
import { fulfilsTheContract } from './contract.ts'

interface Fixture {
  timestepCount: number
  updates: [t: number, loss: number][][]
  probabilities: number[][]
  draw: { count: number; seed: number; step: number; t: number[]; weight: number[] }
}

// Made by bench/reference/loss_second_moment.py.
const fixture: Fixture = JSON.parse(
  readFileSync(new URL('../fixtures/loss-second-moment.json', import.meta.url), 'utf8'),
)

function losses(pairs: readonly (readonly [t: number, loss: number])[]): StepLosses {
  const loss = Float32Array.from(pairs, ([, value]) => value)
  return { t: Int32Array.from(pairs, ([t]) => t), loss, perHead: loss, heads: ['eps'] }
}

function warmed(options: LossSecondMomentOptions) {
  const sampler = lossSecondMomentSampler(options)
  const { timestepCount, historyLength = 10 } = options
  for (let i = 0; i < historyLength; i++) {
    sampler.observe!(losses(Array.from({ length: timestepCount }, (_, t) => [t, 1 / (1 + t)])))
  }
  return sampler
}

describe('lossSecondMomentSampler', () => {
  describe('before it has learned', () => {
    fulfilsTheContract((seed) => lossSecondMomentSampler({ timestepCount: 12, seed, historyLength: 2 }), {
      timestepCount: 12,
      steps: 2000,
    })
  })

  describe('after warm-up', () => {
    fulfilsTheContract((seed) => warmed({ timestepCount: 12, seed, historyLength: 3 }), {
      timestepCount: 12,
      steps: 3000,
    })
  })

  it('has the probabilities of the original for four full histories', () => {
    const sampler = lossSecondMomentSampler({ timestepCount: 4, historyLength: 2 })
    const rows = [
      [2, 5],
      [3, 4],
      [0.5, 0.1],
      [7, 9],
    ] as const
    for (const [t, row] of rows.entries()) sampler.observe!(losses(row.map((loss) => [t, loss])))
    const expected = [0.24153012, 0.22427297, 0.02309595, 0.51110096]
    for (const [t, p] of sampler.probabilities().entries()) expect(p).to.be.closeTo(expected[t]!, 5e-9)
  })

  it('follows the reference over 260 updates, and draws its timesteps and weights', () => {
    const { timestepCount, updates, probabilities, draw } = fixture
    const sampler = lossSecondMomentSampler({ timestepCount, seed: draw.seed })
    for (const [n, update] of updates.entries()) {
      sampler.observe!(losses(update))
      if ((n + 1) % 20 !== 0) continue
      const expected = probabilities[(n + 1) / 20 - 1]!
      for (const [t, p] of sampler.probabilities().entries()) {
        expect(p, `update ${n + 1}, t = ${t}`).to.be.closeTo(expected[t]!, 1e-14)
      }
    }
    const { t, weight } = sampler.draw(draw.count, draw.step)
    expect([...t]).to.deep.equal(draw.t)
    for (const [i, value] of weight.entries()) expect(value / draw.weight[i]!).to.be.closeTo(1, 1e-6)
  })

  it('draws uniformly with weights of 1 until every timestep has its history', () => {
    const sampler = lossSecondMomentSampler({ timestepCount: 3, historyLength: 2 })
    sampler.observe!(
      losses([
        [0, 9],
        [0, 9],
        [1, 1],
        [1, 1],
        [2, 1],
      ]),
    )
    expect(sampler.warmedUp).to.equal(false)
    expect([...sampler.probabilities()]).to.deep.equal([1 / 3, 1 / 3, 1 / 3])
    expect([...sampler.draw(3, 0).weight]).to.deep.equal([1, 1, 1])
    sampler.observe!(losses([[2, 1]]))
    expect(sampler.warmedUp).to.equal(true)
    expect(sampler.probabilities()[0]).to.be.above(0.8)
  })

  it('forgets the oldest loss', () => {
    const sampler = warmed({ timestepCount: 2, historyLength: 2 })
    sampler.observe!(
      losses([
        [0, 3],
        [0, 3],
        [1, 3],
        [1, 3],
      ]),
    )
    expect([...sampler.probabilities()]).to.deep.equal([0.5, 0.5])
  })

  it('leaves losses out that are not finite', () => {
    const sampler = warmed({ timestepCount: 2, historyLength: 2 })
    const before = sampler.state!()
    sampler.observe!(
      losses([
        [0, Number.NaN],
        [1, Number.POSITIVE_INFINITY],
      ]),
    )
    expect(sampler.state!()).to.deep.equal(before)
  })

  it('is uniform when every loss is zero', () => {
    const sampler = lossSecondMomentSampler({ timestepCount: 2, historyLength: 1 })
    sampler.observe!(
      losses([
        [0, 0],
        [1, 0],
      ]),
    )
    expect([...sampler.probabilities()]).to.deep.equal([0.5, 0.5])
  })

  it('refuses a state of other options, and losses of timesteps it does not know', () => {
    const sampler = lossSecondMomentSampler({ timestepCount: 4, historyLength: 2 })
    expect(() => sampler.restore!(lossSecondMomentSampler({ timestepCount: 3 }).state!())).to.throw(
      RangeError,
      'lossSecondMomentSampler.restore: expected state to be the state of a sampler over 4 timesteps with history 2, ' +
        'got "3 timesteps with history 10"; a changed sampler starts anew, without restore',
    )
    expect(() => sampler.restore!(null)).to.throw(RangeError, 'with history 2, got null')
    expect(() => sampler.observe!(losses([[4, 1]]))).to.throw(
      RangeError,
      'lossSecondMomentSampler.observe: expected t[0] to be a timestep in [0, 3], got 4',
    )
  })
})
