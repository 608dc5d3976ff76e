import { expect } from 'chai'
import { bitsPerDim } from '../../lib/analysis/bits-per-dim.ts'
import { DeviceTensor } from '../../lib/device-tensor.ts'
import { UNet } from '../../lib/model/unet.ts'
import { native } from '../../lib/native.ts'
import { Denoiser } from '../../lib/sampling/denoiser.ts'
import { NoiseSchedule } from '../../lib/schedule/noise-schedule.ts'
import type { ImageShape } from '../../lib/tensor.ts'
import { expectCloseToMax } from '../support/close.ts'
import { fixtureTensors, float32 } from '../support/fixtures.ts'
import { loadFormulaWeights } from '../support/formula-weights.ts'

async function golden(respacing: string) {
  const unet = await UNet.create({
    imageChannels: 3,
    heads: ['eps'],
    learnsVariance: true,
    modelChannels: 32,
    resBlockCount: 1,
    attentionResolutions: [2],
    channelMult: [1, 2],
    headChannels: 16,
    resBlockUpDown: true,
  })
  await loadFormulaWeights(unet)
  const process = NoiseSchedule.create({ name: 'linear', timestepCount: 1000 }).respace(respacing)
  return {
    unet,
    process,
    denoiser: new Denoiser(unet, process),
    fixture: await fixtureTensors('chains.safetensors'),
  }
}

/** [2, 5] with the columns in the original's order. */
function noisiestFirst(rows: Float64Array): Float64Array {
  const columns = 5
  return rows.map((_, i) => rows[i - (i % columns) + columns - 1 - (i % columns)] as number)
}

describe('Sampling chains against the original', () => {
  it('walks ten DDIM steps to the same images', async () => {
    const { process, denoiser, fixture } = await golden('ddim10')
    let xt = await DeviceTensor.from(fixture('x_T'))
    for (let k = process.timestepCount - 1; k >= 0; k--) {
      const { xStart } = await denoiser.predictXStart(xt, k)
      xt = await denoiser.reverseStep({ xt, xStart, k, eta: 0, seed: 0 })
    }
    expectCloseToMax(float32(await xt.toHost()), float32(fixture('ddim10')), 1e-4, 'ddim10')
  })

  it('walks eight ancestral steps with a learned variance and given noise to the same images', async () => {
    const { process, denoiser, fixture } = await golden('8')
    const noises = fixture('noises8')
    const shape = noises.shape.slice(1)
    const size = shape.reduce((a, b) => a * b, 1)
    let xt = await DeviceTensor.from(fixture('x_T'))
    for (let k = process.timestepCount - 1, drawn = 0; k >= 0; k--, drawn++) {
      const { xStart, variance } = await denoiser.predictXStart(xt, k)
      const data = float32(noises).slice(drawn * size, (drawn + 1) * size)
      const noise = await DeviceTensor.from({ data, shape })
      xt = new DeviceTensor(
        await native().reverseAncestral(
          process.handle,
          'learnedRange',
          xStart.handle,
          variance?.handle,
          xt.handle,
          noise.handle,
          k,
        ),
      )
    }
    expectCloseToMax(float32(await xt.toHost()), float32(fixture('ddpm8')), 1e-4, 'ddpm8')
  })

  it('adds up the same bits per dimension over five timesteps, from the same terms', async () => {
    const { denoiser, fixture } = await golden('5')
    const { data, shape } = fixture('bpd_x')
    const images = { data: data as Float32Array, shape: shape as ImageShape }
    const bits = await bitsPerDim({ denoiser, images, noise: float32(fixture('bpd_noise')) })
    expect(Array.from(bits.t)).to.deep.equal([0, 250, 500, 749, 999])
    const check = (actual: ArrayLike<number>, name: string) =>
      expectCloseToMax(actual, float32(fixture(`bpd5.${name}`)), 1e-4, name)
    check(bits.total, 'total_bpd')
    check(bits.prior, 'prior_bpd')
    check(noisiestFirst(bits.bound), 'vb')
    check(noisiestFirst(bits.xStartMse), 'xstart_mse')
    check(noisiestFirst(bits.epsMse), 'mse')
  })
})
