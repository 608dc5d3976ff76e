import { expect } from 'chai'
import { logSnrEdges } from '../../lib/timesteps/law.ts'
import { cosineLaw, edmLaw } from '../../lib/timesteps/laws/log-snr.ts'
import { lossSecondMomentSampler } from '../../lib/timesteps/loss-second-moment.ts'
import { uniformSampler } from '../../lib/timesteps/uniform.ts'
import { weightedSampler } from '../../lib/timesteps/weighted-sampler.ts'
import {
  COMMON_SPACES,
  spaceFactor,
  WEIGHTING_NAMES,
  weightingFactors,
  weightingOf,
} from '../../lib/timesteps/weighting.ts'
import { cosineAlphaBar, linearAlphaBar } from './schedules.ts'

const alphaBar = linearAlphaBar()
const snr = Float64Array.from(alphaBar, (signal) => signal / (1 - signal))
const rows = [0, 99, 500, 999]

function expectClose(actual: number, expected: number, message?: string): void {
  expect(actual / expected, message).to.be.closeTo(1, 1e-12)
}

describe('A weighting', () => {
  it('has its value of W at snr 1/4, 4 and 100', () => {
    const table: Record<string, number[]> = {
      lsimple: [0.25, 4, 100],
      constant: [1, 1, 1],
      'snr+1': [1.25, 5, 101],
      'truncated-snr': [1, 4, 100],
      'min-snr': [0.25, 4, 5],
      'soft-min-snr': [1 / 4.25, 2, 400 / 104],
      p2: [0.2, 0.8, 100 / 101],
      debias: [0.5, 2, 10],
      sigmoid: [0.25 / (1 + 0.25 / Math.E ** 2), 4 / (1 + 4 / Math.E ** 2), 100 / (1 + 100 / Math.E ** 2)],
      edm: [4.25, 8, 104],
    }
    const normal = (z: number): number => Math.exp((-z * z) / 2) / Math.sqrt(2 * Math.PI)
    const edm = (s: number): number => (normal((Math.log(s) - 2.4) / 2.4) / 2.4) * (1 + s / 4)
    table['edm-monotonic'] = [edm(0.25), edm(4), edm(100)]
    table.cosmap = [0.9 / Math.PI, 3.6 / Math.PI, 1210 / (101 * Math.PI)]
    const names = WEIGHTING_NAMES.filter((name) => name !== 'change-aware') // which needs the schedule
    expect(Object.keys(table).sort()).to.deep.equal([...names].sort())
    for (const name of names)
      for (const [i, s] of [0.25, 4, 100].entries())
        expectClose(weightingOf(name)(s), table[name]![i]!, `${name} ${s}`)
  })

  it('takes its numbers by name', () => {
    expect(weightingOf('min-snr', { gamma: 2 })(4)).to.equal(2)
    expectClose(weightingOf('p2', { gamma: 0.5 })(3), 1.5)
    expectClose(weightingOf('edm', { sigmaData: 1 })(3), 4)
    expectClose(weightingOf('sigmoid', { b: -1 })(3), 3 / (1 + 3 * Math.E))
    // The density of N(0, 2^2) at 0, times 1 + snr: to the right of the only peak.
    const numbers = { mean: 0, deviation: 1, sigmaData: 1 }
    expectClose(weightingOf('edm-monotonic', numbers)(1), 1 / Math.sqrt(2 * Math.PI))
    expect(weightingOf('edm-monotonic', { mean: 0.5 })(1)).to.be.above(0)
  })

  it('min-snr gives eps, xStart and v the three published factors', () => {
    const factors = (space: 'eps' | 'xStart' | 'v') =>
      weightingFactors({ alphaBar, weighting: 'min-snr', space })
    for (const t of rows) {
      const s = snr[t]!
      expectClose(factors('eps')[t]!, Math.min(s, 5) / s)
      expectClose(factors('xStart')[t]!, Math.min(s, 5))
      expectClose(factors('v')[t]!, Math.min(s, 5) / (s + 1))
    }
  })

  it('soft-min-snr is k-diffusion’s factor on the F error, p2 and debias the published ones on the eps error', () => {
    const soft = weightingFactors({ alphaBar, weighting: 'soft-min-snr', space: 'F' })
    const p2 = weightingFactors({ alphaBar, weighting: 'p2', space: 'eps' })
    const debias = weightingFactors({ alphaBar, weighting: 'debias', space: 'eps' })
    for (const t of rows) {
      const sigma2 = 1 / snr[t]!
      expectClose(soft[t]!, (sigma2 * 0.25) / (sigma2 + 0.25) ** 2)
      expectClose(p2[t]!, 1 / (1 + snr[t]!))
      expectClose(debias[t]!, 1 / Math.sqrt(snr[t]!))
    }
  })

  it('of a space itself is 1 in that space', () => {
    for (const [
      weighting,
      space,
    ] of [['lsimple', 'eps'], ['constant', 'xStart'], ['snr+1', 'v'], ['edm', 'F']] as const) // biome-ignore format: pairs
      for (const factor of weightingFactors({ alphaBar, weighting, space })) expectClose(factor, 1)
  })

  it('weighs the error of xStart alike in every space', () => {
    for (const weighting of WEIGHTING_NAMES) {
      const inXStart = weightingFactors({ alphaBar, weighting, space: 'xStart' })
      for (const space of COMMON_SPACES) {
        const factors = weightingFactors({ alphaBar, weighting, space })
        for (const t of rows) expectClose(factors[t]! * spaceFactor(space, snr[t]!), inXStart[t]!)
      }
    }
  })

  it('is positive and finite at the first and the last timestep, without signal and without noise', () => {
    const ends = Float64Array.from(cosineAlphaBar(50))
    ends[0] = 1
    ends[49] = 0
    for (const weighting of WEIGHTING_NAMES)
      for (const space of COMMON_SPACES)
        for (const factor of weightingFactors({ alphaBar: ends, weighting, space }))
          expect(factor > 0 && factor <= 1e13, `${weighting} ${space} ${factor}`).to.equal(true)
    const minSnr = weightingFactors({ alphaBar: ends, weighting: 'min-snr', space: 'eps' })
    expectClose(minSnr[49]!, 1)
    expectClose(minSnr[0]!, 5e-6)
    expectClose(weightingFactors({ alphaBar: ends, weighting: 'constant', space: 'eps' })[49]!, 1e6)
  })

  it('sigmoid makes law times weight snr sigmoid(b - log snr) on log snr, whatever the law', () => {
    const edges = logSnrEdges('test', alphaBar)
    for (const probabilities of [new Float64Array(1000).fill(1e-3), edmLaw(alphaBar, -1.2, 2).at(0)]) {
      const factors = weightingFactors({ alphaBar, weighting: 'sigmoid', space: 'eps', probabilities })
      for (const t of rows) {
        const width = edges[t]! - edges[t + 1]!
        const sigmoid = 1 / (1 + Math.exp(-(2 - Math.log(snr[t]!))))
        expectClose(probabilities[t]! * factors[t]!, sigmoid * width)
      }
    }
  })

  it('cosmap is SD3’s density over the time of a rectified flow, on its velocity error', () => {
    const density = (t: number): number => 2 / (Math.PI * (1 - 2 * t + 2 * t * t))
    const logSnr = (t: number): number => 2 * Math.log((1 - t) / t)
    for (const t of [0.02, 0.3, 0.5, 0.9, 0.98]) {
      const perLogSnr = (2 * 1e-6) / (logSnr(t - 1e-6) - logSnr(t + 1e-6))
      const ofXStart = (density(t) * perLogSnr) / t ** 2 // velocity = (x_t - xStart) / t
      expect(weightingOf('cosmap')(Math.exp(logSnr(t))) / ofXStart).to.be.closeTo(1, 1e-7)
    }
    // And the factor on a flow's own schedule, whose timesteps are drawn uniformly, is that density.
    const times = Float64Array.from({ length: 1000 }, (_, i) => (i + 0.5) / 1000)
    const flow = times.map((t) => (1 - t) ** 2 / ((1 - t) ** 2 + t ** 2))
    const factors = weightingFactors({ alphaBar: flow, weighting: 'cosmap', space: 'xStart' })
    for (const i of [20, 300, 500, 900]) {
      const t = times[i]!
      expect((factors[i]! * t ** 2) / density(t)).to.be.closeTo(1, 1e-3)
    }
  })

  it('cosmap under the law cosine leaves the velocity error of a rectified flow as it is', () => {
    const probabilities = cosineLaw(alphaBar).at(0)
    const factors = weightingFactors({ alphaBar, weighting: 'cosmap', space: 'xStart', probabilities })
    const velocity = Float64Array.from(snr, (s) => (1 + Math.sqrt(s)) ** 2)
    const last = factors[500]! / velocity[500]!
    for (const t of [50, 99, 300, 999]) expect(factors[t]! / velocity[t]! / last).to.be.closeTo(1, 1e-3)
  })

  it('edm-monotonic is EDM’s law and weighting on the low-noise side of their maximum', () => {
    const probabilities = edmLaw(alphaBar).at(0)
    const factors = weightingFactors({ alphaBar, weighting: 'edm-monotonic', space: 'F', probabilities })
    for (const t of [50, 100, 300, 500]) expect(factors[t]! / factors[200]!).to.be.closeTo(1, 1e-3)
    expect(factors[999]! / factors[200]!).to.be.above(2) // log snr below the peak at -3.3
  })

  it('edm-monotonic never rises with log snr, and is the least such function above EDM’s', () => {
    for (const [mean, deviation, sigmaData] of [
      [-1.2, 1.2, 0.5],
      [0.4, 0.3, 1],
      [-3, 1.5, 0.5], // two peaks, the higher one at less noise
      [-3, 1.5, 0.25], // two peaks, the higher one at more noise
      [-2.4, 1.4, 0.5],
    ] as const) {
      const monotonic = weightingOf('edm-monotonic', { mean, deviation, sigmaData })
      const spread = 2 * deviation
      const raw = (x: number): number =>
        (Math.exp(-(((x + 2 * mean) / spread) ** 2) / 2) / (spread * Math.sqrt(2 * Math.PI))) *
        (Math.exp(-x) + sigmaData ** 2)
      let greatest = 0
      let farthest = 0
      for (let x = 12; x > -13; x -= 1e-3) {
        greatest = Math.max(greatest, raw(x))
        const found = monotonic(Math.exp(x)) / Math.exp(x)
        farthest = Math.max(farthest, Math.abs(found / greatest - 1))
      }
      expect(farthest, `${mean} ${deviation} ${sigmaData}`).to.be.below(2e-6)
    }
  })

  it('change-aware is SpeeD’s factor on the eps error', () => {
    const factors = weightingFactors({ alphaBar, weighting: 'change-aware', space: 'eps' })
    // Of its formula written out in Python, for the linear schedule, lambda 0.6 and tau 700.
    for (const [
      t,
      expected,
    ] of [[0, 0.40878595596755607], [99, 0.5378733432464532], [250, 0.5962493034557002], [500, 0.45803178330053407], [699, 0.4072033252146887], [700, 1], [999, 1]] as const) // biome-ignore format: one list
      expect(factors[t]!, `t = ${t}`).to.be.closeTo(expected, 1e-11)
    expect(factors[219]).to.be.closeTo(0.6, 1e-12) // where the noise grows the most
  })

  it('change-aware takes its least and its greatest slope over all timesteps, and 1 from tau on', () => {
    for (const schedule of [cosineAlphaBar(), linearAlphaBar(50), Float64Array.of(0.9, 0.6, 0.1)])
      for (const [lambda, part] of [[0.6, 0.7], [0.3, 0.2], [0.9, 1], [0.5, 0]] as const) {
        const count = schedule.length
        const tau = Math.round(part * count)
        const slopes: number[] = []
        for (let t = 0; t < count; t++) {
          if (t === 0) slopes.push(schedule[0]! - schedule[1]!)
          else if (t === count - 1) slopes.push(schedule[t - 1]! - schedule[t]!)
          else slopes.push(0.5 * (schedule[t - 1]! - schedule[t + 1]!))
        }
        const sorted = slopes.toSorted((a, b) => a - b)
        const [least, most] = [sorted[0]!, sorted.at(-1)!]
        const factors = weightingFactors({ alphaBar: schedule, weighting: 'change-aware', numbers: { lambda, tau }, space: 'eps' })
        for (const [t, slope] of slopes.entries()) {
          const share = (slope - least) / (most - least)
          expect(factors[t]!, `${count} ${lambda} ${t}`).to.be.closeTo(t < tau ? (1 - share) * (1 - lambda) + share * lambda : 1, 1e-10)
        }
      }
  }) // biome-ignore format: long calls

  it('change-aware has tau at 0.7 T unless it is given', () => {
    for (const count of [30, 33, 1000]) {
      const schedule = linearAlphaBar(count)
      const factors = weightingFactors({ alphaBar: schedule, weighting: 'change-aware', space: 'eps' })
      const first = factors.findIndex((factor) => Math.abs(factor - 1) < 1e-12)
      expect(first).to.equal(Math.round(0.7 * count))
    }
  })

  it('may be a function of your own', () => {
    const factors = weightingFactors({ alphaBar, weighting: (s) => s ** 0.25, space: 'eps' })
    expectClose(factors[500]!, snr[500]! ** -0.75)
  })

  it('refuses names, numbers and functions that are none', () => {
    expect(() => weightingOf('minsnr' as 'min-snr')).to.throw(
      RangeError,
      'weightingOf: expected name to be one of',
    )
    expect(() => weightingOf('min-snr', { k: 1 })).to.throw(TypeError, 'among gamma, got unknown k')
    expect(() => weightingOf('p2', { k: 0 })).to.throw(RangeError, 'expected k to be a number > 0, got 0')
    expect(() => weightingOf('edm-monotonic', { deviation: 0 })).to.throw(
      RangeError,
      'weightingOf: expected deviation to be a number > 0, got 0',
    )
    expect(() => weightingOf('change-aware')).to.throw(
      RangeError,
      'weightingOf: expected name to be a weighting that is a function of snr alone, got "change-aware"; weightingFactors, which is given the schedule, takes it',
    )
    for (const [numbers, message, kind] of [
      [{ lambda: 1 }, 'expected lambda to be a number in (0, 1), got 1', RangeError],
      [{ lambda: -1 }, 'expected lambda to be a number > 0, got -1', RangeError],
      [{ tau: 1001 }, 'expected tau to be an integer in [0, 1000], got 1001', RangeError],
      [{ tau: 0.7 }, 'expected tau to be an integer in [0, 1000], got 0.7', RangeError],
      [{ k: 0.4 }, 'among lambda, tau, got unknown k', TypeError],
    ] as const)
      expect(() => weightingFactors({ alphaBar, weighting: 'change-aware', numbers, space: 'eps' })).to.throw(
        kind,
        message,
      )
    const even = Float64Array.of(0.75, 0.5, 0.25)
    expect(() => weightingFactors({ alphaBar: even, weighting: 'change-aware', space: 'eps' })).to.throw(
      RangeError,
      'weightingFactors: expected alphaBar to be one that falls faster at some timesteps than at others, got Float64Array(3); change-aware weighs by how fast it falls',
    )
    expect(() => weightingFactors({ alphaBar, weighting: 'minsnr' as 'min-snr', space: 'v' })).to.throw(
      RangeError,
      'weightingFactors: expected weighting to be one of',
    )
    expect(() => weightingFactors({ alphaBar, weighting: () => -1, space: 'v' })).to.throw(
      RangeError,
      /expected the weight at snr 9999.* to be positive and finite, got -1/,
    )
    expect(() => weightingFactors({ alphaBar, weighting: 'lsimple', space: 'own' as 'v' })).to.throw(
      RangeError,
      'weightingFactors: expected space to be one of xStart, v, eps, F, got "own"',
    )
    const probabilities = new Float64Array(1000)
    for (const weighting of ['sigmoid', 'edm-monotonic', 'cosmap'] as const)
      expect(() => weightingFactors({ alphaBar, weighting, space: 'v', probabilities })).to.throw(
        RangeError,
        'expected probabilities to be positive, one a timestep, because the weighting is a density',
      )
  })
})

describe('weightedSampler', () => {
  const factors = Float64Array.from({ length: 8 }, (_, t) => 1 + t)

  it('multiplies weights and draws the same timesteps', () => {
    const inner = uniformSampler({ timestepCount: 8, seed: 2 })
    const { t, weight } = weightedSampler(inner, factors).draw(16, 3)
    expect(t).to.deep.equal(inner.draw(16, 3).t)
    expect([...weight]).to.deep.equal([...t].map((value) => 1 + value))
  })

  it('tells a sampler that learns the weighted losses, and keeps its state', () => {
    const plain = lossSecondMomentSampler({ timestepCount: 8, historyLength: 1 })
    const weighted = weightedSampler(lossSecondMomentSampler({ timestepCount: 8, historyLength: 1 }), factors)
    const t = Int32Array.from({ length: 8 }, (_, i) => i)
    const one = new Float32Array(8).fill(1)
    plain.observe!({ t, loss: Float32Array.from(factors), perHead: one, heads: ['eps'] })
    weighted.observe!({ t, loss: one, perHead: one, heads: ['eps'] })
    expect(weighted.state!()).to.deep.equal(plain.state!())
    const other = weightedSampler(lossSecondMomentSampler({ timestepCount: 8, historyLength: 1 }), factors)
    other.restore!(weighted.state!())
    expect(other.draw(9, 9)).to.deep.equal(weighted.draw(9, 9))
  })

  it('refuses factors that are no weights', () => {
    expect(() => weightedSampler(uniformSampler({ timestepCount: 2 }), Float64Array.of(1, 0))).to.throw(
      RangeError,
      'weightedSampler: expected factors[1] to be positive and finite, got 0',
    )
  })
})
