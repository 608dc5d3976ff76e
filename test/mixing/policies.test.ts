import { expect } from 'chai'
import { allHeadsPolicy } from '../../lib/mixing/all-heads.ts'
import { cappedWeight } from '../../lib/mixing/capped-weight.ts'
import { consensusPolicy } from '../../lib/mixing/consensus.ts'
import { logSnrOf } from '../../lib/mixing/log-snr-bins.ts'
import { mergePolicy } from '../../lib/mixing/merge.ts'
import { minimumPolicy } from '../../lib/mixing/minimum.ts'
import { normalisedPolicy } from '../../lib/mixing/normalised.ts'
import type { HeadPolicy } from '../../lib/mixing/policy.ts'
import { relaxedPolicy } from '../../lib/mixing/relaxed.ts'
import { softminPolicy } from '../../lib/mixing/softmin.ts'
import { tablePolicy } from '../../lib/mixing/table.ts'
import { uncertaintyPolicy } from '../../lib/mixing/uncertainty.ts'
import { signalWeights } from '../../lib/prediction/signal-weights.ts'
import { keyedRandom } from '../../lib/random.ts'
import { contextOf, LOG_SNR, losses, statisticsOf } from '../support/heads.ts'

const times = (count: number, value: number): number[] => new Array<number>(count).fill(value)
const rows = (values: Float32Array | undefined, size = 3): number[][] =>
  Array.from({ length: (values as Float32Array).length / size }, (_, i) =>
    Array.from((values as Float32Array).subarray(i * size, (i + 1) * size), (v) => Number(v.toFixed(5))),
  )
const snrAt = (t: number): number => Math.exp(LOG_SNR[t] as number)

describe('cappedWeight', () => {
  it('lets the converted error of a head count at most cap times its own error', () => {
    const weight = cappedWeight(contextOf(), 5)(Int32Array.of(0, 50, 99))
    const [clean, middle, noisy] = rows(weight)
    expect(clean?.[0]).to.be.closeTo(5 / (snrAt(0) + 4), 1e-5) // xStart at low noise
    expect([clean?.[1], clean?.[2]]).to.deep.equal([1, 1])
    expect(middle?.[2]).to.be.closeTo((5 * snrAt(50)) / (snrAt(50) + 4), 1e-5)
    expect([noisy?.[0], noisy?.[1]]).to.deep.equal([1, 1])
    expect(noisy?.[2]).to.be.closeTo((5 * snrAt(99)) / (snrAt(99) + 4), 1e-5) // eps at high noise
  })

  it('caps what the loss converts without signal or without noise, where snr is bounded by 1e-12 and 1e12', () => {
    const logSnr = logSnrOf(Float64Array.of(Number.POSITIVE_INFINITY, 1, 0))
    const weight = cappedWeight(contextOf({ logSnr }), 5)(Int32Array.of(0, 2)) as Float32Array
    expect(weight[0]! * 1e12).to.be.closeTo(5, 1e-6) // xStart counts 1e12 times its own error in F
    expect((weight[5]! * 4) / 1e-12).to.be.closeTo(5, 1e-6) // eps 4e12 times
    expect([weight[1], weight[2], weight[3], weight[4]]).to.deep.equal([1, 1, 1, 1])
  })

  it('caps nothing in the heads’ own units, or with a cap of 0', () => {
    expect(cappedWeight(contextOf({ space: 'own' }), 5)(Int32Array.of(1))).to.equal(undefined)
    expect(allHeadsPolicy(contextOf(), { cap: 0 }).decide(Int32Array.of(1), 0)).to.deep.equal({})
    expect(rows(cappedWeight(contextOf({ space: 'v' }), 5)(Int32Array.of(50)))[0]?.[1]).to.equal(1)
  })
})

describe('minimumPolicy', () => {
  it('trains all heads alike first, and then the smallest alone', () => {
    const floors = (policy: HeadPolicy) =>
      [0, 9, 10].map((step) => policy.decide(Int32Array.of(0), step).floor)
    expect(floors(minimumPolicy(contextOf(), { warmup: 10 }))).to.deep.equal([2 / 3, 2 / 3, 0])
    expect(floors(minimumPolicy(contextOf()))).to.deep.equal([undefined, undefined, undefined])
  })
})

describe('relaxedPolicy', () => {
  it('lowers the floor in equal steps and then keeps it', () => {
    const policy = relaxedPolicy(contextOf({ courseSteps: 101 }))
    const floors = [0, 50, 100, 1000].map((step) => policy.decide(Int32Array.of(0), step).floor)
    expect(floors.map((floor) => floor?.toFixed(6))).to.deep.equal([
      '0.300000',
      '0.200000',
      '0.100000',
      '0.100000',
    ])
    expect(policy.decide(Int32Array.of(0, 1), 0).headWeight).to.have.length(6)
  })
})

describe('softminPolicy', () => {
  const temperature = (policy: HeadPolicy, step: number): number =>
    policy.decide(Int32Array.of(0), step).temperature as number

  it('lowers the temperature by equal factors', () => {
    const policy = softminPolicy(contextOf({ courseSteps: 3 }), { from: 1, to: 0.01 })
    expect([0, 1, 2, 9].map((step) => temperature(policy, step).toFixed(6))).to.deep.equal([
      '1.000000',
      '0.100000',
      '0.010000',
      '0.010000',
    ])
  })

  it('stays where the least win rate falls to the stop, but only once it was above', () => {
    const statistics = statisticsOf({ halfLife: Number.POSITIVE_INFINITY })
    const policy = softminPolicy(contextOf({ statistics, courseSteps: 101 }), { stop: 0.1 })
    const see = (errors: readonly number[], count: number): void => {
      statistics.observe(losses(times(count, 0), errors))
      policy.observe?.(losses([0], errors))
    }
    temperature(policy, 10)
    see([1, 2, 3], 10) // eps has never won
    expect(temperature(policy, 20)).to.be.lessThan(temperature(policy, 10))
    see([2, 1, 3], 10)
    see([3, 2, 1], 10) // each has won a third
    temperature(policy, 30)
    see([1, 2, 3], 100) // 10 of 130 are less than a tenth
    const kept = temperature(policy, 31)
    expect(kept).to.equal(temperature(softminPolicy(contextOf({ courseSteps: 101 })), 30))
    expect(temperature(policy, 90)).to.equal(kept)

    const resumed = softminPolicy(contextOf({ statistics, courseSteps: 101 }), { stop: 0.1 })
    resumed.restore?.(JSON.parse(JSON.stringify(policy.state?.())))
    expect(temperature(resumed, 90)).to.equal(kept)
    expect(() => resumed.restore?.({})).to.throw(
      'softminPolicy.restore: expected state to be that of a softmin',
    )
  })
})

describe('tablePolicy', () => {
  it('counts all heads equally until a noise level has seen enough, and then prefers its best', () => {
    const statistics = statisticsOf()
    const policy = tablePolicy(contextOf({ statistics }))
    statistics.observe(losses(times(49, 5), [3, 2, 1]))
    statistics.observe(losses(times(300, 95), [1, 2, 3]))
    const third = Number((1 / 3).toFixed(5))
    const share = (): number[][] => rows(policy.decide(Int32Array.of(5, 95, 50), 0).share)
    expect(share()).to.deep.equal([times(3, third), [0.8, 0.1, 0.1], times(3, third)])
    statistics.observe(losses([5], [3, 2, 1]))
    expect(share()[0]).to.deep.equal([0.1, 0.1, 0.8])
  })

  it('does not look at the examples', () => {
    const statistics = statisticsOf()
    statistics.observe(losses(times(300, 5), [3, 2, 1]))
    const policy = tablePolicy(contextOf({ statistics }), { best: 1 })
    const before = policy.decide(Int32Array.of(5, 6), 3)
    expect(policy.decide(Int32Array.of(5, 6), 4)).to.deep.equal(before)
    expect(rows(before.share)).to.deep.equal([
      [0, 0, 1],
      [0, 0, 1],
    ])
  })
})

describe('consensusPolicy', () => {
  it('mixes by signal at first, then with the best weights of the noise level', () => {
    const statistics = statisticsOf()
    const policy = consensusPolicy(contextOf({ statistics }), { kappa: 0.5 })
    const weight = (): number[] => rows(policy.decide(Int32Array.of(5), 0).mixture?.weight)[0] as number[]
    const alphaBar = 1 / (1 + 1 / snrAt(5))
    const { xStart = 0, v = 0, eps = 0 } = signalWeights(alphaBar, ['xStart', 'v', 'eps'])
    expect(weight().map((w) => w.toFixed(4))).to.deep.equal([xStart, v, eps].map((w) => w.toFixed(4)))
    statistics.observe(losses(times(200, 5), [1, 2, 4]))
    expect(weight()[0]).to.be.closeTo(4 / 7, 2e-3)
    expect(policy.decide(Int32Array.of(5), 0).mixture?.factor).to.equal(0.5)
    const sums = rows(policy.decide(Int32Array.of(0, 5, 40, 99), 0).mixture?.weight).map((row) =>
      row.reduce((a, b) => a + b),
    )
    for (const sum of sums) expect(sum).to.be.closeTo(1, 1e-4)
  })

  it('leaves eps out where no signal is left, whatever its noise level has learned', () => {
    const snr = Float64Array.from(LOG_SNR, Math.exp)
    snr[99] = 0
    const withEnd = logSnrOf(snr)
    const statistics = statisticsOf({ logSnr: withEnd })
    const policy = consensusPolicy(contextOf({ statistics, logSnr: withEnd }))
    statistics.observe(losses(times(200, 95), [1, 2, 4]))
    const [before, end] = rows(policy.decide(Int32Array.of(98, 99), 0).mixture?.weight)
    expect(before?.[2]).to.be.closeTo(1 / 7, 2e-3)
    expect(end).to.deep.equal([0.5, 0.5, 0])
    const two = contextOf({ statistics, logSnr: withEnd, heads: ['xStart', 'eps'] })
    expect(Array.from(mergePolicy(two).decide(Int32Array.of(99), 0).mixture?.weight ?? [])).to.deep.equal([
      1, 0,
    ])
  })
})

describe('mergePolicy', () => {
  it('trains (1 - alphaBar) xStart + alphaBar eps alone', () => {
    const { share, mixture } = mergePolicy(contextOf({ heads: ['xStart', 'eps'] })).decide(
      Int32Array.of(20),
      0,
    )
    const alphaBar = 1 / (1 + 1 / snrAt(20))
    expect(Array.from(share ?? [])).to.deep.equal([0, 0])
    expect(mixture?.factor).to.equal(1)
    const weights = { xStart: mixture?.weight[0], eps: mixture?.weight[1] }
    const read = signalWeights(alphaBar, ['xStart', 'eps']) // what samplers do unless told otherwise
    expect(weights.xStart).to.be.closeTo(1 - alphaBar, 1e-6)
    expect(weights.eps).to.be.closeTo(alphaBar, 1e-6)
    for (const head of ['xStart', 'eps'] as const)
      expect(weights[head]).to.be.closeTo(read[head] as number, 1e-6)
    for (const heads of [
      ['v', 'eps'],
      ['xStart', 'v', 'eps'],
    ] as const) {
      expect(() => mergePolicy(contextOf({ heads }))).to.throw(
        'mergePolicy: expected heads to be xStart and eps, which are all that it trains, got ["',
      )
    }
  })
})

describe('normalisedPolicy', () => {
  it('divides each error by its average at that noise level, and leaves unseen levels alone', () => {
    const policy = normalisedPolicy(contextOf({ space: 'own' }))
    policy.observe?.(losses(times(10, 5), [4, 2, 0.5]))
    expect(rows(policy.decide(Int32Array.of(7), 0).headWeight)).to.deep.equal([[1, 1, 1]]) // too few images
    policy.observe?.(losses(times(90, 5), [4, 2, 0.5]))
    expect(rows(policy.decide(Int32Array.of(7, 95), 0).headWeight)).to.deep.equal([
      [0.25, 0.5, 2],
      [1, 1, 1],
    ])
    policy.observe?.(losses(times(200, 5), [8, 2, 0.5])) // one half-life
    expect(rows(policy.decide(Int32Array.of(7), 0).headWeight)[0]?.[0]).to.be.within(1 / 8, 1 / 6)
  })

  it('goes on from its state', () => {
    const [first, second] = [normalisedPolicy(contextOf()), normalisedPolicy(contextOf())]
    first.observe?.(losses([...times(30, 1), ...times(30, 30)], [4, 2, 0.5]))
    expect(rows(first.decide(Int32Array.of(1), 0).headWeight)[0]).to.deep.equal([0.25, 0.5, 2])
    second.restore?.(JSON.parse(JSON.stringify(first.state?.())))
    expect(second.decide(Int32Array.of(1, 30), 0)).to.deep.equal(first.decide(Int32Array.of(1, 30), 0))
    expect(() => first.restore?.({ sums: [1], weights: [] })).to.throw(
      'normalisedPolicy.restore: expected state to be of 3 heads and 5 bins',
    )
  })
})

describe('uncertaintyPolicy', () => {
  /** Losses whose mean falls by five orders of magnitude with noise for eps, and is even for v. */
  const mean = (t: number): number[] => [0.1 * Math.exp(0.01 * t), 0.3, 10 ** (-0.05 * t)]
  function learned(steps: number): HeadPolicy {
    const policy = uncertaintyPolicy(contextOf({ space: 'own' }))
    for (let step = 0; step < steps; step++) observe(policy, step)
    return policy
  }
  function observe(policy: HeadPolicy, step: number): void {
    const stream = keyedRandom(3, 'probe').at(step)
    const t = Array.from({ length: 8 }, () => stream.integer(0, 100))
    const perHead = t.flatMap((at) => mean(at).map((loss) => loss * (0.5 + stream.uniform())))
    policy.observe?.({ ...losses(t, [1, 1, 1]), perHead: Float32Array.from(perHead) })
  }

  it('converges to the log of the loss of each head at each noise level', () => {
    const policy = learned(3000)
    const t = Int32Array.from([0, 10, 25, 50, 75, 90, 99])
    const weights = policy.decide(t, 0).headWeight as Float32Array
    for (const [i, at] of t.entries())
      for (const [head, loss] of mean(at).entries())
        expect(-Math.log(weights[i * 3 + head] as number), `t ${at} head ${head}`).to.be.closeTo(
          Math.log(loss),
          0.25,
        )
  })

  it('is the same whenever it learns the same, and goes on from its state', () => {
    const straight = learned(60)
    const second = uncertaintyPolicy(contextOf())
    second.restore?.(JSON.parse(JSON.stringify(learned(40).state?.())))
    for (let step = 40; step < 60; step++) observe(second, step)
    expect(second.state?.()).to.deep.equal(straight.state?.())
    expect(() => second.restore?.({ steps: 1 })).to.throw(
      'uncertaintyPolicy.restore: expected state to be of 3 heads and 16 features',
    )
  })
})
