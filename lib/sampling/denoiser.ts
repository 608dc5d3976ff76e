import { argumentError, checkInteger, checkNumber } from '../check.ts'
import { DeviceTensor } from '../device-tensor.ts'
import type { UNet } from '../model/unet.ts'
import { type HostData, native, type Precision, type VarianceType } from '../native.ts'
import { HEADS, type Head } from '../prediction/heads.ts'
import type { NoiseSchedule } from '../schedule/noise-schedule.ts'
import { signalWeights } from './combine.ts'

/** How much each head counts in the prediction of xStart; the weights add up to 1. */
export type HeadWeights = Partial<Record<Head, number>>

/**
 * Which prediction a sampler uses: one head everywhere, fixed weights, or a choice for each timestep t of the trained
 * process, which some step spacings make fractional. Predictions are combined in xStart space, before clipping.
 */
export type Combine = Head | HeadWeights | ((t: number) => Head | HeadWeights)

/** How a denoiser reads the network. */
export interface DenoiserOptions {
  /** `signalWeights` by default, which is the head itself where there is only one. */
  readonly combine?: Combine
  /** Clip the prediction of xStart to [-1, 1]; true by default. */
  readonly clip?: boolean
  /** The network was trained on t x 1000 / T (improved-diffusion); false by default. */
  readonly rescalesTimesteps?: boolean
  readonly precision?: Precision
  /** [N] classes, for class-conditional networks. */
  readonly y?: Int32Array
  /** [N, C, h, w], for super-resolution. */
  readonly lowRes?: HostData
}

/** A network and the process that it walks back: two calls a timestep, pixels stay on the device. */
export class Denoiser {
  readonly unet: UNet
  readonly process: NoiseSchedule
  readonly #options: DenoiserOptions

  constructor(unet: UNet, process: NoiseSchedule, options: DenoiserOptions = {}) {
    this.unet = unet
    this.process = process
    this.#options = options
  }

  /** Where samples start: standard normal numbers, one stream an image, keyed by (seed, image index). */
  async noise(shape: readonly number[], seed: number, firstImage = 0): Promise<DeviceTensor> {
    this.unet.checkImageShape('denoiser.noise', shape)
    checkInteger('denoiser.noise', 'seed', seed, 0)
    const key = { seed, purpose: 'startNoise', step: 0, firstSample: firstImage } as const
    return DeviceTensor.noise(shape, key, this.unet.device)
  }

  /** Noise of one ancestral step, keyed by (seed, timestep, image index); by k where timesteps are fractional. */
  async stepNoise(shape: readonly number[], seed: number, k: number, firstImage = 0): Promise<DeviceTensor> {
    const { timestepMap } = this.process.tables
    const step = timestepMap.every(Number.isInteger) ? (timestepMap[k] as number) : k
    return DeviceTensor.noise(
      shape,
      { seed, purpose: 'stepNoise', step, firstSample: firstImage },
      this.unet.device,
    )
  }

  /**
   * The clean image that the network sees in xt.
   *
   * @param k - step of the process, 0 is the last one
   * @returns xStart [N, C, H, W], and the raw variance values of networks that learn a variance
   */
  async predictXStart(
    xt: DeviceTensor,
    k: number,
  ): Promise<{ xStart: DeviceTensor; variance?: DeviceTensor }> {
    const call = 'denoiser.predictXStart'
    checkInteger(call, 'k', k, 0, this.process.timestepCount - 1)
    const { clip = true, rescalesTimesteps = false, precision = 'fp32', y, lowRes } = this.#options
    const count = xt.shape[0] as number
    const conditions = {
      y: y ? { data: y, shape: [y.length] } : undefined,
      lowRes,
    }
    this.unet.checkInput(call, {
      x: { data: new Float32Array(0), shape: xt.shape },
      t: { data: new Float32Array(0), shape: [count] },
      ...conditions,
    })
    const options = { headWeights: this.#headWeights(call, k), clip, rescalesTimesteps, precision }
    const { unet, process } = this
    const result = await native().denoiserPredict(
      unet.handle,
      process.handle,
      unet.layout,
      xt.handle,
      k,
      options,
      conditions.y,
      conditions.lowRes,
    )
    const xStart = new DeviceTensor(result.xStart)
    return result.variance ? { xStart, variance: new DeviceTensor(result.variance) } : { xStart }
  }

  /**
   * One step to less noise.
   *
   * @param step.eta - DDIM's eta: 0 is deterministic, 1 has DDPM's variance; undefined is the ancestral step of DDPM
   * @param step.variance - of the ancestral step
   */
  async reverseStep(step: {
    readonly xt: DeviceTensor
    readonly xStart: DeviceTensor
    readonly k: number
    readonly eta?: number | undefined
    readonly variance?: VarianceType
    readonly varianceValues?: DeviceTensor | undefined
    readonly seed: number
    readonly firstImage?: number
  }): Promise<DeviceTensor> {
    const call = 'denoiser.reverseStep'
    const { xt, xStart, k, eta, seed, firstImage = 0, varianceValues } = step
    const learns = this.unet.layout.learnsVariance
    const variance = step.variance ?? (learns ? 'learnedRange' : 'fixedLarge')
    checkInteger(call, 'k', k, 0, this.process.timestepCount - 1)
    if (eta !== undefined) checkNumber(call, 'eta', eta, 0, 1)
    const { process } = this
    if (eta === 0) {
      return new DeviceTensor(
        await native().reverseDdim(process.handle, xStart.handle, xt.handle, undefined, 0, k),
      )
    }
    const noise = await this.stepNoise(xt.shape, seed, k, firstImage)
    try {
      if (eta !== undefined) {
        return new DeviceTensor(
          await native().reverseDdim(process.handle, xStart.handle, xt.handle, noise.handle, eta, k),
        )
      }
      if (variance.startsWith('learned') && !varianceValues) {
        throw argumentError(call, 'varianceValues', `given for variance ${variance}`, varianceValues)
      }
      return new DeviceTensor(
        await native().reverseAncestral(
          process.handle,
          variance,
          xStart.handle,
          varianceValues?.handle,
          xt.handle,
          noise.handle,
          k,
        ),
      )
    } finally {
      noise.dispose()
    }
  }

  /** The weight of each of the network's heads at step k. */
  #headWeights(call: string, k: number): number[] {
    const { heads } = this.unet.layout
    const { alphaBar, timestepMap } = this.process.tables
    const combine = this.#options.combine ?? signalWeights(alphaBar[k] as number, heads)
    const chosen = typeof combine === 'function' ? combine(timestepMap[k] as number) : combine
    const weights: HeadWeights = typeof chosen === 'string' ? { [chosen]: 1 } : chosen
    for (const name of Object.keys(weights)) {
      if (!HEADS.includes(name as Head) || !heads.includes(name as Head)) {
        throw argumentError(call, 'combine', `among the network's heads (${heads.join(', ')})`, name)
      }
    }
    const list = heads.map((head) => weights[head] ?? 0)
    const sum = list.reduce((a, b) => a + b, 0)
    if (!(Math.abs(sum - 1) < 1e-6)) throw argumentError(call, 'combine', 'weights that add up to 1', sum)
    return list
  }
}
