import { argumentError, checkInteger, checkNumber } from '../check.ts'
import { DeviceTensor } from '../device-tensor.ts'
import type { UNet } from '../model/unet.ts'
import { type DenoiseOptions, type HostData, native, type Precision, type VarianceType } from '../native.ts'
import { ALL_HEADS, type Head } from '../prediction/heads.ts'
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
   * @returns xStart [N, C, H, W]; the raw variance values of networks that learn a variance; and the mean of the ancestral
   * step where the network says it itself (head xPrev), which clipping does not touch
   */
  async predictXStart(
    xt: DeviceTensor,
    k: number,
  ): Promise<{ xStart: DeviceTensor; variance?: DeviceTensor; mean?: DeviceTensor }> {
    const call = 'denoiser.predictXStart'
    checkInteger(call, 'k', k, 0, this.process.timestepCount - 1)
    const { y, lowRes } = this.#options
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
    const options = this.nativeOptions(call, k)
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
    return {
      xStart: new DeviceTensor(result.xStart),
      ...(result.variance && { variance: new DeviceTensor(result.variance) }),
      ...(result.mean && { mean: new DeviceTensor(result.mean) }),
    }
  }

  /**
   * One step to less noise.
   *
   * @param step.eta - DDIM's eta: 0 is deterministic, 1 has DDPM's variance; undefined is the ancestral step of DDPM
   * @param step.variance - of the ancestral step
   * @param step.mean - of the ancestral step, as `predictXStart` gives it; the posterior's with xStart without it
   */
  async reverseStep(step: {
    readonly xt: DeviceTensor
    readonly xStart: DeviceTensor
    readonly k: number
    readonly eta?: number | undefined
    readonly variance?: VarianceType
    readonly varianceValues?: DeviceTensor | undefined
    readonly mean?: DeviceTensor | undefined
    readonly seed: number
    readonly firstImage?: number
  }): Promise<DeviceTensor> {
    const call = 'denoiser.reverseStep'
    const { xt, xStart, k, eta, seed, firstImage = 0, varianceValues, mean } = step
    const variance = step.variance ?? this.defaultVariance
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
          mean?.handle,
        ),
      )
    } finally {
      noise.dispose()
    }
  }

  /** The variance of ancestral steps and bounds unless told otherwise: what the network learned, else `fixedLarge`. */
  get defaultVariance(): VarianceType {
    return this.unet.layout.learnsVariance ? 'learnedRange' : 'fixedLarge'
  }

  /** @internal How the network is read at step k, in native form. */
  nativeOptions(call: string, k: number): DenoiseOptions {
    const { clip = true, rescalesTimesteps = false, precision = 'fp32' } = this.#options
    return { headWeights: this.#headWeights(call, k), clip, rescalesTimesteps, precision }
  }

  /** The weight of each of the network's heads at step k. */
  #headWeights(call: string, k: number): number[] {
    const { heads } = this.unet.layout
    const { alphaBar, timestepMap } = this.process.tables
    const combine = this.#options.combine ?? signalWeights(alphaBar[k] as number, heads)
    const chosen = typeof combine === 'function' ? combine(timestepMap[k] as number) : combine
    const weights: HeadWeights = typeof chosen === 'string' ? { [chosen]: 1 } : chosen
    for (const name of Object.keys(weights)) {
      if (!ALL_HEADS.includes(name as Head) || !heads.includes(name as Head)) {
        throw argumentError(call, 'combine', `among the network's heads (${heads.join(', ')})`, name)
      }
    }
    const list = heads.map((head) => weights[head] ?? 0)
    const sum = list.reduce((a, b) => a + b, 0)
    if (!(Math.abs(sum - 1) < 1e-6)) throw argumentError(call, 'combine', 'weights that add up to 1', sum)
    return list
  }
}
