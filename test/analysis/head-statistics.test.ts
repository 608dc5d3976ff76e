import { expect } from 'chai'
import { measureHeadStatistics } from '../../lib/analysis/head-statistics.ts'
import { measureTimestepLoss } from '../../lib/analysis/timestep-loss.ts'
import { rejection } from '../support/rejection.ts'
import { tinyBatch, tinyTimesteps, tinyTrainer } from '../support/tiny.ts'

describe('measureHeadStatistics', () => {
  it('is the mean over images and timesteps of what the loss says of its heads, in v space', async () => {
    const { unet, schedule, trainer } = await tinyTrainer()
    for (let k = 0; k < 3; k++) await trainer.trainStep({ images: tinyBatch(), t: tinyTimesteps(), lr: 1e-2 })
    const images = tinyBatch(24)
    const timesteps = Int32Array.of(400, 410)
    const done: number[] = []
    const statistics = await measureHeadStatistics(unet, schedule, {
      ...{ images, timesteps, batchSize: 10, seed: 2, onTimestep: (at: number) => done.push(at) },
    })
    expect(done).to.deep.equal([1, 2])
    const bin = statistics.bins.edges.findIndex((edge) => edge > 410) - 1
    expect(statistics.count(bin)).to.equal(48)
    const [a, b] = [400, 410].map((t) => (1 - (schedule.tables.alphaBar[t] as number)) ** -1)
    const { perHead } = await measureTimestepLoss(unet, schedule, { images, timestepStride: 10, seed: 2 })
    const inV =
      ((a as number) * (perHead[40 * 3] as number) + (b as number) * (perHead[41 * 3] as number)) / 2
    expect(statistics.errors(bin)[0]).to.be.closeTo(inV, 1e-4 * inV)
    const blue = statistics.blue(bin, { ridge: 0 }) as number[]
    expect(statistics.mixtureError(bin, blue)).to.be.at.most(Math.min(...statistics.errors(bin)) + 1e-9)
    expect(statistics.bestHead(bin)).to.equal(
      ['xStart', 'v', 'eps'][statistics.errors(bin).indexOf(Math.min(...statistics.errors(bin)))],
    )
    for (const object of [trainer, unet, schedule]) object.dispose()
  })

  it('measures every noise level unless told which', async () => {
    const { unet, schedule, trainer } = await tinyTrainer()
    const options = { images: tinyBatch(5), binCount: 4, timestepsPerBin: 2 }
    const statistics = await measureHeadStatistics(unet, schedule, options)
    const { edges } = statistics.bins
    for (let bin = 0; bin < statistics.binCount; bin++) {
      const atEnds = (edges[bin] === 0 ? 5 : 0) + (edges[bin + 1] === 1000 ? 5 : 0)
      expect(statistics.count(bin)).to.equal(10 + atEnds)
    }
    for (const object of [trainer, unet, schedule]) object.dispose()
  })

  it('refuses networks of one head', async () => {
    const { unet, schedule, trainer } = await tinyTrainer({}, { heads: ['v'] })
    expect(
      (await rejection(measureHeadStatistics(unet, schedule, { images: tinyBatch() }))).message,
    ).to.equal('measureHeadStatistics: expected unet to be a network of several heads, got ["v"]')
    for (const object of [trainer, unet, schedule]) object.dispose()
  })
})
