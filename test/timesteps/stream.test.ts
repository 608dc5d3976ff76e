import { expect } from 'chai'
import { gaussianEpsLoss } from '../../lib/analysis/gaussian-model.ts'
import { lawSampler } from '../../lib/timesteps/law-sampler.ts'
import { uniformLaw } from '../../lib/timesteps/laws/uniform.ts'
import { goldenSampler, stratifiedSampler, systematicSampler } from '../../lib/timesteps/stratified.ts'
import { positionStream, STREAMS } from '../../lib/timesteps/stream.ts'
import { uniformSampler } from '../../lib/timesteps/uniform.ts'
import { fulfilsTheContract } from './contract.ts'
import { linearAlphaBar } from './schedules.ts'

const T = 1000
const alphaBar = linearAlphaBar(T)

/** Losses of the best predictor of Gaussian images of 256 pixels, in eps, v and F. */
const eps = gaussianEpsLoss({ size: 256, alphaBar })
const snr = Float64Array.from(alphaBar, (signal) => signal / (1 - signal))
const v = eps.map((loss, t) => (loss / snr[t]!) * (1 + snr[t]!))
const F = eps.map((loss, t) => (loss / snr[t]!) * (snr[t]! + 4))

/** Coefficient of variation of the batch mean, exactly: moments of the positions' laws instead of draws. */
function exactVariation(
  loss: Float64Array,
  count: number,
  stream: 'iid' | 'stratified' | 'systematic',
): number {
  const mean = loss.reduce((a, b) => a + b, 0) / T
  const variance = (values: Float64Array): number => {
    const average = values.reduce((a, b) => a + b, 0) / values.length
    return values.reduce((sum, value) => sum + (value - average) ** 2, 0) / values.length
  }
  const strata = T / count
  if (stream === 'iid') return Math.sqrt(variance(loss) / count) / mean
  if (stream === 'stratified') {
    const parts = Array.from({ length: count }, (_, i) => variance(loss.slice(i * strata, (i + 1) * strata)))
    return Math.sqrt(parts.reduce((a, b) => a + b, 0)) / count / mean
  }
  const means = Float64Array.from({ length: strata }, (_, offset) => {
    let sum = 0
    for (let i = 0; i < count; i++) sum += loss[offset + i * strata]! / count
    return sum
  })
  return Math.sqrt(variance(means)) / mean
}

/** The same from draws over many steps. */
function measured(
  sampler: ReturnType<typeof uniformSampler>,
  loss: Float64Array,
  count: number,
  window = 1,
): number {
  const means = Array.from({ length: 4000 }, (_, k) => {
    let sum = 0
    for (let step = k * window; step < (k + 1) * window; step++)
      for (const t of sampler.draw(count, step).t) sum += loss[t]! / (count * window)
    return sum
  })
  const mean = means.reduce((a, b) => a + b, 0) / means.length
  return Math.sqrt(means.reduce((sum, value) => sum + (value - mean) ** 2, 0) / means.length) / mean
}

describe('goldenSampler', () => {
  fulfilsTheContract((seed) => goldenSampler({ timestepCount: 19, seed }), { timestepCount: 19, steps: 2000 })

  it('is one sequence over all steps, whatever the batch size', () => {
    const sampler = goldenSampler({ timestepCount: 1000, seed: 3 })
    const fours = [0, 1, 2, 3].flatMap((step) => [...sampler.draw(4, step).t])
    expect(fours).to.deep.equal([...sampler.draw(8, 0).t, ...sampler.draw(8, 1).t])
  })

  it('leaves no gap greater than 1.9 / n in any window of n positions', () => {
    const positions = positionStream('golden', 5)
    for (const first of [0, 1000, 2 ** 30]) {
      for (const steps of [4, 16, 64]) {
        const window = Array.from({ length: steps }, (_, k) => [...positions(4, first + k)]).flat()
        const sorted = window.sort((a, b) => a - b)
        const gaps = sorted.map((u, i) => (i + 1 < sorted.length ? sorted[i + 1]! : sorted[0]! + 1) - u)
        expect(Math.max(...gaps)).to.be.below(1.9 / sorted.length)
      }
    }
  })

  it('covers every tenth of the timesteps in any 16 examples', () => {
    const sampler = goldenSampler({ timestepCount: 1000, seed: 1 })
    for (let step = 0; step < 200; step++) {
      const t = [0, 1, 2, 3].flatMap((k) => [...sampler.draw(4, step + k).t])
      expect(new Set(t.map((value) => Math.floor(value / 100))).size).to.equal(10)
    }
  })

  it('gives over 16 steps of batch 4 a mean eps loss that varies less than a third of that of independent draws', () => {
    const options = { timestepCount: T, seed: 1 }
    const golden = measured(goldenSampler(options), eps, 4, 16)
    expect(golden).to.be.below(0.08)
    expect(measured(uniformSampler(options), eps, 4, 16)).to.be.closeTo(0.25, 0.02)
    expect(measured(goldenSampler(options), v, 4, 16)).to.be.below(0.025)
  })
})

describe('Streams', () => {
  it('give the uniform law the timesteps of the samplers of the same name', () => {
    const samplers = {
      iid: uniformSampler,
      stratified: stratifiedSampler,
      systematic: systematicSampler,
      golden: goldenSampler,
    }
    const law = uniformLaw(1024) // whose running sums are exact
    for (const stream of STREAMS)
      for (const step of [0, 9])
        expect(lawSampler({ law, stream, seed: 4 }).draw(7, step)).to.deep.equal(
          samplers[stream]({ timestepCount: 1024, seed: 4 }).draw(7, step),
        )
  })

  it('draw what they drew before there was a choice of streams', () => {
    const options = { timestepCount: 1000, seed: 7 }
    expect([...stratifiedSampler(options).draw(4, 3).t]).to.deep.equal([23, 463, 564, 891])
    expect([...systematicSampler(options).draw(4, 3).t]).to.deep.equal([92, 342, 592, 842])
    expect([...uniformSampler(options).draw(4, 3).t]).to.deep.equal([92, 853, 257, 564])
    expect([...goldenSampler(options).draw(4, 3).t]).to.deep.equal([515, 133, 751, 369])
  })

  it('vary the mean of a batch as the Gaussian model says: eps, v and F, independent, stratified, systematic', () => {
    const table: [count: number, expected: number[][]][] = [
      [4, [[1.0, 0.67, 0.73], [0.34, 0.26, 0.24], [0.16, 0.08, 0.03]]],
      [8, [[0.71, 0.3, 0.38], [0.24, 0.12, 0.12], [0.11, 0.04, 0.01]]],
    ] // biome-ignore format: a table
    for (const [count, rows] of table)
      for (const [k, loss] of [eps, v, F].entries())
        for (const [j, stream] of (['iid', 'stratified', 'systematic'] as const).entries())
          expect(exactVariation(loss, count, stream), `B = ${count}, ${k}, ${stream}`).to.be.closeTo(
            rows[k]![j]!,
            0.011,
          )
  })

  it('vary the mean of drawn batches so, too', () => {
    const options = { timestepCount: T, seed: 2 }
    expect(measured(uniformSampler(options), eps, 4)).to.be.closeTo(exactVariation(eps, 4, 'iid'), 0.05)
    expect(measured(stratifiedSampler(options), eps, 4)).to.be.closeTo(
      exactVariation(eps, 4, 'stratified'),
      0.03,
    )
    expect(measured(systematicSampler(options), eps, 4)).to.be.closeTo(
      exactVariation(eps, 4, 'systematic'),
      0.03,
    )
  })
})
