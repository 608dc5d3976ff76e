// Numbers of the original implementation for a model that is a formula, so that every mean and variance type, chain and
// bound can be followed without a network.
import { expect } from 'chai'
import { DeviceTensor } from '../../lib/device-tensor.ts'
import { type LossKind, native, type TensorHandle, type VarianceType } from '../../lib/native.ts'
import type { Head } from '../../lib/prediction/heads.ts'
import { NoiseSchedule } from '../../lib/schedule/noise-schedule.ts'
import { expectClose } from '../support/close.ts'
import { ownLoss } from '../support/own-loss.ts'

const SHAPE = [3, 3, 4, 4] as const
const EACH = 48
const COUNT = 3 * EACH
const T: Int32Array = Int32Array.of(0, 3, 9)

const fill = (of: (i: number) => number): Float32Array =>
  Float32Array.from({ length: COUNT }, (_, i) => of(i))
const X_START = fill((i) => {
  const grey = Math.round((0.5 * Math.sin(0.37 * i + 0.1) + 0.5) * 255)
  return Math.max(-1, Math.min(1, grey / 127.5 - 1))
})
const EPS = fill((i) => 1.3 * Math.sin(1.7 * i + 0.5))
const X = fill((i) => 1.2 * Math.sin(0.91 * i - 0.3))

/** The model's output for xt at the timesteps of the original process, with the variance values or without. */
function output(xt: Float32Array, timesteps: readonly number[], learns: boolean): Float32Array {
  const out = new Float32Array(COUNT * (learns ? 2 : 1))
  for (const [i, x] of xt.entries()) {
    const n = Math.floor(i / EACH)
    const tau = timesteps[n] as number
    const at = learns ? n * 2 * EACH + (i % EACH) : i
    out[at] = 0.6 * Math.sin(2 * x + 0.001 * tau)
    if (learns) out[at + EACH] = 0.9 * Math.cos(3 * x - 0.002 * tau)
  }
  return out
}

const put = async (data: Float32Array, channels = 3): Promise<TensorHandle> =>
  (await DeviceTensor.from({ data, shape: [3, channels, 4, 4] })).handle
const get = async (handle: TensorHandle): Promise<Float32Array> =>
  (await native().tensorToHost(handle)).data as Float32Array
/** The second half of the channels, the variance values. */
const valuesOf = (both: Float32Array): Float32Array =>
  fill((i) => both[Math.floor(i / EACH) * 2 * EACH + EACH + (i % EACH)] as number)

/** First two, last, sum and sum of magnitudes. */
function expectDigest(values: Float32Array, expected: readonly number[], what: string): void {
  const sum = (of: (v: number) => number) => values.reduce((total, v) => total + of(v), 0)
  const digest = [values[0], values[1], values.at(-1), sum((v) => v), sum(Math.abs)] as number[]
  expectClose(digest, expected, { absolute: 3e-6, relative: 3e-6, what })
}

describe('Diffusion of a model that is a formula, against the original', () => {
  let process: NoiseSchedule
  const map = (): number[] => Array.from(process.tables.timestepMap)
  const told = (): number[] => Array.from(T, (k) => map()[k] as number)
  before(() => {
    process = NoiseSchedule.create({ name: 'linear' }).respace('10')
    expect(map()).to.deep.equal([0, 111, 222, 333, 444, 555, 666, 777, 888, 999])
  })

  async function interpret(head: Head, variance: VarianceType, clip = true, xt = X, k = T) {
    const learns = variance.startsWith('learned')
    const both = output(
      xt,
      Array.from(k, (step) => map()[step] as number),
      learns,
    )
    const layout = { heads: [head], imageChannels: 3, learnsVariance: learns }
    const said = await native().denoiserInterpret(
      process.handle,
      layout,
      variance,
      await put(both, learns ? 6 : 3),
      await put(xt),
      k,
      clip,
    )
    return { ...said, values: learns ? await put(valuesOf(both)) : undefined }
  }

  it('noises images', async () => {
    const noised = await native().scheduleQSample(process.handle, await put(X_START), await put(EPS), T)
    expectDigest(await get(noised), [0.1042669, 0.4614683, -1.287108, 3.288182, 105.763], 'q_sample')
  })

  it('has the posterior mean', async () => {
    const xt = await put(X)
    const nothing = await put(fill(() => 0))
    const { handle } = process
    // A step without noise is its mean.
    const mean = native().reverseAncestral(
      handle,
      'fixedSmall',
      await put(X_START),
      undefined,
      xt,
      nothing,
      T,
    )
    expectDigest(await get(await mean), [0.09803927, 0.4509804, -0.3491832, 3.441788, 63.79459], 'mean')
  })

  it('predicts xStart, mean and variance of every type', async () => {
    const eps = await interpret('eps', 'learnedRange')
    expectDigest(await get(eps.mean), [-0.3507342, 0.6815898, -0.3715627, -1.363625, 78.83165], 'eps mean')
    expectDigest(await get(eps.xStart), [-0.3507342, 0.6815898, -1, -20.9059, 112.5985], 'eps xStart')
    expectDigest(
      await get(eps.logVariance),
      [-9.210535, -9.210834, -0.1281747, -501.0276, 501.0276],
      'log-variance',
    )
    const xStart = await interpret('xStart', 'learnedRange')
    expectDigest(
      await get(xStart.mean),
      [-0.3907582, 0.5885221, -0.3638414, 0.6098785, 60.90268],
      'xStart mean',
    )
    const xPrev = await interpret('xPrev', 'learnedRange')
    expectDigest(await get(xPrev.xStart), [-0.3907582, 0.5885221, -1, -9.185767, 84.84317], 'xPrev xStart')
  })

  it('has the fixed variances of each timestep', async () => {
    const perStep = async (variance: VarianceType) => {
      const values = await get((await interpret('eps', variance)).logVariance)
      return [values[0], values[EACH], values[2 * EACH]] as number[]
    }
    const tolerance = { relative: 1e-6 }
    expectClose(await perStep('fixedSmall'), [-9.211032, -1.288016, -0.1283695], {
      ...tolerance,
      what: 'small',
    })
    expectClose(await perStep('fixedLarge'), [-9.211032, -0.7633142, -0.128074], {
      ...tolerance,
      what: 'large',
    })
  })

  async function ancestral(xt: Float32Array, k: Int32Array): Promise<Float32Array> {
    const { xStart, values } = await interpret('eps', 'learnedRange', true, xt, k)
    const noise = await put(EPS)
    const step = native().reverseAncestral(
      process.handle,
      'learnedRange',
      xStart,
      values,
      await put(xt),
      noise,
      k,
    )
    return get(await step)
  }

  async function ddim(xt: Float32Array, k: Int32Array, eta: number): Promise<Float32Array> {
    const { xStart } = await interpret('eps', 'learnedRange', true, xt, k)
    return get(await native().reverseDdim(process.handle, xStart, await put(xt), await put(EPS), eta, k))
  }

  it('takes ancestral and DDIM steps, and DDIM steps towards noise', async () => {
    expectDigest(await ancestral(X, T), [-0.3507342, 0.6815898, -1.581109, -1.191188, 108.7643], 'ancestral')
    for (const [eta, last, sum, magnitude] of [
      [0, -1.03729, -0.2767123, 108.9627],
      [0.5, -1.52299, -0.4643307, 107.5925],
      [1, -1.580991, -1.312093, 107.472],
    ] as const) {
      expectDigest(await ddim(X, T, eta), [-0.3507342, 0.6815898, last, sum, magnitude], `eta ${eta}`)
    }
    const { xStart } = await interpret('eps', 'learnedRange')
    const encoded = await native().reverseEncode(process.handle, xStart, await put(X), T)
    expectDigest(await get(encoded), [-0.4667425, 0.8462932, -1.019139, 2.055078, 192.8884], 'towards noise')
  })

  it('walks whole chains', async () => {
    let [x, y] = [X, X]
    for (let k = 9; k >= 0; k--) {
      const steps = new Int32Array(3).fill(k)
      x = await ancestral(x, steps)
      y = await ddim(y, steps, 0)
    }
    expectDigest(x, [1, 1, -1, -6.37572, 125.2653], 'ancestral chain')
    expectDigest(y, [-0.5283051, 1, -1, -13.5532, 115.5528], 'DDIM chain')
  })

  const noisedImages = async () =>
    get(await native().scheduleQSample(process.handle, await put(X_START), await put(EPS), T))

  const losses: [
    Head,
    VarianceType,
    LossKind,
    readonly number[],
    (readonly number[])?,
    (readonly number[])?,
  ][] = [
    [
      'eps',
      'learnedRange',
      'mse',
      [3.449765, 1.055141, 3.872663],
      [1.073701, 0.4520594, 0.61664],
      [2.376064, 0.6030814, 3.256023],
    ],
    ['eps', 'learnedRange', 'rescaledMse', [1.097462, 0.4580902, 0.6492003]],
    ['eps', 'learnedRange', 'rescaledKl', [23.76064, 6.030814, 32.56023]],
    ['eps', 'fixedLarge', 'kl', [2.376049, 0.5018256, 3.255555]],
    [
      'xStart',
      'learnedRange',
      'mse',
      [],
      [0.06194219, 0.583067, 0.7035564],
      [26.07386, 0.3587231, 0.0001499259],
    ],
    ['xPrev', 'learnedRange', 'mse', [], [0.06194219, 0.308627, 0.1346768], [26.07386, 0.6744295, 0.1104399]],
  ]
  for (const [head, variance, kind, loss, mse, bound] of losses) {
    it(`has the losses ${kind} of ${head} with ${variance} variance`, async () => {
      const learns = variance.startsWith('learned')
      const layout = { heads: [head], imageChannels: 3, learnsVariance: learns }
      const config = {
        ...layout,
        loss: ownLoss(head, kind),
        variance,
        boundWeight: 1,
      }
      const out = output(await noisedImages(), told(), learns)
      const said = await native().lossOfOutput(process.handle, config, await put(out, learns ? 6 : 3), {
        images: { data: X_START, shape: SHAPE },
        noise: { data: EPS, shape: SHAPE },
        t: T,
      })
      const tolerance = { absolute: 1e-7, relative: 1e-5 }
      if (loss.length > 0) expectClose(said.loss, loss, { ...tolerance, what: 'loss' })
      if (mse) expectClose(said.perHead, mse, { ...tolerance, what: 'mse' })
      if (bound) expectClose(said.bound as Float32Array, bound, { ...tolerance, what: 'bound' })
    })
  }

  it('adds up bits per dimension', async () => {
    const layout = { heads: ['eps'], imageChannels: 3, learnsVariance: true } as const
    const options = {
      ...{ headWeights: [1], clip: true, rescalesTimesteps: false, precision: 'fp32' as const },
      ...{ guidanceScale: 1, nullClass: 0 },
    } as const
    const host = { data: X_START, shape: SHAPE }
    const prior = (await native().boundPrior(process.handle, host)).data as Float32Array
    expectClose(prior, [1.478757e-5, 1.385857e-5, 1.516686e-5], { absolute: 2e-10, what: 'prior' })
    const total = Float64Array.from(prior)
    const [images, noise] = await Promise.all([put(X_START), put(EPS)])
    for (let k = 9; k >= 0; k--) {
      const steps = new Int32Array(3).fill(k)
      const xt = await get(await native().scheduleQSample(process.handle, images, noise, steps))
      const out = await put(output(xt, new Array(3).fill(map()[k]), true), 6)
      const said = await native().boundOfOutput(
        process.handle,
        layout,
        'learnedRange',
        out,
        images,
        noise,
        steps,
        options,
      )
      for (const [i, bits] of said.bound.entries()) (total[i] as number) += bits
      const first = { 9: 0.000301863, 8: 0.001893694, 7: 0.009129827 }[k]
      if (first) expectClose([said.bound[0] as number], [first], { relative: 1e-4, what: `bound at ${k}` })
    }
    expectClose(total, [65.86205, 54.50341, 65.76759], { relative: 1e-6, what: 'total' })
  })
})

describe('The pieces of the likelihood, against the original', () => {
  /** Of images of one pixel each, as the bound has it at t = 0. */
  async function logLikelihood(x: number[], mean: number[], logScale: number): Promise<number[]> {
    const process = NoiseSchedule.create({ name: 'linear' })
    const one = async (values: readonly number[]) =>
      (await DeviceTensor.from({ data: Float32Array.from(values), shape: [values.length, 1, 1, 1] })).handle
    const logVariance = await one(x.map(() => 2 * logScale))
    const bits = await native().reverseBound(
      process.handle,
      await one(x),
      await one(x),
      await one(mean),
      logVariance,
      new Int32Array(x.length),
    )
    return Array.from(bits.data as Float32Array, (value) => -value * Math.LN2)
  }

  it('has the log-likelihood of 8-bit pixels, with whole tails at both ends', async () => {
    const actual = await logLikelihood([-1, -0.5, 0, 127 / 127.5 - 1, 1], [-0.9, -0.45, 0.01, 0, 0.95], -3)
    expectClose(actual, [-3.619462, -3.272137, -2.78832, -2.771204, -1.728859], {
      relative: 2e-6,
      what: 'log p',
    })
  })

  it('has the approximate normal distribution function', async () => {
    // Of a black pixel the likelihood is that function at its upper edge.
    const z = [-3, -1, 0, 0.5, 2]
    const logs = await logLikelihood(
      z.map(() => -1),
      z.map((at) => -1 + 1 / 255 - at),
      0,
    )
    const expected = [0.0012124777, 0.158807993, 0.5, 0.691428006, 0.977298856]
    expectClose(logs.map(Math.exp), expected, { relative: 2e-6, what: 'Phi' })
  })

  it('has the divergence of two normal distributions', async () => {
    // Betas whose posterior at t = 1 has log-variance -1, and an xStart that gives it the mean 0.3.
    const tilde = Math.exp(-1)
    const betas = Float64Array.of(0.7, (0.7 * tilde) / (0.7 - 0.3 * tilde))
    const process = NoiseSchedule.create({ betas })
    expectClose([process.tables.posteriorLogVarianceClipped[1] as number], [-1], {
      relative: 1e-12,
      what: 'variance',
    })
    const one = async (value: number) =>
      (await DeviceTensor.from({ data: Float32Array.of(value), shape: [1, 1, 1, 1] })).handle
    const xStart = await one(0.3 / (process.tables.posteriorMeanXStart[1] as number))
    const bits = await native().reverseBound(
      process.handle,
      xStart,
      await one(0),
      await one(0.1),
      await one(-0.5),
      1,
    )
    const kl = (bits.data[0] as number) * Math.LN2
    expectClose([kl], [0.08623976], { relative: 2e-6, what: 'KL' })
  })
})
