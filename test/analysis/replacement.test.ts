import { expect } from 'chai'
import { replacement } from '../../lib/analysis/replacement.ts'
import { replacementInstrument } from '../../lib/analysis/replacement-instrument.ts'
import { openLoopWeights, replacementWindows } from '../../lib/analysis/replacement-windows.ts'
import { UNet } from '../../lib/model/unet.ts'
import { NoiseSchedule } from '../../lib/schedule/noise-schedule.ts'
import { Trainer } from '../../lib/training/trainer.ts'
import { TINY, tinyBatch } from '../support/tiny.ts'

const linear = NoiseSchedule.create()
const images = tinyBatch(3)

describe('openLoopWeights', () => {
  it('put 79 % of all weight below t = 10 and 97 % below t = 100 of 1000 linear steps', () => {
    const weights = openLoopWeights('xStart', linear.tables.snr)
    const share = (end: number) =>
      weights.slice(0, end + 1).reduce((a, b) => a + b, 0) / weights.reduce((a, b) => a + b, 0)
    expect(share(10)).to.be.closeTo(0.79, 0.005)
    expect(share(100)).to.be.closeTo(0.97, 0.005)
  })

  it('put 87 % on the last transition of 50 steps', () => {
    const { snr } = linear.respace('50').tables
    const weights = openLoopWeights('xStart', snr)
    expect(weights[1]! / weights.reduce((a, b) => a + b, 0)).to.be.closeTo(0.87, 0.005)
  })

  it('add up to the differences between the ends, in both variables', () => {
    const snr = Float64Array.of(100, 4, 0.25)
    expect(Array.from(openLoopWeights('xStart', snr))).to.deep.equal([0, 8, 1.5])
    const eps = openLoopWeights('eps', snr)
    expect(eps[1]! + eps[2]!).to.be.closeTo(2 - 0.1, 1e-12)
  })
})

describe('replacementWindows', () => {
  const { snr } = linear.respace('50').tables

  it('of equal steps share them out, and leave the last step alone', () => {
    const windows = replacementWindows('steps', 'xStart', snr, { positions: 7, width: 1 / 7 })
    expect(windows.map(({ from, to }) => from - to + 1)).to.deep.equal([7, 7, 7, 7, 7, 7, 7])
    expect([windows[0]!.from, windows.at(-1)!.to]).to.deep.equal([49, 1])
  })

  it('of equal weight are the last transition in most places, and one there', () => {
    const windows = replacementWindows('weight', 'xStart', snr, { positions: 10, width: 0.1 })
    expect(windows.at(-1)).to.deep.equal({ from: 1, to: 1 })
    expect(windows.length).to.be.below(4)
  })

  it('of equal log snr hold as many steps as that needs', () => {
    const windows = replacementWindows('logSnr', 'xStart', snr, { positions: 5, width: 0.2 })
    const passed = windows.map(({ from, to }) => Math.log(snr[to - 1]! / snr[from]!))
    expect(windows[0]!.from).to.equal(49)
    expect(passed[0]! / passed[1]!).to.be.within(0.5, 2)
  })
})

describe('replacement', () => {
  const options = { images, starts: [999, 300], steps: 6, positions: 2, width: 0.5 } as const

  it('meets the open-loop sum to 1e-5 of the largest value', async () => {
    const unet = await UNet.create(TINY, { seed: 1 })
    const trainer = await Trainer.create(unet, linear, { emaRates: [] })
    for (let step = 0; step < 3; step++) {
      await trainer.trainStep({ images, t: Int32Array.of(3, 300, 900), lr: 1e-2 })
    }
    for (const clip of [true, false]) {
      const found = await replacement(unet, linear, { ...options, interventions: [], denoiser: { clip } })
      expect(found.baselines.map(({ start }) => start)).to.deep.equal([999, 300])
      for (const { identityError } of found.baselines) expect(identityError).to.be.below(1e-5)
    }
  })

  it('is all algebra where the prediction of eps never answers', async () => {
    // A new network's output is zero whatever it sees.
    const unet = await UNet.create({ ...TINY, heads: ['eps'] }, { seed: 1 })
    const found = await replacement(unet, linear, {
      ...{ ...options, interventions: ['eps'], includesLast: true, denoiser: { clip: false } },
    })
    expect(found.results.length).to.be.at.least(2 * 4)
    for (const { change, openLoop } of found.results) {
      expect(change.mean).to.be.closeTo(openLoop.mean, 1e-3 * Math.abs(openLoop.mean))
      expect(change.mean).to.be.below(0)
    }
  })

  it('gives the image itself when the last prediction is the truth', async () => {
    const unet = await UNet.create(TINY, { seed: 1 })
    const found = await replacement(unet, linear, {
      ...{ ...options, interventions: ['xStart'], measures: [], includesLast: true },
    })
    expect(found.results.map(({ measure, from, to }) => [measure, from, to])).to.deep.equal([
      ['last', 0, 0],
      ['last', 0, 0],
    ])
    for (const [i, { change, openLoop, slicedWasserstein }] of found.results.entries()) {
      const { error } = found.baselines[i]!
      expect(change.mean).to.be.closeTo(-error.mean, 1e-6 * error.mean)
      expect(openLoop.mean).to.be.closeTo(-error.mean, 1e-6 * error.mean)
      expect(slicedWasserstein).to.be.closeTo(0, 1e-6)
    }
  })

  it('changes nothing by noise of no size', async () => {
    const unet = await UNet.create(TINY, { seed: 1 })
    const found = await replacement(unet, linear, { ...options, interventions: ['noise'], noiseSize: 0 })
    for (const { change, openLoop } of found.results) {
      expect([change.mean, openLoop.mean]).to.deep.equal([0, 0])
    }
  })

  it('becomes an instrument with a plot for each start, intervention and kind of window', async () => {
    const unet = await UNet.create(TINY, { seed: 1 })
    const found = await replacement(unet, linear, {
      ...{ ...options, interventions: ['xStart', 'noise'], measures: ['steps', 'weight'] },
    })
    const instrument = replacementInstrument(found)
    expect(instrument.plots).to.have.length(8)
    expect(instrument.plots.slice(0, 3).map(({ title }) => title)).to.deep.equal([
      'Truth for xStart from t = 999, windows of equal steps',
      'Truth for xStart from t = 999, windows of equal weight',
      'Noise on xStart from t = 999, windows of equal steps',
    ])
    expect(JSON.parse(JSON.stringify(instrument))).to.deep.equal(instrument)
  })

  it('refuses a start that does not hold its steps', async () => {
    const unet = await UNet.create(TINY, { seed: 1 })
    const error = await replacement(unet, linear, { images, starts: [10], steps: 50 }).catch((e: Error) => e)
    expect((error as Error).message).to.equal(
      'replacement: expected starts[0] to be an integer in [49, 999], got 10',
    )
  })
})
