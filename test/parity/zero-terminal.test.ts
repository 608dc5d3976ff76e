import { expect } from 'chai'
import { DeviceTensor } from '../../lib/device-tensor.ts'
import { HeadStatistics } from '../../lib/mixing/head-statistics.ts'
import { native } from '../../lib/native.ts'
import { HEADS } from '../../lib/prediction/heads.ts'
import { signalWeights } from '../../lib/prediction/signal-weights.ts'
import { combineByBlue, combineByTable } from '../../lib/sampling/combine.ts'
import { type Combine, Denoiser } from '../../lib/sampling/denoiser.ts'
import { NoiseSchedule, type NoiseScheduleOptions } from '../../lib/schedule/noise-schedule.ts'
import { type RunOptions, runConfig } from '../../lib/training/run-config.ts'
import { Trainer } from '../../lib/training/trainer.ts'
import { logSnr, losses } from '../support/heads.ts'
import { rejection } from '../support/rejection.ts'
import { tinyBatch, tinyTrainer } from '../support/tiny.ts'

const allFinite = (data: Iterable<number>): boolean => Array.from(data).every(Number.isFinite)

describe('Where (nearly) no signal is left', () => {
  const blind = NoiseSchedule.create({ zeroTerminalSnr: true })
  after(() => blind.dispose())

  const processes: [NoiseScheduleOptions, string][] = [
    [{ name: 'cosine', zeroTerminalSnr: true }, '10'],
    [{ name: 'cosine', zeroTerminalSnr: true }, '25'],
    [{ name: 'linear', timestepCount: 100, zeroTerminalSnr: true }, '5'],
    [{ name: 'cosine', timestepCount: 4000 }, '20'],
  ]
  for (const [options, respacing] of processes) {
    it(`DDIM with eta 1 is finite: ${JSON.stringify(options)} in ${respacing} steps`, async () => {
      const process = NoiseSchedule.create(options).respace(respacing)
      const k = process.timestepCount - 1
      const tensor = (data: number[]) =>
        DeviceTensor.from({ data: Float32Array.from(data), shape: [1, 1, 1, 2] })
      const [xt, xStart, noise] = [await tensor([0.5, -0.5]), await tensor([0.1, 0.2]), await tensor([1, -2])]
      const step = await native().reverseDdim(process.handle, xStart.handle, xt.handle, noise.handle, 1, k)
      expect(allFinite((await new DeviceTensor(step).toHost()).data as Float32Array)).to.equal(true)
    })
  }

  it('the bound takes a head that says something of xStart there', async () => {
    const { unet } = await tinyTrainer({}, { learnsVariance: true })
    const trainer = await Trainer.create(unet, blind)
    const { exampleLoss, bound } = await trainer.trainStep({
      images: tinyBatch(),
      t: Int32Array.of(0, 500, 998, 999),
      lr: 1e-3,
    })
    expect(allFinite(exampleLoss) && allFinite(bound as Float32Array)).to.equal(true)
  })

  it('eps alone has no bound', async () => {
    const { unet } = await tinyTrainer({}, { learnsVariance: true, heads: ['eps'] })
    expect((await rejection(Trainer.create(unet, blind))).message).to.equal(
      'Trainer.create: expected heads to be others than eps alone for a bound where no signal is left, got "eps"; predict v, or use a schedule without zeroTerminalSnr',
    )
  })

  it('eps alone is not trained by a run', async () => {
    const options = { data: 'digits', steps: 1, zeroTerminalSnr: true }
    const alone: Partial<RunOptions>[] = [{ heads: ['eps'] }, { choose: 'eps' }]
    for (const one of alone) {
      expect((await rejection(runConfig({ ...options, ...one }))).message).to.equal(
        'run: expected zeroTerminalSnr to be absent where eps alone is trained, got true; where no signal is left eps says nothing of the image; train v',
      )
    }
  })

  it('every combination is finite there, or refused for its eps', async () => {
    const { unet } = await tinyTrainer({}, { gate: true })
    const statistics = new HeadStatistics({ heads: HEADS, logSnr: logSnr(blind), binCount: 4 })
    statistics.observe(losses(new Array(40).fill(999), [4, 2, 1]))
    const xt = await new Denoiser(unet, blind).noise([2, 1, 8, 8], 3)
    const predict = (combine: Combine | undefined) =>
      new Denoiser(unet, blind, { clip: false, ...(combine && { combine }) }).predictXStart(xt, 999)
    for (const combine of [
      undefined,
      'gate',
      'v',
      combineByTable(blind, statistics),
      combineByBlue(blind, statistics),
    ] as const) {
      expect(allFinite((await (await predict(combine)).xStart.toHost()).data as Float32Array)).to.equal(true)
    }
    expect((combineByTable(blind, statistics) as (t: number) => unknown)(999)).to.deep.equal(
      signalWeights(0, HEADS),
    )
    for (const combine of ['eps', { v: 0.5, eps: 0.5 }] as const) {
      expect((await rejection(predict(combine))).message).to.match(
        /^denoiser.predictXStart: expected combine to be without eps at step 999, where no signal is left, got .+; combine by signal, or use v or xStart$/,
      )
    }
  })
})
