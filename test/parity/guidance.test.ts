import { expect } from 'chai'
import { KERNELS, setKernels } from '../../lib/device.ts'
import { DeviceTensor } from '../../lib/device-tensor.ts'
import { Classifier } from '../../lib/model/classifier.ts'
import { UNet } from '../../lib/model/unet.ts'
import { native } from '../../lib/native.ts'
import { Denoiser, type DenoiserOptions } from '../../lib/sampling/denoiser.ts'
import { sample } from '../../lib/sampling/sample.ts'
import { NoiseSchedule } from '../../lib/schedule/noise-schedule.ts'
import { expectClose, expectCloseToMax } from '../support/close.ts'
import { fixtureJson, fixtureTensors, float32 } from '../support/fixtures.ts'
import { loadFormulaWeights, loadWaveWeights } from '../support/formula-weights.ts'

const fixture = fixtureJson('guidance.json')
const y = Int32Array.from(fixture.y)
const shape = fixture.shape as [number, number, number, number]

/** guidance.py's networks, made through the options of this library. */
async function networks() {
  const { unet, classifier } = fixture
  const shared = {
    modelChannels: unet.model_channels,
    resBlockCount: unet.num_res_blocks,
    attentionResolutions: unet.attention_resolutions,
    channelMult: unet.channel_mult,
    normGroups: unet.norm_groups,
  }
  const classes = { classCount: fixture.classCount, nullClass: true }
  const network = { ...shared, attentionHeads: unet.num_heads, heads: ['eps'] as const, learnsVariance: true }
  const made = {
    free: await UNet.create(network),
    conditional: await UNet.create({ ...network, ...classes }),
    classifier: await Classifier.create({
      ...shared,
      classCount: fixture.classCount,
      imageSize: classifier.image_size,
      headChannels: classifier.num_head_channels,
      resBlockUpDown: false,
    }),
  }
  await Promise.all(Object.values(made).map(loadFormulaWeights))
  return made
}

for (const kernels of KERNELS) {
  describe(`Guided sampling against the reference in float64, with ${kernels} kernels`, () => {
    let made: Awaited<ReturnType<typeof networks>>
    let schedule: NoiseSchedule
    let process: NoiseSchedule
    let expected: Awaited<ReturnType<typeof fixtureTensors>>
    before(async () => {
      await setKernels(kernels)
      made = await networks()
      schedule = NoiseSchedule.create({ name: 'linear' })
      process = schedule.respace(fixture.respacing)
      expected = await fixtureTensors('guidance.safetensors')
    })
    after(async () => {
      for (const network of Object.values(made)) network.dispose()
      await setKernels('fast')
    })

    const draw = async (unet: UNet, options: DenoiserOptions, eta?: number) =>
      sample({
        denoiser: new Denoiser(unet, process, options),
        shape,
        seed: fixture.seed,
        ...(eta !== undefined && { eta }),
      })
    const check = (actual: Float32Array, name: string, absolute = 2e-4) =>
      expectClose(actual, float32(expected(name)), { absolute, what: name })

    it('begins at the same unguided chain', async () => {
      check(await draw(made.free, {}), 'unguided')
    })

    it('finds the gradient of log p(y | xt) at the timestep of the trained process', async () => {
      const xt = await new Denoiser(made.free, process).noise(shape, fixture.seed)
      const gradient = await made.classifier.guidance(xt, process, process.timestepCount - 1, y)
      expectCloseToMax(float32(await gradient.toHost()), float32(expected('gradient')), 1e-5, 'gradient')
      const doubled = await made.classifier.guidance(xt, process, process.timestepCount - 1, y, { scale: 2 })
      const twice = float32(expected('gradient')).map((value) => 2 * value)
      expectCloseToMax(float32(await doubled.toHost()), twice, 1e-5, 'gradient x 2')
      const { data } = await xt.toHost()
      const logits = await made.classifier.forward({
        x: { data: data as Float32Array, shape },
        t: { data: new Float32Array(3).fill(999), shape: [3] },
      })
      expectCloseToMax(float32(logits), float32(expected('logits')), 1e-5, 'logits')
    })

    it('moves the mean of ancestral steps by variance times the gradient of a classifier', async () => {
      const { classifier } = made
      const scale = fixture.scales.classifierAncestral
      check(await draw(made.free, { classifierGuidance: { classifier, scale, y } }), 'classifierAncestral')
    })

    it('moves the score of DDIM steps by the gradient of a classifier, with and without noise', async () => {
      const { classifier } = made
      const options = { classifierGuidance: { classifier, scale: fixture.scales.classifierDdim, y } }
      check(await draw(made.free, options, 0), 'classifierDdim')
      check(await draw(made.free, options, fixture.eta), 'classifierDdimEta')
    })

    it('leads away from the null class without a classifier, keeping the variance of the class', async () => {
      const guidanceScale = fixture.scales.free
      check(await draw(made.conditional, { y, guidanceScale }), 'freeAncestral')
      // Extrapolated predictions, step for step without noise, amplify the rounding of float32 most: with LibTorch's kernels, too,
      // where there is no AVX-512 (4e-4 and 5e-4 at one element in two runs; below 2e-4 with it).
      check(await draw(made.conditional, { y, guidanceScale }, 0), 'freeDdim', 1e-3)
    })

    it('draws without classes at a guidance scale of 0', async () => {
      const zero = await draw(made.conditional, { y, guidanceScale: 0 }, 0)
      check(zero, 'freeZero')
      const nulls = new Int32Array(y.length).fill(fixture.classCount)
      expect(await draw(made.conditional, { y: nulls }, 0)).to.deep.equal(zero)
    })

    it('guides only inside the interval', async () => {
      const options = { y, guidanceScale: fixture.scales.free, guidanceInterval: fixture.interval }
      check(await draw(made.conditional, options, 0), 'freeInterval')
      const never = { ...options, guidanceInterval: [0, 0] as const }
      expect(await draw(made.conditional, never, 0)).to.deep.equal(await draw(made.conditional, { y }, 0))
    })

    it('adds both kinds of guidance up', async () => {
      const { classifier } = made
      const options = {
        y,
        guidanceScale: fixture.scales.freeBoth,
        classifierGuidance: { classifier, scale: fixture.scales.classifierDdim, y },
      }
      check(await draw(made.conditional, options, 0), 'both')
    })

    it('clips what the classifier has moved when told to', async () => {
      const { classifier } = made
      const classifierGuidance = { classifier, scale: 1e4, y, clip: true }
      const denoiser = new Denoiser(made.free, process, { classifierGuidance })
      const xt = await denoiser.noise(shape, fixture.seed)
      const k = process.timestepCount - 1
      const { xStart } = await denoiser.predictXStart(xt, k)
      const gradient = await denoiser.classifierGradient(xt, k)
      const guided = float32(await (await denoiser.guidedXStart(xStart, gradient!, k)).toHost())
      expect(Math.max(...guided.map(Math.abs))).to.equal(1)
    })

    it('says why a score cannot be guided where no signal is left', async () => {
      const last = NoiseSchedule.create({ name: 'linear', timestepCount: 50, zeroTerminalSnr: true })
      const { classifier } = made
      const denoiser = new Denoiser(made.free, last, { classifierGuidance: { classifier, y } })
      const xt = await denoiser.noise(shape, fixture.seed)
      const message = await denoiser.guidedXStart(xt, xt, 49).catch((error: Error) => error.message)
      expect(message).to.equal(
        'denoiser.guidedXStart: expected alphaBar to be > 0, where a score says something about xStart, got 0; guide ancestral steps, or use a schedule without zeroTerminalSnr',
      )
    })

    it('changes nothing at classifier scale 0', async () => {
      const { classifier } = made
      const guided = await draw(made.free, { classifierGuidance: { classifier, scale: 0, y } }, 0)
      expect(guided).to.deep.equal(await draw(made.free, {}, 0))
    })
  })
}

/** First two numbers, last, sum, sum of absolute values: what the specification lists. */
function summary(values: Float32Array): number[] {
  const sum = (of: (value: number) => number) => values.reduce((total, value) => total + of(value), 0)
  return [values[0] as number, values[1] as number, values.at(-1) as number, sum((v) => v), sum(Math.abs)]
}

describe('Guidance against the numbers of the specification', () => {
  it('takes guided ancestral and DDIM steps of the toy model (A.3)', async () => {
    const process = NoiseSchedule.create({ name: 'linear' }).respace('10')
    const k = Int32Array.of(0, 3, 9)
    const told = Array.from(k, (step) => process.tables.timestepMap[step] as number)
    const tau = (i: number) => told[Math.floor(i / 48)] as number
    const make = (of: (i: number) => number) => Float32Array.from({ length: 144 }, (_, i) => of(i))
    const x = make((i) => 1.2 * Math.sin(0.91 * i - 0.3))
    const z = make((i) => 1.3 * Math.sin(1.7 * i + 0.5))
    const g = make((i) => -0.3 * (x[i] as number) * (1 + 0.001 * tau(i)))
    const output = new Float32Array(288)
    for (let i = 0; i < 144; i++) {
      const at = Math.floor(i / 48) * 96 + (i % 48)
      output[at] = 0.6 * Math.sin(2 * (x[i] as number) + 0.001 * tau(i))
      output[at + 48] = 0.9 * Math.cos(3 * (x[i] as number) - 0.002 * tau(i))
    }
    const toDevice = async (data: Float32Array, channels: number) =>
      (await DeviceTensor.from({ data, shape: [3, channels, 4, 4] })).handle
    const [xt, noise, gradient] = [await toDevice(x, 3), await toDevice(z, 3), await toDevice(g, 3)]
    const values = Float32Array.from(
      { length: 144 },
      (_, i) => output[Math.floor(i / 48) * 96 + 48 + (i % 48)]!,
    )
    const layout = { heads: ['eps'], imageChannels: 3, learnsVariance: true } as const
    const addon = native()
    const host = async (handle: typeof xt) => (await addon.tensorToHost(handle)).data as Float32Array
    const said = await addon.denoiserInterpret(
      process.handle, layout, 'learnedRange', await toDevice(output, 6), xt, k, true,
    ) // biome-ignore format: short
    const ancestral = await addon.reverseAncestral(
      process.handle, 'learnedRange', said.xStart, await toDevice(values, 3), xt, noise, k, undefined, gradient,
    ) // biome-ignore format: short
    const tolerance = { absolute: 2e-6, relative: 2e-6 }
    expectClose(summary(await host(ancestral)), [-0.3507236, 0.6815692, -1.040116, -1.563391, 103.4066], {
      ...tolerance,
      what: 'p_sample + cond',
    })
    const xStart = await addon.guidedXStart(process.handle, said.xStart, gradient, k, false)
    expectClose(summary(await host(xStart)), [-0.3507236, 0.6815692, 95.79959, -59.83292, 3454.527], {
      ...tolerance,
      what: 'pred_xstart + cond',
    })
    const ddim = await addon.reverseDdim(process.handle, xStart, xt, undefined, 0, k)
    expectClose(summary(await host(ddim)), [-0.3507236, 0.6815692, 0.1214942, -0.8032818, 70.77799], {
      absolute: 5e-6,
      relative: 5e-6,
      what: 'ddim + cond',
    })
  })

  it('computes logits of every pool, and the gradient that guides (A.4)', async () => {
    const shape = [2, 3, 32, 32]
    const x = { data: Float32Array.from({ length: 6144 }, (_, i) => Math.sin(0.013 * i + 0.2)), shape }
    const t = { data: Float32Array.of(0, 500), shape: [2] }
    const logits = {
      attention: [-0.219306, -0.185683, 0.071647, 0.077232, -1.16063, 2.74301],
      adaptive: [0.195335, 0.301111, -0.002603, -0.204932, 0.3422, 3.10442],
      spatial: [2.799134, -0.623236, -1.536825, 3.30196, 0.06387, 47.76373],
      spatial_v2: [1.999297, 1.995505, -5.268291, 6.326927, -0.39822, 82.3457],
    }
    for (const [pool, numbers] of Object.entries(logits)) {
      const classifier = await Classifier.fromGuidedDiffusion({
        ...{ image_size: 32, model_channels: 32, out_channels: 10, num_res_blocks: 1 },
        ...{ attention_resolutions: [2], channel_mult: [1, 2], num_heads: 4, num_head_channels: 32 },
        ...{ use_scale_shift_norm: true, resblock_updown: true, pool: pool as keyof typeof logits },
      })
      await loadWaveWeights(classifier)
      const out = float32(await classifier.forward({ x, t }))
      const found = [...out.slice(0, 4), ...summary(out).slice(3)]
      expectCloseToMax(found.slice(0, 4), numbers.slice(0, 4), 1e-4, `${pool} logits`)
      expectClose(found.slice(4), numbers.slice(4), { absolute: 1e-3, relative: 1e-4, what: `${pool} sums` })
      if (pool === 'attention') {
        const process = NoiseSchedule.create({ name: 'linear' })
        // One step for the whole batch: two batches of one, each at its own timestep.
        const parts: number[] = []
        for (const [n, label] of [1, 7].entries()) {
          const row = out.slice(10 * n, 10 * n + 10)
          const total = row.reduce((sum, value) => sum + Math.exp(value), 0)
          const logProbability = (row[label] as number) - Math.log(total)
          expect(logProbability).to.be.closeTo([-2.4410479, -2.0558693][n] as number, 1e-5)
          const data = x.data.slice(3072 * n, 3072 * (n + 1))
          const xt = await DeviceTensor.from({ data, shape: [1, 3, 32, 32] })
          const gradient = await classifier.guidance(xt, process, 500 * n, Int32Array.of(label))
          parts.push(...float32(await gradient.toHost()).map((value) => 1000 * value))
        }
        const wanted = [0.004434, 0.007467, 0.013514, 0.010451]
        expectClose(parts.slice(0, 4), wanted, { absolute: 2e-6, relative: 1e-4, what: 'gradient' })
        const [, , , sum, absolute] = summary(Float32Array.from(parts))
        expectClose([sum as number, absolute as number], [0.14553, 396.31754], {
          absolute: 1e-3,
          relative: 1e-4,
          what: 'gradient sums',
        })
      }
      classifier.dispose()
    }
  })
})
