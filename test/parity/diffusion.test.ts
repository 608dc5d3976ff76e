import { expect } from 'chai'
import { DeviceTensor } from '../../lib/device-tensor.ts'
import { type NativeLayout, native, type TensorHandle, type VarianceType } from '../../lib/native.ts'
import { NoiseSchedule } from '../../lib/schedule/noise-schedule.ts'
import type { HostTensor } from '../../lib/tensor.ts'
import { expectClose } from '../support/close.ts'
import { fixtureTensors, float32, int32 } from '../support/fixtures.ts'
import { ownLoss } from '../support/own-loss.ts'

const TOLERANCE = { absolute: 1e-5, relative: 1e-5 }
const MEANS = { EPSILON: 'eps', START_X: 'xStart', PREVIOUS_X: 'xPrev' } as const
const KINDS = { MSE: 'mse', RESCALED_MSE: 'rescaledMse', KL: 'kl', RESCALED_KL: 'rescaledKl' } as const
const VARIANCES: Record<string, VarianceType> = {
  FIXED_SMALL: 'fixedSmall',
  FIXED_LARGE: 'fixedLarge',
  LEARNED: 'learned',
  LEARNED_RANGE: 'learnedRange',
}

/** The corner that the fixtures keep of an image result: [..., :4, :4]. */
function corner({ data, shape }: HostTensor): Float32Array {
  const [n, c, h, w] = shape as [number, number, number, number]
  const kept = new Float32Array(n * c * 16)
  for (let image = 0, out = 0; image < n * c; image++) {
    for (let y = 0; y < 4; y++) {
      for (let x = 0; x < 4; x++) kept[out++] = (data as Float32Array)[(image * h + y) * w + x] as number
    }
  }
  return kept
}

async function host(handle: TensorHandle): Promise<HostTensor> {
  return native().tensorToHost(handle)
}

describe('Diffusion arithmetic against the original', () => {
  for (const scheduleName of ['linear', 'cosine'] as const) {
    for (const [meanName, head] of Object.entries(MEANS)) {
      for (const [varianceName, variance] of Object.entries(VARIANCES)) {
        it(`agrees for ${scheduleName}, ${meanName}, ${varianceName}`, async () => {
          const fixture = await fixtureTensors('diffusion-steps.safetensors')
          const expected = (name: string) =>
            float32(fixture(`${scheduleName}.${meanName}.${varianceName}.${name}`))
          const process = NoiseSchedule.create({ name: scheduleName, timestepCount: 1000 }).respace('')
          const learns = variance.startsWith('learned')
          const layout: NativeLayout = { heads: [head], imageChannels: 3, learnsVariance: learns }
          const t = int32(fixture('t'))
          const on = async (name: string) => (await DeviceTensor.from(fixture(name))).handle
          const [xStart, noise, stepNoise, output, xt] = await Promise.all([
            on('x_start'),
            on('noise'),
            on('step_noise'),
            on(learns ? 'model_output6' : 'model_output3'),
            on(`${scheduleName}.x_t`),
          ])
          const addon = native()

          const noised = await host(await addon.scheduleQSample(process.handle, xStart, noise, t))
          expectClose(float32(noised), float32(fixture(`${scheduleName}.x_t`)), {
            ...TOLERANCE,
            what: 'qSample',
          })

          for (const clip of [0, 1]) {
            const said = await addon.denoiserInterpret(
              process.handle,
              layout,
              variance,
              output,
              xt,
              t,
              clip === 1,
            )
            const check = async (handle: TensorHandle, name: string) =>
              expectClose(corner(await host(handle)), expected(`clip${clip}.${name}`), {
                ...TOLERANCE,
                what: `clip${clip} ${name}`,
              })
            await check(said.xStart, 'pred_xstart')
            await check(said.mean, 'mean')
            await check(said.variance, 'variance')
            await check(said.logVariance, 'log_variance')
            const bound = await addon.reverseBound(process.handle, xStart, xt, said.mean, said.logVariance, t)
            expectClose(float32(bound), expected(clip === 1 ? 'vb' : 'KL.loss'), {
              absolute: 1e-5,
              relative: 1e-4,
              what: 'bound',
            })
          }

          for (const [name, kind] of Object.entries(KINDS)) {
            const loss = ownLoss(head, kind)
            const config = { ...layout, loss, variance, boundWeight: 1 }
            const batch = { images: fixture('x_start'), noise: fixture('noise'), t }
            const losses = await addon.lossOfOutput(process.handle, config, output, batch)
            const tolerance = { absolute: 1e-5, relative: 1e-4 }
            expectClose(losses.loss, expected(`${name}.loss`), { ...tolerance, what: `${name} loss` })
            if (name.endsWith('KL')) continue
            expectClose(losses.perHead, expected(`${name}.mse`), { ...TOLERANCE, what: `${name} mse` })
            expect(losses.bound !== undefined).to.equal(learns)
            // T is 1000 here, so that the rescaled bound is the bound.
            if (losses.bound)
              expectClose(losses.bound, expected(`${name}.vb`), { ...tolerance, what: `${name} vb` })
          }

          const { xStart: predicted, mean } = await addon.denoiserInterpret(
            process.handle,
            layout,
            variance,
            output,
            xt,
            t,
            true,
          )
          const values = learns ? await valuesOf(fixture('model_output6')) : undefined
          const ancestral = await addon.reverseAncestral(
            process.handle,
            variance,
            predicted,
            values,
            xt,
            stepNoise,
            t,
            head === 'xPrev' ? mean : undefined,
          )
          expectClose(corner(await host(ancestral)), expected('p_sample'), { ...TOLERANCE, what: 'p_sample' })
          if (head === 'xPrev') return // of which the values hold no DDIM
          for (const eta of [0, 0.5, 1]) {
            const step = await addon.reverseDdim(process.handle, predicted, xt, stepNoise, eta, t)
            expectClose(corner(await host(step)), expected(`ddim_eta${eta.toFixed(1)}`), {
              ...TOLERANCE,
              what: `ddim ${eta}`,
            })
          }
          const encoded = await addon.reverseEncode(process.handle, predicted, xt, t)
          expectClose(corner(await host(encoded)), expected('ddim_reverse'), {
            ...TOLERANCE,
            what: 'ddim_reverse',
          })
        })
      }
    }
  }

  it('has the prior term of the bits per dimension', async () => {
    const fixture = await fixtureTensors('diffusion-steps.safetensors')
    for (const name of ['linear', 'cosine'] as const) {
      const process = NoiseSchedule.create({ name }).respace('')
      const images = fixture('x_start')
      const prior = await native().boundPrior(process.handle, { data: float32(images), shape: images.shape })
      expectClose(float32(prior), float32(fixture(`${name}.prior_bpd`)), { ...TOLERANCE, what: name })
    }
  })

  it('reaches the noise limit without infinities on a schedule whose last timestep holds no signal', async () => {
    const process = NoiseSchedule.create({ name: 'linear', timestepCount: 50, zeroTerminalSnr: true })
    expect(process.tables.alphaBar[49]).to.equal(0)
    const xt = (await DeviceTensor.from({ data: Float32Array.of(0.5, -0.5), shape: [1, 1, 1, 2] })).handle
    const xStart = (await DeviceTensor.from({ data: Float32Array.of(0.1, 0.2), shape: [1, 1, 1, 2] })).handle
    const step = await host(await native().reverseDdim(process.handle, xStart, xt, undefined, 0, 49))
    expect(Array.from(step.data as Float32Array).every(Number.isFinite)).to.equal(true)
  })
})

/** The last three of six channels. */
async function valuesOf({ data, shape }: HostTensor): Promise<TensorHandle> {
  const [n, c, h, w] = shape as [number, number, number, number]
  const half = (c / 2) * h * w
  const values = new Float32Array(n * half)
  for (let i = 0; i < n; i++)
    values.set((data as Float32Array).subarray((2 * i + 1) * half, (2 * i + 2) * half), i * half)
  return (await DeviceTensor.from({ data: values, shape: [n, c / 2, h, w] })).handle
}
