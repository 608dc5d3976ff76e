import { expect } from 'chai'
import { gaussianEpsLoss } from '../../lib/analysis/gaussian-model.ts'
import { edgesOf, resampleCounts, ruleCurve, slotEdges } from '../../lib/analysis/slot-rules.ts'
import { curveOverTimesteps, curveSpread, probeTimesteps } from '../../lib/analysis/timestep-curve.ts'
import { partitionByLoss } from '../../lib/curriculum/partition.ts'
import { keyedRandom } from '../../lib/random.ts'
import { NoiseSchedule } from '../../lib/schedule/noise-schedule.ts'

const linear = NoiseSchedule.create()
const { snr, alphaBar } = linear.tables

/** Inner edges that differ by at most one timestep, the rounding of a cut. */
function expectNear(edges: readonly number[] | undefined, wanted: readonly number[]): void {
  const inner = edges?.slice(1, -1) ?? []
  expect(inner).to.have.length(wanted.length)
  for (const [k, edge] of inner.entries()) expect(Math.abs(edge - wanted[k]!), `edge ${k}`).to.be.at.most(1)
}

describe('probeTimesteps', () => {
  it('has every timestep below the dense part, and both ends', () => {
    const t = probeTimesteps(snr, 30, 70)
    expect(Array.from(t.subarray(0, 30))).to.deep.equal(Array.from({ length: 30 }, (_, i) => i))
    expect(t.at(-1)).to.equal(999)
    expect(t.length).to.be.within(95, 100)
    expect(t.every((value, i) => i === 0 || value > t[i - 1]!)).to.equal(true)
  })

  it('lies evenly in log snr above it', () => {
    const t = probeTimesteps(snr, 30, 20).subarray(30)
    const gaps = Array.from(t.subarray(1), (value, i) => Math.log(snr[t[i]!]! / snr[value]!))
    const mean = gaps.reduce((a, b) => a + b, 0) / gaps.length
    expect(Math.max(...gaps.map((gap) => Math.abs(gap - mean)))).to.be.below(0.1 * mean)
  })

  it('is all of a short process', () => {
    expect(probeTimesteps(Float64Array.of(9, 3, 1), 2, 2)).to.deep.equal(Int32Array.of(0, 1, 2))
  })
})

describe('curveOverTimesteps', () => {
  it('is exact for powers of the signal-to-noise ratio', () => {
    const t = probeTimesteps(snr, 5, 20)
    const curve = curveOverTimesteps(
      t,
      Float64Array.from(t, (s) => 3 * snr[s]! ** 0.7),
      snr,
    )
    for (const [s, value] of curve.entries()) expect(value / (3 * snr[s]! ** 0.7)).to.be.closeTo(1, 1e-9)
  })

  it('finds the slots of the whole curve from a tenth of its timesteps', () => {
    const loss = gaussianEpsLoss({ size: 32, alphaBar })
    const t = probeTimesteps(snr)
    const curve = curveOverTimesteps(
      t,
      Float64Array.from(t, (s) => loss[s]!),
      snr,
    )
    expect(edgesOf(partitionByLoss(curve, 10))).to.deep.equal(edgesOf(partitionByLoss(loss, 10)))
  })
})

describe('Slots of the Gaussian model', () => {
  for (const [size, edges] of [
    [32, [12, 25, 39, 56, 76, 102, 137, 187, 273]],
    [64, [11, 23, 37, 53, 73, 97, 131, 180, 266]],
    [256, [10, 21, 33, 48, 66, 90, 122, 170, 254]],
  ] as const) {
    it(`end within a timestep of the prediction for ${size} pixels on the linear schedule, and span 1e5`, () => {
      const loss = gaussianEpsLoss({ size, alphaBar })
      const found = slotEdges(loss, [], 10)
      expectNear(found?.edges, edges)
      expect(curveSpread(loss).span).to.be.within(9.8e4, 1.1e5)
    })
  }

  it('span little in v, and vary by 2.0 in eps and 0.7 in v over uniform timesteps', () => {
    const eps = gaussianEpsLoss({ size: 256, alphaBar })
    const v = eps.map((value, t) => (value * (1 + snr[t]!)) / snr[t]!)
    expect(curveSpread(v).span).to.be.closeTo(7.3, 0.1)
    expect(curveSpread(eps).variation).to.be.closeTo(2.0, 0.05)
    expect(curveSpread(v).variation).to.be.closeTo(0.7, 0.05)
    expectNear(slotEdges(v, [], 10)?.edges, [25, 59, 114, 210, 362, 532, 678, 798, 903])
  })
})

describe('Rules for slots', () => {
  it('cut what lies above a floor, and say nothing where nothing does', () => {
    const curve = Float64Array.of(4, 3, 1, 2)
    const floor = Float64Array.of(1, 3, 2, 1)
    expect(Array.from(ruleCurve('excess', curve, floor))).to.deep.equal([3, 0, 0, 1])
    expect(Array.from(ruleCurve('excessMin', curve, floor))).to.deep.equal([3, 2, 0, 1])
    const long = new Float64Array(200_000).fill(2)
    expect(curveSpread(long).span).to.equal(1)
    expect(ruleCurve('excessMin', long, long).at(-1)).to.equal(0)
    expect(Array.from(ruleCurve('gradientRoot', curve, floor))).to.deep.equal([
      2,
      Math.sqrt(3),
      1,
      Math.SQRT2,
    ])
    expect(slotEdges(ruleCurve('excess', floor, floor), [], 2)).to.equal(undefined)
  })

  it('give intervals that hold the edges of most resampled curves', () => {
    const curve = Float64Array.of(1, 1, 1, 1)
    const found = slotEdges(curve, [Float64Array.of(3, 1, 1, 1), curve, Float64Array.of(1, 1, 1, 3)], 2)
    expect(found).to.deep.equal({ edges: [0, 2, 4], low: [0, 1, 4], high: [0, 3, 4] })
  })

  it('draw as many images as there are', () => {
    const counts = resampleCounts(50, keyedRandom(1, 'probe').at(0))
    expect(counts.reduce((a, b) => a + b, 0)).to.equal(50)
    expect(counts.some((count) => count === 0)).to.equal(true)
  })
})
