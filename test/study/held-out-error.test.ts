import { expect } from 'chai'
import { measureTimestepLoss } from '../../lib/analysis/timestep-loss.ts'
import { DeviceTensor } from '../../lib/device-tensor.ts'
import { UNet } from '../../lib/model/unet.ts'
import { keyedRandom } from '../../lib/random.ts'
import { Denoiser } from '../../lib/sampling/denoiser.ts'
import { NoiseSchedule } from '../../lib/schedule/noise-schedule.ts'
import {
  clippedError,
  combinedError,
  comparedTimesteps,
  type HeldOutError,
  heldOutError,
} from '../../lib/study/held-out-error.ts'
import { rejection } from '../support/rejection.ts'
import { tinyTrainer } from '../support/tiny.ts'

describe('heldOutError', () => {
  const schedule = NoiseSchedule.create({ timestepCount: 100 })
  const stream = keyedRandom(3, 'probe').at(0)
  const shape = [5, 1, 8, 8] as const
  const images = { data: Uint8Array.from({ length: 5 * 64 }, () => stream.integer(0, 256)), shape }
  let unet: UNet
  before(async () => {
    const network = { modelChannels: 16, channelMult: [1, 2], resBlockCount: 1, normGroups: 8 }
    unet = await UNet.create({ ...network, imageChannels: 1, heads: ['xStart', 'v', 'eps'] }, { seed: 4 })
  })
  after(() => {
    unet.dispose()
    schedule.dispose()
  })
  const timesteps = Int32Array.of(0, 33, 66, 99)

  const expectNativeErrors = async (network: UNet, measured: HeldOutError) => {
    const native = await measureTimestepLoss(network, schedule, { images, timestepStride: 33, seed: 7 })
    expect(Array.from(native.t)).to.deep.equal(Array.from(timesteps))
    for (const [h, head] of measured.heads.entries()) {
      const v = combinedError(measured, 'v', { combine: head })
      const F = combinedError(measured, 'F', { combine: head, sigmaData: 0.4 })
      for (let k = 0; k < timesteps.length; k++) {
        const snr = measured.snr[k]!
        const own = native.perHead[k * measured.heads.length + h]!
        const inXStart = own / { xStart: 1, v: 1 + snr, eps: snr, xPrev: 0, F: snr + 4 }[head]
        expect(v[k]! / (inXStart * (1 + snr))).to.be.closeTo(1, 1e-4)
        expect(F[k]! / (inXStart * (snr + 1 / 0.16))).to.be.closeTo(1, 1e-4)
      }
    }
    return native
  }

  it('agrees with the native loss of a network that predicts F alone', async () => {
    const { unet: network } = await tinyTrainer({}, { heads: ['F'] })
    await expectNativeErrors(network, await heldOutError(network, schedule, { images, timesteps, seed: 7 }))
    network.dispose()
  })

  it('agrees with the native loss and brightness of every head, which have the same noise', async () => {
    const measured = await heldOutError(unet, schedule, { images, timesteps, seed: 7, batchSize: 2 })
    const native = await expectNativeErrors(unet, measured)
    for (let k = 0; k < timesteps.length; k++) {
      for (let g = 0; g < 3; g++) {
        for (let h = 0; h < 3; h++) {
          let sum = 0
          for (let i = 0; i < 5; i++)
            sum += measured.brightness[(k * 5 + i) * 3 + g]! * measured.brightness[(k * 5 + i) * 3 + h]!
          const expected = native.brightnessProducts![k * 9 + g * 3 + h]!
          expect(sum / 5).to.be.closeTo(expected, 1e-4 * Math.abs(expected) + 1e-9)
        }
      }
    }
  })

  it('is the same whatever the batches, and for the first images alone', async () => {
    const whole = await heldOutError(unet, schedule, { images, timesteps })
    const parts = await heldOutError(unet, schedule, { images, timesteps, batchSize: 3 })
    const first = { data: images.data.subarray(0, 2 * 64), shape: [2, 1, 8, 8] as const }
    const two = await heldOutError(unet, schedule, { images: first, timesteps })
    const v = combinedError(whole, 'v')
    combinedError(parts, 'v').forEach((value, k) => {
      expect(value).to.be.closeTo(v[k]!, 1e-5 * v[k]!)
    })
    const some = combinedError(whole, 'v', { imageCount: 2 })
    combinedError(two, 'v').forEach((value, k) => {
      expect(value).to.be.closeTo(some[k]!, 1e-5 * some[k]!)
    })
  })

  it('knows the error of a mixture that was measured directly', async () => {
    const combine = { xStart: 0.2, v: 0.5, eps: 0.3 }
    const measured = await heldOutError(unet, schedule, {
      images,
      timesteps: timesteps.subarray(0, 1),
      combine,
    })
    const P = (g: number, h: number) => {
      let sum = 0
      for (let i = 0; i < 5; i++) sum += measured.products[i * 9 + g * 3 + h]!
      return sum / 5
    }
    const w = [0.2, 0.5, 0.3]
    let expected = 0
    for (let g = 0; g < 3; g++) for (let h = 0; h < 3; h++) expected += w[g]! * w[h]! * P(g, h)
    expect(combinedError(measured, 'v', { combine })[0]).to.be.closeTo(expected, 1e-9 * expected)
  })

  it('measures what a gate makes of each pixel, as samplers do', async () => {
    const { unet: gated, schedule: process, trainer } = await tinyTrainer({}, { gate: true })
    const [count, , height, width] = shape
    const batch = { data: Float32Array.from(images.data, (value) => value / 127.5 - 1), shape }
    for (let step = 0; step < 4; step++)
      await trainer.trainStep({ images: batch, t: Int32Array.of(10, 200, 400, 700, 900), lr: 2e-2 })
    const t = Int32Array.of(50, 500)
    const measured = await heldOutError(gated, process, {
      images,
      timesteps: t,
      combine: 'gate',
      seed: 7,
      batchSize: 5,
    })
    const noise = await DeviceTensor.noise(shape, { seed: 7, purpose: 'probe', step: 0, firstSample: 0 })
    const eps = (await noise.toHost()).data as Float32Array
    const denoiser = new Denoiser(gated, process, { combine: 'gate', clip: false })
    const { sqrtAlphaBar, sqrtOneMinusAlphaBar } = process.tables
    const v = combinedError(measured, 'v', { combine: 'gate' })
    for (const [k, at] of t.entries()) {
      const [alpha, sigma] = [sqrtAlphaBar[at] as number, sqrtOneMinusAlphaBar[at] as number]
      const data = batch.data.map((value, i) => alpha * value + sigma * (eps[i] as number))
      const { xStart } = await denoiser.predictXStart(await DeviceTensor.from({ data, shape }), at)
      const seen = (await xStart.toHost()).data as Float32Array
      const squares = seen.reduce((sum, value, i) => sum + ((value - batch.data[i]!) / sigma) ** 2, 0)
      expect(v[k]).to.be.closeTo(squares / (count * height * width), 1e-4 * v[k]!)
      const bySignal = combinedError(measured, 'v')[k] as number
      expect(Math.abs(v[k]! / bySignal - 1)).to.be.above(1e-4) // it has learned something
    }
    expect(() =>
      combinedError({ ...measured, gated: undefined } as never, 'v', { combine: 'gate' }),
    ).to.throw('combinedError: expected combine to be what was measured: no gate was, got "gate"')
    for (const object of [trainer, gated, process]) object.dispose()
  })

  it('never counts more than the squared distance between -1 and 1 once clipped', async () => {
    const measured = await heldOutError(unet, schedule, { images, timesteps, combine: 'eps' })
    clippedError(measured, 'v').forEach((value, k) => {
      expect(value / (1 + measured.snr[k]!)).to.be.at.most(4)
    })
    expect(combinedError(measured, 'v', { combine: 'eps' })[3]).to.be.above(clippedError(measured, 'v')[3]!)
  })

  it('is finite where no signal is left, whatever the heads', async () => {
    const blind = NoiseSchedule.create({ timestepCount: 100, zeroTerminalSnr: true })
    const measured = await heldOutError(unet, blind, { images, timesteps: Int32Array.of(99), combine: 'v' })
    blind.dispose()
    expect(measured.snr[0]).to.equal(1e-12)
    for (const values of [measured.products, measured.clipped, combinedError(measured, 'F')])
      expect(values.every(Number.isFinite)).to.equal(true)
  })

  it('asks how heads are combined at the timesteps of the process before it was respaced', async () => {
    const few = schedule.respace(Float64Array.of(0, 40, 99))
    const asked: number[] = []
    const combine = (t: number) => {
      asked.push(t)
      return 'v' as const
    }
    const measured = await heldOutError(unet, few, { images, timesteps: Int32Array.of(1, 2), combine })
    expect(asked).to.deep.equal([40, 99])
    combinedError(measured, 'v', { combine })
    expect(asked.slice(2)).to.deep.equal([40, 99])
    few.dispose()
  })

  it('refuses timesteps, heads and weights that mean nothing', async () => {
    const message = async (options: object) =>
      (await rejection(heldOutError(unet, schedule, { images, timesteps, ...options }))).message
    expect(await message({ timesteps: Int32Array.of(100) })).to.equal(
      'heldOutError: expected timesteps[0] to be an integer in [0, 99], got 100',
    )
    expect(await message({ combine: 'gate' })).to.equal(
      'heldOutError: expected combine to be another word for a network without a gate, got "gate"',
    )
    expect(await message({ combine: { v: 0.5 } })).to.equal(
      'heldOutError: expected combine to be weights that add up to 1, got 0.5',
    )
    expect(await message({ combine: 'xPrev' })).to.equal(
      'heldOutError: expected combine to be among the network\'s heads (xStart, v, eps), got "xPrev"',
    )
  })
})

describe('comparedTimesteps', () => {
  const schedule = NoiseSchedule.create()
  after(() => schedule.dispose())

  it('takes both ends and even quantiles of uniform timesteps', () => {
    const t = comparedTimesteps(schedule, 17)
    expect([t[0], t[8], t[16], t.length]).to.deep.equal([0, 500, 999, 17])
  })

  it('takes steps of equal log snr, strictly ascending', () => {
    const t = comparedTimesteps(schedule, 17, 'logSnr')
    const logSnr = Array.from(t, (k) => Math.log(schedule.tables.snr[k]!))
    expect([t[0], t[16]]).to.deep.equal([0, 999])
    const step = (logSnr[0]! - logSnr[16]!) / 16
    for (let i = 4; i < 16; i++) expect(logSnr[i - 1]! - logSnr[i]!).to.be.closeTo(step, 0.2)
    for (let i = 1; i < 17; i++) expect(t[i]).to.be.above(t[i - 1]!)
  })
})
