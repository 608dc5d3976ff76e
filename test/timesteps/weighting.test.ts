import { expect } from 'chai'
import { logSnrEdges } from '../../lib/timesteps/law.ts'
import { edmLaw } from '../../lib/timesteps/laws/log-snr.ts'
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
    expect(Object.keys(table).sort()).to.deep.equal([...WEIGHTING_NAMES].sort())
    for (const name of WEIGHTING_NAMES)
      for (const [i, s] of [0.25, 4, 100].entries())
        expectClose(weightingOf(name)(s), table[name]![i]!, `${name} ${s}`)
  })

  it('takes its numbers by name', () => {
    expect(weightingOf('min-snr', { gamma: 2 })(4)).to.equal(2)
    expectClose(weightingOf('p2', { gamma: 0.5 })(3), 1.5)
    expectClose(weightingOf('edm', { sigmaData: 1 })(3), 4)
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
    expect(() => weightingFactors({ alphaBar, weighting: () => -1, space: 'v' })).to.throw(
      RangeError,
      /expected the weight at snr 9999.* to be positive and finite, got -1/,
    )
    expect(() => weightingFactors({ alphaBar, weighting: 'lsimple', space: 'own' as 'v' })).to.throw(
      RangeError,
      'weightingFactors: expected space to be one of xStart, v, eps, F, got "own"',
    )
    const probabilities = new Float64Array(1000)
    expect(() => weightingFactors({ alphaBar, weighting: 'sigmoid', space: 'v', probabilities })).to.throw(
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
