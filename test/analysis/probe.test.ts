import { expect } from 'chai'
import { pixelVariance } from '../../lib/analysis/data-variance.ts'
import { errorFactors } from '../../lib/analysis/error-space.ts'
import { probe } from '../../lib/analysis/probe.ts'
import { probeInstrument } from '../../lib/analysis/probe-instrument.ts'
import { measureTimestepLoss } from '../../lib/analysis/timestep-loss.ts'
import { UNet } from '../../lib/model/unet.ts'
import { NoiseSchedule } from '../../lib/schedule/noise-schedule.ts'
import { TINY, tinyBatch } from '../support/tiny.ts'

const images = tinyBatch(6)
const timesteps = Int32Array.of(0, 1, 4, 20, 49)
const schedule = NoiseSchedule.create({ name: 'cosine', timestepCount: 50 })
const { snr } = schedule.tables

describe('probe', () => {
  it('shows each head in every space by exact factors of one measurement', async () => {
    const unet = await UNet.create(TINY, { seed: 1 })
    const found = await probe(unet, schedule, { images, timesteps, slotCount: 3, resamples: 5 })
    const measured = await measureTimestepLoss(unet, schedule, { images, timesteps })
    expect(found.curves).to.have.length(12)
    for (const { head, space, value } of found.curves) {
      const column = measured.heads.indexOf(head)
      const unit = { xStart: 1, eps: 0, v: 0, F: 0, xPrev: 0 }
      for (const [row, t] of timesteps.entries()) {
        const s = snr[t]!
        const factors = { ...unit, eps: s, v: 1 + s, F: s + 4 }
        const wanted = (measured.perHead[row * 3 + column]! * factors[space]) / factors[head]
        expect(value[row]).to.be.closeTo(wanted, 1e-9 * wanted)
      }
    }
  })

  it('has standard errors and the same numbers whatever the images a pass', async () => {
    const unet = await UNet.create(TINY, { seed: 1 })
    const options = { images, timesteps, slotCount: 3, resamples: 0 }
    const whole = await probe(unet, schedule, options)
    const parts = await probe(unet, schedule, { ...options, batchSize: 4 })
    for (const [i, { value, standardError }] of whole.curves.entries()) {
      for (const [row, one] of value.entries()) {
        expect(parts.curves[i]!.value[row]).to.be.closeTo(one, 1e-5 * one)
        expect(standardError[row]).to.be.above(0)
      }
    }
  })

  it('recommends slots under each rule, with intervals around their edges', async () => {
    const unet = await UNet.create(TINY, { seed: 1 })
    const found = await probe(unet, schedule, {
      ...{ images, timesteps, slotCount: 3, resamples: 9, gradientImages: 2, gradientTimesteps: 3 },
    })
    const rules = new Set(found.slots.map(({ rule }) => rule))
    expect([...rules]).to.include.members(['loss', 'excess', 'excessMin', 'gradientMoment', 'gradientRoot'])
    for (const { edges, low, high } of found.slots) {
      expect(edges).to.have.length(4)
      expect([edges[0], edges[3]]).to.deep.equal([0, 50])
      for (const k of edges.keys()) expect(low[k]).to.be.at.most(high[k]!)
    }
    expect(found.gradient?.t).to.deep.equal(Int32Array.of(0, ...found.gradient!.t.slice(1, -1), 49))
    expect(found.gradient?.mean.every((value) => value > 0)).to.equal(true)
  })

  it('is off the Gaussian model by one factor a head, and its span has an interval', async () => {
    const unet = await UNet.create(TINY, { seed: 1 })
    const { curves } = await probe(unet, schedule, { images, timesteps, slotCount: 3, resamples: 20 })
    for (const { head, distance, span, spanLow, spanHigh } of curves) {
      const [first] = curves.filter((curve) => curve.head === head)
      expect(distance / first!.distance).to.be.closeTo(1, 1e-9)
      expect(distance).to.be.at.least(1)
      expect([spanLow <= spanHigh, spanLow <= 1.5 * span, spanHigh >= span / 1.5]).to.deep.equal([
        true,
        true,
        true,
      ])
    }
  })

  it('becomes an instrument of plots, tables and plain JSON', async () => {
    const unet = await UNet.create({ ...TINY, heads: ['eps'] }, { seed: 1 })
    const found = await probe(unet, schedule, { images, timesteps, slotCount: 3, resamples: 5 })
    const instrument = probeInstrument(found, 'trislot probe')
    expect(instrument.plots.map(({ title }) => title)).to.have.length(4)
    expect(JSON.parse(JSON.stringify(instrument))).to.deep.equal(instrument)
    expect((instrument.data as { t: number[] }).t).to.deep.equal([0, 1, 4, 20, 49])
  })

  it('refuses more gradients than there are images', async () => {
    const unet = await UNet.create(TINY, { seed: 1 })
    const error = await probe(unet, schedule, { images, gradientImages: 7 }).catch((e: Error) => e)
    expect((error as Error).message).to.equal(
      'probe: expected gradientImages to be an integer in [0, 6], got 7',
    )
  })
})

describe('errorFactors', () => {
  it('make a perfect circle through all spaces', () => {
    const there = errorFactors(schedule, 'eps', 'v')
    const back = errorFactors(schedule, 'v', 'eps')
    for (const [t, factor] of there.entries()) expect(factor * back[t]!).to.be.closeTo(1, 1e-12)
  })
})

describe('pixelVariance', () => {
  it('is the variance around the mean image, with bytes as with floats', () => {
    expect(pixelVariance({ data: Float32Array.of(-1, 5, 1, 5), shape: [2, 1, 1, 2] })).to.equal(1)
    expect(pixelVariance({ data: Uint8Array.of(0, 9, 255, 9), shape: [2, 1, 1, 2] })).to.be.closeTo(1, 1e-12)
  })
})
