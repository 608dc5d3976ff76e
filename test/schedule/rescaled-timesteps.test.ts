import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect } from 'chai'
import { DeviceTensor } from '../../lib/device-tensor.ts'
import { UNet } from '../../lib/model/unet.ts'
import { native } from '../../lib/native.ts'
import { Denoiser } from '../../lib/sampling/denoiser.ts'
import { NoiseSchedule } from '../../lib/schedule/noise-schedule.ts'
import { loadCheckpoint, saveCheckpoint } from '../../lib/training/checkpoint.ts'
import { Trainer } from '../../lib/training/trainer.ts'
import { expectClose } from '../support/close.ts'
import { loadFormulaWeights } from '../support/formula-weights.ts'
import { TINY } from '../support/tiny.ts'

describe('A network of a respaced process with rescaled timesteps', () => {
  const shape = [3, 1, 8, 8] as const
  const count = 3 * 64
  const steps = Int32Array.of(0, 3, 9)
  const TOLD = Float32Array.of(0, 333.25, 999.75) // of cosine 4000 "10", as the original tells its networks
  const xStart = Float32Array.from({ length: count }, (_, i) => Math.sin(0.37 * i))
  const noise = Float32Array.from({ length: count }, (_, i) => 1.3 * Math.sin(1.7 * i + 0.5))
  let unet: UNet
  let process: NoiseSchedule
  let xt: DeviceTensor
  let output: Float32Array

  before(async () => {
    unet = await UNet.create({ ...TINY, heads: ['eps'] })
    await loadFormulaWeights(unet)
    process = NoiseSchedule.create({ name: 'cosine', timestepCount: 4000 }).respace('10')
    const [a, b] = [
      await DeviceTensor.from({ data: xStart, shape }),
      await DeviceTensor.from({ data: noise, shape }),
    ]
    xt = new DeviceTensor(await native().scheduleQSample(process.handle, a.handle, b.handle, steps))
    const { data } = await xt.toHost()
    output = (await unet.forward({ x: { data, shape }, t: { data: TOLD, shape: [3] } })).data as Float32Array
  })

  it('is told t x 1000 / T of the original process when it is trained', async () => {
    const trainer = await Trainer.create(unet, process, { rescalesTimesteps: true })
    const result = await trainer.trainStep({ images: { data: xStart, shape }, t: steps, noise, lr: 0 })
    const expected = [0, 1, 2].map((n) => {
      const error = output
        .subarray(64 * n, 64 * n + 64)
        .map((eps, i) => (eps - (noise[64 * n + i] as number)) ** 2)
      return error.reduce((a, b) => a + b) / 64
    })
    expectClose(result.perHead, expected, { relative: 1e-5, what: 'error' })
    const plain = await Trainer.create(unet, process)
    const other = await plain.trainStep({ images: { data: xStart, shape }, t: steps, noise, lr: 0 })
    expect(Math.abs((other.perHead[1] as number) / (expected[1] as number) - 1)).to.be.greaterThan(1e-4)
  })

  it('is told the same when it samples', async () => {
    const denoiser = new Denoiser(unet, process, { rescalesTimesteps: true, clip: false })
    const { sqrtRecipAlphaBar, sqrtRecipAlphaBarMinusOne } = process.tables
    const { data } = await xt.toHost()
    for (const [n, k] of [3, 9].entries()) {
      const { xStart: said } = await denoiser.predictXStart(xt, k)
      const [a, b] = [sqrtRecipAlphaBar[k] as number, sqrtRecipAlphaBarMinusOne[k] as number]
      const range = [64 * (n + 1), 64 * (n + 2)] as const
      const expected = (data as Float32Array)
        .slice(...range)
        .map((x, i) => a * x - b * (output[range[0] + i] as number))
      expectClose(((await said.toHost()).data as Float32Array).slice(...range), expected, {
        absolute: 1e-5 * b,
        relative: 1e-4,
        what: `xStart at ${k}`,
      })
    }
  })

  it('keeps its process in checkpoints, to the last bit', async () => {
    const run = await mkdtemp(join(tmpdir(), 'trislot-respaced-'))
    try {
      const trainer = await Trainer.create(unet, process, { rescalesTimesteps: true })
      const { schedule, trainer: loaded, state } = await loadCheckpoint(await saveCheckpoint(trainer, run))
      expect(schedule.tables).to.deep.equal(process.tables)
      expect(schedule.options).to.deep.equal(process.options)
      expect(state.schedule.timestepMap).to.deep.equal(Array.from(process.tables.timestepMap))
      expect(loaded.config.rescalesTimesteps).to.equal(true)
      const [a, b] = [schedule.respace('5'), process.respace('5')]
      expect(a.tables).to.deep.equal(b.tables)
      // What the network is told still counts from the original 4000.
      const denoiser = (of: NoiseSchedule) => new Denoiser(unet, of, { rescalesTimesteps: true })
      const [first, second] = [await denoiser(a).predictXStart(xt, 2), await denoiser(b).predictXStart(xt, 2)]
      expect(await first.xStart.toHost()).to.deep.equal(await second.xStart.toHost())
    } finally {
      await rm(run, { recursive: true })
    }
  })
})
