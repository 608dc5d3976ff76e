import {
  argumentError,
  checkInteger,
  checkKnownOptions,
  checkNumber,
  checkObject,
  checkOneOf,
} from '../check.ts'
import { PRECISIONS } from '../device.ts'
import { DeviceTensor } from '../device-tensor.ts'
import type { Classifier } from '../model/classifier.ts'
import type { UNet } from '../model/unet.ts'
import { type DenoiseOptions, type HostData, native, type Precision, type VarianceType } from '../native.ts'
import type { Head } from '../prediction/heads.ts'
import { type HeadWeights, signalWeights } from '../prediction/signal-weights.ts'
import type { NoiseSchedule } from '../schedule/noise-schedule.ts'
import { headWeights } from './head-weights.ts'

/**
 * Which prediction a sampler uses: one head everywhere, fixed weights, or a choice for each timestep t of the trained
 * process, which some step spacings make fractional; or the network's own `gate`, which decides for each pixel.
 * Predictions are combined in xStart space, before clipping.
 */
export type Combine = Head | 'gate' | HeadWeights | ((t: number) => Head | 'gate' | HeadWeights)

/** A classifier that leads samples towards classes (Dhariwal & Nichol 2021, section 4). */
export interface ClassifierGuidance {
  /** Trained on images that the same noise schedule has noised. */
  readonly classifier: Classifier
  /** Factor on the gradient of log p(y | xt); 0 is no guidance; 1 by default. */
  readonly scale?: number
  /** [N] classes, also where the network itself takes none. */
  readonly y: Int32Array
  /**
   * Clip the guided prediction of xStart to [-1, 1] in samplers that follow the score. guided-diffusion does not, which is
   * the default; without it few steps on a schedule that ends with nearly no signal, as cosine does, run away.
   */
  readonly clip?: boolean
}

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
  /**
   * Classifier-free guidance, free + scale * (with classes - free): 1, the default, is the network with its classes, 0
   * the network without them, more than 1 leads further towards the classes. Ho & Salimans' w is scale - 1. Any scale but
   * 1 needs a network with a null class, and all but 0 and 1 cost two evaluations, which run as one batch.
   */
  readonly guidanceScale?: number
  /** Timesteps [begin, end) of the trained process where that scale holds, 1 elsewhere (Kynkäänniemi et al. 2024). */
  readonly guidanceInterval?: readonly [begin: number, end: number]
  readonly classifierGuidance?: ClassifierGuidance
}

const OPTIONS = [
  'combine', 'clip', 'rescalesTimesteps', 'precision', 'y', 'lowRes', 'guidanceScale', 'guidanceInterval', 'classifierGuidance',
] as const satisfies readonly (keyof DenoiserOptions)[] // biome-ignore format: one list

/** A network and the process that it walks back: two calls a timestep, pixels stay on the device. */
export class Denoiser {
  readonly unet: UNet
  readonly process: NoiseSchedule
  readonly #options: DenoiserOptions

  /** @throws RangeError, TypeError for options that are wrong or unknown, and guidance that the network does not allow */
  constructor(unet: UNet, process: NoiseSchedule, options: DenoiserOptions = {}) {
    const call = 'Denoiser'
    checkObject(call, 'unet', unet, 'UNet')
    checkObject(call, 'process', process, 'NoiseSchedule')
    checkKnownOptions(call, options, OPTIONS)
    const { guidanceScale = 1, guidanceInterval, classifierGuidance, precision = 'fp32' } = options
    checkOneOf(call, 'precision', precision, PRECISIONS)
    checkNumber(call, 'guidanceScale', guidanceScale)
    if (guidanceScale !== 1 && !unet.config?.nullClass) {
      throw argumentError(call, 'guidanceScale', '1 for a network without a null class', guidanceScale, {
        hint: 'train one with labelDropout',
      })
    }
    if (guidanceInterval) {
      const [begin, end] = guidanceInterval
      checkInteger(call, 'guidanceInterval[0]', begin, 0)
      checkInteger(call, 'guidanceInterval[1]', end, begin)
    }
    if (classifierGuidance?.scale !== undefined) {
      checkNumber(call, 'classifierGuidance.scale', classifierGuidance.scale)
    }
    this.unet = unet
    this.process = process
    this.#options = options
  }

  /** Whether anything leads predictions away from the network's own. */
  get isGuided(): boolean {
    const { guidanceScale = 1, classifierGuidance } = this.#options
    return guidanceScale !== 1 || (classifierGuidance !== undefined && classifierGuidance.scale !== 0)
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
   * Gradient of the classifier's scale * log p(y | xt) at step k, for `reverseStep`; undefined without a classifier.
   *
   * @returns [N, C, H, W]
   */
  async classifierGradient(xt: DeviceTensor, k: number): Promise<DeviceTensor | undefined> {
    const { classifierGuidance, rescalesTimesteps = false, precision = 'fp32' } = this.#options
    const { classifier, scale = 1, y } = classifierGuidance ?? {}
    if (!classifier || !y || scale === 0) return undefined
    return classifier.guidance(xt, this.process, k, y, { scale, rescalesTimesteps, precision })
  }

  /**
   * The prediction that follows the score with a classifier's gradient added (math.md, eq. 33), for every sampler that
   * works on xStart alone; clipped only where the options say so.
   */
  async guidedXStart(xStart: DeviceTensor, gradient: DeviceTensor, k: number): Promise<DeviceTensor> {
    const { process } = this
    const call = 'denoiser.guidedXStart'
    const { clip = false } = this.#options.classifierGuidance ?? {}
    checkInteger(call, 'k', k, 0, process.timestepCount - 1)
    if (process.tables.alphaBar[k] === 0) {
      throw argumentError(call, 'alphaBar', '> 0, where a score says something about xStart', 0, {
        hint: 'guide ancestral steps, or use a schedule without zeroTerminalSnr',
      })
    }
    return new DeviceTensor(
      await native().guidedXStart(process.handle, xStart.handle, gradient.handle, k, clip),
    )
  }

  /**
   * One step to less noise.
   *
   * @param step.gradient - of a classifier: moves the mean of an ancestral step (math.md, eq. 32), and the score of a DDIM step
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
    readonly gradient?: DeviceTensor | undefined
    readonly mean?: DeviceTensor | undefined
    readonly seed: number
    readonly firstImage?: number
  }): Promise<DeviceTensor> {
    const call = 'denoiser.reverseStep'
    const { xt, k, eta, seed, firstImage = 0, varianceValues, gradient, mean } = step
    const variance = step.variance ?? this.defaultVariance
    checkInteger(call, 'k', k, 0, this.process.timestepCount - 1)
    if (eta !== undefined) checkNumber(call, 'eta', eta, 0, 1)
    const { process } = this
    if (eta !== undefined && gradient) {
      const xStart = await this.guidedXStart(step.xStart, gradient, k)
      try {
        return await this.reverseStep({ ...step, xStart, gradient: undefined })
      } finally {
        xStart.dispose()
      }
    }
    const { xStart } = step
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
          gradient?.handle,
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
    return {
      ...{ headWeights: this.#headWeights(call, k), clip, rescalesTimesteps, precision },
      guidanceScale: this.#guidanceScale(k),
      nullClass: this.unet.config?.classCount ?? 0,
    }
  }

  /** The scale of classifier-free guidance at step k. */
  #guidanceScale(k: number): number {
    const { guidanceScale = 1, guidanceInterval } = this.#options
    const t = this.process.tables.timestepMap[k] as number
    const holds = !guidanceInterval || (t >= guidanceInterval[0] && t < guidanceInterval[1])
    return holds ? guidanceScale : 1
  }

  /** The weight of each of the network's heads at step k; none where its gate decides. */
  #headWeights(call: string, k: number): number[] {
    const { heads, gate } = this.unet.layout
    const { alphaBar, timestepMap } = this.process.tables
    const combine = this.#options.combine ?? signalWeights(alphaBar[k] as number, heads)
    const chosen = typeof combine === 'function' ? combine(timestepMap[k] as number) : combine
    if (chosen === 'gate') {
      if (gate) return []
      throw argumentError(call, 'combine', `among the network's heads (${heads.join(', ')})`, chosen, {
        hint: 'its gate was not created',
      })
    }
    if (typeof chosen === 'string' && ['signal', 'table', 'blue', 'mean'].includes(chosen)) {
      throw argumentError(call, 'combine', 'a head, weights, or a function', chosen, {
        hint: 'parseCombine and openCombine make one of such words',
      })
    }
    const weights = headWeights(call, chosen, heads)
    if (alphaBar[k] === 0 && heads.some((head, h) => head === 'eps' && weights[h] !== 0)) {
      throw argumentError(call, 'combine', `without eps at step ${k}, where no signal is left`, chosen, {
        hint: 'combine by signal, or use v or xStart',
      })
    }
    return weights
  }
}
