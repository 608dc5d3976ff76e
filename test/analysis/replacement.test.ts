import { expect } from 'chai'
import { replacement } from '../../lib/analysis/replacement.ts'
import { replacementInstrument } from '../../lib/analysis/replacement-instrument.ts'
import {
  noisyOpenLoopWeights,
  openLoopWeights,
  replacementWindows,
  windowOfRange,
} from '../../lib/analysis/replacement-windows.ts'
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

describe('noisyOpenLoopWeights', () => {
  const { alphaBar, snr, posteriorVariance } = linear.respace('50').tables

  it('are those without noise where eta is 0', () => {
    const { start, xStart, noise } = noisyOpenLoopWeights(alphaBar, 0)
    const sigma = Math.sqrt(1 - alphaBar[0]!)
    expect(start).to.be.closeTo(sigma / Math.sqrt(1 - alphaBar[49]!), 1e-12)
    for (const [k, weight] of openLoopWeights('xStart', snr).entries())
      expect(xStart[k]).to.be.closeTo(sigma * weight, 1e-9)
    expect(noise.every((weight) => weight === 0)).to.equal(true)
  })

  it('are those of the posterior mean and variance where eta is 1', () => {
    const { xStart, noise } = noisyOpenLoopWeights(alphaBar, 1)
    expect(noise[1]! ** 2).to.be.closeTo(posteriorVariance[1]!, 1e-12)
    const beta = 1 - alphaBar[1]! / alphaBar[0]!
    expect(xStart[1]).to.be.closeTo((beta * Math.sqrt(alphaBar[0]!)) / (1 - alphaBar[1]!), 1e-12)
  })
})

describe('windowOfRange', () => {
  it('holds the visited timesteps of a range, however it is turned', () => {
    const visited = [0, 10, 20, 30]
    expect(windowOfRange(visited, [25, 10])).to.deep.equal({ from: 2, to: 1 })
    expect(windowOfRange(visited, [10, 25])).to.deep.equal({ from: 2, to: 1 })
    expect(windowOfRange(visited, [11, 19])).to.equal(undefined)
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
    for (const [clip, eta] of [
      [true, 0],
      [false, 0],
      [true, 1],
      [true, 0.4],
    ] as const) {
      // biome-ignore format: pairs
      const found = await replacement(unet, linear, { ...options, eta, interventions: [], denoiser: { clip } })
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
    expect(instrument.plots).to.have.length(10)
    expect(instrument.plots.slice(2, 5).map(({ title }) => title)).to.deep.equal([
      'Noise on xStart from t = 999, windows of equal steps',
      'Noise on xStart from t = 999, windows of equal weight',
      'Weight of each prediction in the result, from t = 999',
    ])
    expect(JSON.parse(JSON.stringify(instrument))).to.deep.equal(instrument)
  })

  it('says the weight of each prediction, which add up to what lies between the ends', async () => {
    const unet = await UNet.create(TINY, { seed: 1 })
    const { baselines } = await replacement(unet, linear, { ...options, interventions: [] })
    for (const { start, t, weights } of baselines) {
      const { alphaBar } = linear.tables
      const [last, first] = [alphaBar[0]!, alphaBar[start]!]
      const sum = (values: readonly number[]) => values.reduce((a, b) => a + b, 0)
      const root = (ab: number) => Math.sqrt(ab / (1 - ab))
      expect([t[0], t.at(-1), weights.xStart.length]).to.deep.equal([0, start, options.steps])
      expect(weights.xStart[0]).to.equal(1)
      expect(sum(weights.xStart.slice(1))).to.be.closeTo((root(last) - root(first)) / root(last), 1e-9)
      expect(sum(weights.eps ?? [])).to.be.closeTo(-1 / root(first), 1e-9 / root(first))
    }
    const noisy = await replacement(unet, linear, { ...options, eta: 1, interventions: [] })
    expect(noisy.baselines[0]?.weights).to.have.all.keys('xStart')
  })

  it('is all algebra with noise, too, where the prediction of xStart never answers', async () => {
    const unet = await UNet.create({ ...TINY, heads: ['xStart'] }, { seed: 1 })
    const { results, eta } = await replacement(unet, linear, {
      ...options,
      eta: 1,
      interventions: ['xStart'],
    })
    expect(eta).to.equal(1)
    expect(results.length).to.be.at.least(8)
    for (const { change, openLoop, to } of results) {
      // Without eps that the last step keeps: the last prediction is the image, whatever x is.
      expect(Math.abs(change.mean)).to.be.below(1e-9)
      if (to === 1) expect(Math.abs(openLoop.mean)).to.be.above(1e-6)
    }
  })

  it('takes ranges of timesteps, and says where none is visited', async () => {
    const unet = await UNet.create(TINY, { seed: 1 })
    const given = { images, starts: [300], steps: 4, interventions: ['noise'], measures: [] } as const
    const found = await replacement(unet, linear, { ...given, ranges: [[300, 150], [100, 100]] }) // biome-ignore format: short
    expect(found.results.map(({ measure, from, to }) => [measure, from, to])).to.deep.equal([
      ['range', 300, 200],
      ['range', 100, 100],
    ])
    expect(replacementInstrument(found).plots.map(({ title }) => title)).to.deep.equal([
      'Noise on xStart from t = 300, ranges given',
      'Weight of each prediction in the result, from t = 300',
    ])
    const refused = async (more: object) =>
      ((await replacement(unet, linear, { ...given, ...more }).catch((e: Error) => e)) as Error).message
    expect(await refused({ ranges: [[0, 50]] })).to.equal(
      'replacement: expected ranges[0] to be timesteps with one of 100, 200, 300 between them, got [0, 50]',
    )
    expect(await refused({ eta: 1, interventions: ['eps'] })).to.contain(
      'expected interventions to be without eps',
    )
  })

  it('refuses a start that does not hold its steps', async () => {
    const unet = await UNet.create(TINY, { seed: 1 })
    const error = await replacement(unet, linear, { images, starts: [10], steps: 50 }).catch((e: Error) => e)
    expect((error as Error).message).to.equal(
      'replacement: expected starts[0] to be an integer in [49, 999], got 10',
    )
  })
})
