import { readFileSync } from 'node:fs'
import { expect } from 'chai'
import { alternation } from '../../lib/statistics/alternation.ts'
import { bootstrapInterval, quantile } from '../../lib/statistics/bootstrap.ts'
import {
  holm,
  meanInterval,
  minimumDetectableEffect,
  pairedDifference,
  pairsNeeded,
} from '../../lib/statistics/paired.ts'
import { incompleteBeta, studentQuantile, studentTail } from '../../lib/statistics/student.ts'

interface Fixture {
  pairs: {
    arm: number[]
    control: number[]
    t: number
    p: number
    interval: [number, number]
    relativeInterval: [number, number]
  }[]
  studentQuantile: [number, number, number][]
  studentTail: [number, number, number][]
  incompleteBeta: [number, number, number, number][]
  holm: { values: number[]; corrected: number[] }
  alternation: {
    losses: number[]
    coefficientOfVariation: number
    autocorrelation: number
    consecutiveRatio: number
    turningPoints: number
  }
}

describe('statistics', () => {
  const fixture = JSON.parse(
    readFileSync(new URL('../fixtures/statistics.json', import.meta.url), 'utf8'),
  ) as Fixture
  const near = (value: number, expected: number, share = 1e-9) =>
    expect(value).to.be.closeTo(expected, share * Math.max(1e-6, Math.abs(expected)))

  it('has scipy’s incomplete beta function', () => {
    for (const [x, a, b, expected] of fixture.incompleteBeta) near(incompleteBeta(x, a, b), expected)
  })

  it('has scipy’s Student distribution, in both directions', () => {
    for (const [t, degrees, expected] of fixture.studentTail) near(studentTail(t, degrees), expected)
    for (const [probability, degrees, expected] of fixture.studentQuantile) {
      near(studentQuantile(probability, degrees), expected)
      near(studentQuantile(1 - probability, degrees), -expected)
    }
  })

  it('has the values of printed tables: 95 % with 4 and with 9 degrees of freedom', () => {
    expect(studentQuantile(0.975, 4).toFixed(3)).to.equal('2.776')
    expect(studentQuantile(0.975, 9).toFixed(3)).to.equal('2.262')
  })

  it('gives paired intervals and p values as scipy does, absolute and relative', () => {
    for (const { arm, control, t, p, interval, relativeInterval } of fixture.pairs) {
      const found = pairedDifference(arm, control)
      near(found.t, t, 1e-7)
      near(found.p, p, 1e-7)
      near(found.low, interval[0], 1e-7)
      near(found.high, interval[1], 1e-7)
      const relative = pairedDifference(arm, control, { relative: true })
      near(relative.low, relativeInterval[0], 1e-7)
      near(relative.high, relativeInterval[1], 1e-7)
    }
  })

  it('says nothing about the spread of a single pair', () => {
    const { n, mean, low, p } = pairedDifference([3], [2])
    expect([n, mean]).to.deep.equal([1, 1])
    expect(low).to.be.NaN
    expect(p).to.be.NaN
  })

  it('is certain where all pairs differ alike', () => {
    expect(meanInterval([1, 1, 1])).to.include({ mean: 1, low: 1, high: 1, p: 0 })
    expect(meanInterval([0, 0, 0])).to.include({ mean: 0, p: 1 })
  })

  it('refuses lists of unequal length', () => {
    expect(() => pairedDifference([1, 2], [1])).to.throw(
      RangeError,
      'pairedDifference: expected arm to be 1 values, one a pair, got [1, 2]',
    )
  })

  it('corrects p values after Holm, and leaves those that are missing alone', () => {
    const { values, corrected } = fixture.holm
    holm(values).forEach((p, i) => {
      near(p, corrected[i]!)
    })
    expect(holm([0.01, Number.NaN])).to.deep.equal([0.01, Number.NaN])
  })

  it('needs as many pairs as find the effect, and no fewer', () => {
    for (const effect of [0.005, 0.01, 0.02, 0.05]) {
      const n = pairsNeeded(0.015, effect)
      expect(minimumDetectableEffect(0.015, n)).to.be.at.most(effect)
      expect(n === 2 || minimumDetectableEffect(0.015, n - 1) > effect).to.equal(true)
    }
    expect(pairsNeeded(0.015, 0.01)).to.be.within(18, 21) // normal numbers say 18
  })

  it('bootstraps the same interval every time, around the mean', () => {
    const values = Array.from({ length: 40 }, (_, i) => i)
    const mean = (sample: readonly number[]) => sample.reduce((a, b) => a + b, 0) / sample.length
    const first = bootstrapInterval(values, mean)
    expect(bootstrapInterval(values, mean)).to.deep.equal(first)
    expect(first.value).to.equal(19.5)
    // Normal theory: 1.96 * 11.54 / sqrt(40) = 3.6
    expect(first.high - first.low).to.be.closeTo(7.2, 0.8)
    expect(bootstrapInterval(values, mean, { seed: 1 })).to.not.deep.equal(first)
  })

  it('interpolates quantiles', () => {
    expect(quantile([0, 10, 20], 0.75)).to.equal(15)
    expect(quantile([3], 0.5)).to.equal(3)
  })

  it('measures how losses alternate', () => {
    const { losses, ...expected } = fixture.alternation
    const found = alternation(losses)
    near(found.coefficientOfVariation, expected.coefficientOfVariation)
    near(found.autocorrelation, expected.autocorrelation)
    near(found.consecutiveRatio, expected.consecutiveRatio)
    near(found.turningPoints as number, expected.turningPoints)
    expect(alternation([1, 4, 1, 4, 1, 4]).consecutiveRatio).to.be.closeTo(4, 1e-12)
    expect(alternation([1, 4, 1, 4, 1, 4]).autocorrelation).to.be.below(-0.7)
    expect(alternation([1, 4, 1, 4, 1, 4]).turningPoints).to.equal(1)
    expect(alternation([6, 5, 4, 3, 2, 1]).turningPoints).to.equal(0)
    expect(alternation([1, Number.NaN, 2, 0]).count).to.equal(2)
  })
})
