import {
  argumentError,
  checkFinite,
  checkInteger,
  checkKnownOptions,
  checkNumber,
  checkObject,
  checkOneOf,
  checkText,
  checkTimesteps,
} from '../check.ts'
import { PRECISIONS } from '../device.ts'
import { NativeError } from '../errors.ts'
import type { HeadDecision } from '../mixing/policy.ts'
import type { UNet } from '../model/unet.ts'
import {
  type Choose,
  type LossKind,
  type NativeLayout,
  type NativeTrainerConfig,
  native,
  type Precision,
  type Space,
  type TrainerHandle,
  type VarianceType,
} from '../native.ts'
import { NativeObject } from '../native-object.ts'
import { ALL_HEADS, type Head } from '../prediction/heads.ts'
import { keyedRandom } from '../random.ts'
import type { NoiseSchedule } from '../schedule/noise-schedule.ts'
import { checkImages, type ImageBatch } from '../tensor.ts'
import { headInputs, referenceImages } from './head-inputs.ts'

/** What is minimised. What the heads predict and which timesteps are drawn are chosen elsewhere. */
export interface LossOptions {
  /**
   * `mse` (default): the heads' errors, and where a variance is learned the variational bound, which trains the variance
   * alone. `rescaledMse`: that bound times T / 1000. `kl`: the bound alone, through mean and variance, for networks of one
   * head; `rescaledKl`: times T (math.md, eq. 12a; improved DDPM, section 3).
   */
  readonly kind?: LossKind
  /** Space in which heads are compared; `own`, the default, is the paper's, `xStart` one in which they can be compared. */
  readonly compare?: Space
  /**
   * How much each head's error counts (math.md, eq. 15 and 60); `mean` by default. `min` (the paper): the smallest of each
   * example; `minBatch`: the head that is best on the whole batch; `minPixel`: the smallest of each pixel; `mean`: all heads
   * equally; the name of one head; `relaxed`: the smallest, of which the others get a part (`floor` of the step); `softmin`: a
   * softmax of the negative errors (`temperature` of the step); `given`: the `share` of the step, equal ones where a loss is
   * only measured.
   */
  readonly choose?: Choose
  /** Space of the back-propagated error, that is, its weight over timesteps; `own` by default. */
  readonly space?: Space
  /** Standard deviation of the pixels, at least 1e-6, for space F; 0.5 by default. */
  readonly sigmaData?: number
  /**
   * Weight of 1 - cos(v, its target) beside the heads' errors, >= 0 and for networks that train a v head (math.md, eq. 60a; after Yao et al. 2024,
   * FasterDiT, arXiv 2410.10356, which has it at 1); 0 by default.
   */
  readonly directionWeight?: number
}

/** The dynamic loss scale of fp16 (math.md, eq. 25a), in powers of two: the loss is multiplied by 2^log2 before its gradient is taken. */
export interface LossScaleOptions {
  /** At the first step; 20 by default. */
  readonly log2?: number
  /** What each finite step adds; 0.001 by default. */
  readonly growth?: number
  /** The smallest, at which a gradient that is not finite is no longer taken for an overflow; 0 by default. */
  readonly min?: number
  /** The largest; 32 by default. */
  readonly max?: number
}

/** Options of `Trainer.create`. */
export interface TrainerOptions {
  /** Keys noise and dropout; 0 by default. */
  readonly seed?: number
  /** The mean of the heads' errors, each in its own unit, by default. */
  readonly loss?: LossOptions
  /** Variance of the reverse process: `learnedRange` by default where the network learns one, else `fixedLarge`. */
  readonly variance?: VarianceType
  /** Weight of the variational bound beside the heads' errors; 1 by default. */
  readonly boundWeight?: number
  /** Tell the network t x 1000 / T instead of t, as improved-diffusion's networks expect; false by default. */
  readonly rescalesTimesteps?: boolean
  /** Rate of Adam's first moment, in [0, 1); 0.9 by default. */
  readonly beta1?: number
  /** Rate of Adam's second moment, in [0, 1); 0.999 by default. */
  readonly beta2?: number
  /** Guard of Adam's division; 1e-8 by default. */
  readonly tiny?: number
  /** AdamW's; 0 by default. */
  readonly weightDecay?: number
  /** Decay norms and biases too, as guided-diffusion does; false by default. */
  readonly decayAll?: boolean
  /** Rates of the moving averages, per step, in [0, 1] and all different; `[0.9999]` by default, `[]` for none. */
  readonly emaRates?: readonly number[]
  /** Begin averages with rate (1 + n) / (10 + n); true by default. */
  readonly emaWarmsUp?: boolean
  /** Greatest gradient norm; 0 clips nothing; 1 by default. */
  readonly clipNorm?: number
  /**
   * Chance, in [0, 1], of an example to be trained with the null class instead of its own, which classifier-free guidance needs
   * (Ho & Salimans 2022, algorithm 1; 0.1 to 0.2 there). Needs a network with `nullClass`. 0 by default.
   */
  readonly labelDropout?: number
  /** Examples a forward pass; gradients of the parts add up. 0, the whole batch, by default. */
  readonly microBatch?: number
  /** Add the mean losses of the parts up, as guided-diffusion does: k parts give a k times larger gradient. False by default. */
  readonly sumsMicroBatches?: boolean
  /** Of convolutions and attention; `fp32` by default. */
  readonly precision?: Precision
  /** For precision fp16 only: a gradient that overflows is skipped and halves the scale. */
  readonly lossScale?: LossScaleOptions
  /** What a loss or gradient that is not finite does: `stop`, the default, throws, `skip` changes nothing and goes on. */
  readonly nonFinite?: 'stop' | 'skip'
  /** Consecutive skips after which `skip` gives up; 10 by default. */
  readonly nonFiniteLimit?: number
}

/** `TrainerOptions` with every default filled in. */
export type TrainerConfig = Required<Omit<TrainerOptions, 'loss' | 'lossScale'>> & {
  readonly loss: Required<LossOptions>
  readonly lossScale: Required<LossScaleOptions>
}

const KNOWN = [
  'seed', 'loss', 'variance', 'boundWeight', 'rescalesTimesteps', 'beta1', 'beta2', 'tiny', 'weightDecay', 'decayAll',
  'emaRates', 'emaWarmsUp', 'clipNorm', 'labelDropout', 'microBatch', 'sumsMicroBatches', 'precision', 'lossScale', 'nonFinite',
  'nonFiniteLimit',
] as const // biome-ignore format: one list

/** The four spaces and each head's own unit. */
export const SPACES = ['own', 'xStart', 'v', 'eps', 'F'] as const

/** The ways to choose among heads, beside naming one. */
export const CHOICES = ['min', 'minBatch', 'minPixel', 'mean', 'relaxed', 'softmin', 'given'] as const
/** What may be minimised. */
export const LOSS_KINDS = ['mse', 'rescaledMse', 'kl', 'rescaledKl'] as const
/** Where the variance of a reverse step may come from. */
export const VARIANCE_TYPES = ['fixedSmall', 'fixedLarge', 'learned', 'learnedRange'] as const

/**
 * Fills in defaults and checks every option of a trainer.
 *
 * @param learnsVariance - whether the network does, on which the default of `variance` depends
 */
export function trainerConfig(options: TrainerOptions, learnsVariance = false): TrainerConfig {
  const call = 'Trainer.create'
  checkKnownOptions(call, options, KNOWN)
  checkKnownOptions(`${call} loss`, options.loss ?? {}, [
    'kind',
    'compare',
    'choose',
    'space',
    'sigmaData',
    'directionWeight',
  ])
  checkKnownOptions(`${call} lossScale`, options.lossScale ?? {}, ['log2', 'growth', 'min', 'max'])
  const config: TrainerConfig = {
    seed: options.seed ?? 0,
    loss: {
      kind: options.loss?.kind ?? 'mse',
      compare: options.loss?.compare ?? 'own',
      choose: options.loss?.choose ?? 'mean',
      space: options.loss?.space ?? 'own',
      sigmaData: options.loss?.sigmaData ?? 0.5,
      directionWeight: options.loss?.directionWeight ?? 0,
    },
    variance: options.variance ?? (learnsVariance ? 'learnedRange' : 'fixedLarge'),
    boundWeight: options.boundWeight ?? 1,
    rescalesTimesteps: options.rescalesTimesteps ?? false,
    beta1: options.beta1 ?? 0.9,
    beta2: options.beta2 ?? 0.999,
    tiny: options.tiny ?? 1e-8,
    weightDecay: options.weightDecay ?? 0,
    decayAll: options.decayAll ?? false,
    emaRates: options.emaRates ?? [0.9999],
    emaWarmsUp: options.emaWarmsUp ?? true,
    clipNorm: options.clipNorm ?? 1,
    labelDropout: options.labelDropout ?? 0,
    microBatch: options.microBatch ?? 0,
    sumsMicroBatches: options.sumsMicroBatches ?? false,
    precision: options.precision ?? 'fp32',
    lossScale: {
      log2: options.lossScale?.log2 ?? 20,
      growth: options.lossScale?.growth ?? 1e-3,
      min: options.lossScale?.min ?? 0,
      max: options.lossScale?.max ?? 32,
    },
    nonFinite: options.nonFinite ?? 'stop',
    nonFiniteLimit: options.nonFiniteLimit ?? 10,
  }
  checkInteger(call, 'seed', config.seed, 0)
  checkOneOf(call, 'loss.kind', config.loss.kind, LOSS_KINDS)
  checkOneOf(call, 'loss.compare', config.loss.compare, SPACES)
  checkOneOf(call, 'loss.space', config.loss.space, SPACES)
  checkOneOf(call, 'loss.choose', config.loss.choose, [...CHOICES, ...ALL_HEADS])
  checkNumber(call, 'loss.sigmaData', config.loss.sigmaData, 1e-6)
  checkNumber(call, 'loss.directionWeight', config.loss.directionWeight, 0)
  checkOneOf(call, 'variance', config.variance, VARIANCE_TYPES)
  checkNumber(call, 'boundWeight', config.boundWeight, 0)
  checkAdam(call, config)
  checkNumber(call, 'weightDecay', config.weightDecay, 0)
  checkNumber(call, 'clipNorm', config.clipNorm, 0)
  checkNumber(call, 'labelDropout', config.labelDropout, 0, 1)
  checkInteger(call, 'microBatch', config.microBatch, 0)
  checkInteger(call, 'nonFiniteLimit', config.nonFiniteLimit, 1)
  checkOneOf(call, 'precision', config.precision, PRECISIONS)
  checkOneOf(call, 'nonFinite', config.nonFinite, ['stop', 'skip'])
  const { min, max, log2, growth } = config.lossScale
  checkNumber(call, 'lossScale.min', min, -24, 64) // 2^±100 and more would leave float32
  checkNumber(call, 'lossScale.max', max, min, 64)
  checkNumber(call, 'lossScale.log2', log2, min, max)
  checkNumber(call, 'lossScale.growth', growth, 0)
  for (const [i, rate] of config.emaRates.entries()) checkNumber(call, `emaRates[${i}]`, rate, 0, 1)
  if (new Set(config.emaRates).size !== config.emaRates.length) {
    throw argumentError(call, 'emaRates', 'different rates', config.emaRates)
  }
  return config
}

/** @internal Checks Adam's numbers: at beta 1 its correction, and without a gradient at tiny 0 its step, is 0 / 0. */
export function checkAdam(call: string, config: Pick<TrainerConfig, 'beta1' | 'beta2' | 'tiny'>): void {
  for (const name of ['beta1', 'beta2'] as const) {
    checkNumber(call, name, config[name], 0, 1)
    if (config[name] === 1) throw argumentError(call, name, 'below 1', config[name])
  }
  checkNumber(call, 'tiny', config.tiny, 0)
  if (config.tiny === 0) throw argumentError(call, 'tiny', 'above 0', config.tiny)
}

/** @internal Where there is no direction of v to train, in words: by the bound alone, named by `kl`, and where no v is trained. */
export function withoutDirection(
  heads: readonly string[],
  choose: string,
  kl: string | false,
): string | undefined {
  if (kl) return `with ${kl}`
  const isOther = (ALL_HEADS as readonly string[]).includes(choose) && choose !== 'v'
  if (!isOther && heads.includes('v')) return undefined
  return `where v is not trained (heads ${heads.join(', ')}, choose ${choose})`
}

/** @internal Refuses to train one head alone that is not there. */
export function checkChosenHead(call: string, name: string, choose: Choose, heads: readonly Head[]): void {
  if ((CHOICES as readonly string[]).includes(choose) || heads.includes(choose as Head)) return
  throw argumentError(call, name, `a head that the network has (${heads.join(', ')})`, choose)
}

/** Refuses losses that a network of this output cannot have. */
function checkLossFits(call: string, config: TrainerConfig, layout: NativeLayout): void {
  const { kind, choose, compare, space, directionWeight } = config.loss
  const { heads, learnsVariance } = layout
  checkChosenHead(call, 'loss.choose', choose, heads)
  const isKl = kind === 'kl' || kind === 'rescaledKl'
  const without = directionWeight > 0 && withoutDirection(heads, choose, isKl && `loss.kind ${kind}`)
  if (without) throw argumentError(call, 'loss.directionWeight', `0 ${without}`, directionWeight)
  if (isKl && heads.length > 1) {
    const what = `mse or rescaledMse for a network of several heads (${heads.join(', ')})`
    throw argumentError(call, 'loss.kind', what, kind, {
      hint: 'the bound has one mean; give heads one word',
    })
  }
  if (isKl) {
    const without = Object.entries({ compare, space }).find(([, word]) => word !== 'own')
    if (without) throw argumentError(call, `loss.${without[0]}`, `own with loss.kind ${kind}`, without[1])
    if (config.boundWeight !== 1) {
      throw argumentError(call, 'boundWeight', `1 with loss.kind ${kind}`, config.boundWeight)
    }
  }
  if (kind === 'rescaledMse' && !learnsVariance) {
    throw argumentError(call, 'loss.kind', 'mse for a network that learns no variance', kind, {
      hint: 'only the bound is rescaled, and it has none',
    })
  }
  const isLearned = config.variance === 'learned' || config.variance === 'learnedRange'
  if (isLearned !== learnsVariance && (learnsVariance || isKl)) {
    const what = learnsVariance
      ? 'learned or learnedRange for a network that learns its variance'
      : 'fixedSmall or fixedLarge for a network that learns no variance'
    throw argumentError(call, 'variance', what, config.variance)
  }
}

/** @internal The native form of a trainer's options and a network's output, which must fit together. */
export function nativeTrainerConfig(call: string, unet: UNet, config: TrainerConfig): NativeTrainerConfig {
  checkLossFits(call, config, unet.layout)
  const { nonFiniteLimit: _, labelDropout: __, ...rest } = config
  return { ...rest, ...unet.layout }
}

/** The variance that a network trained so has in ancestral steps. */
export function trainedVariance(trainer: Pick<TrainerConfig, 'variance'>, unet: UNet): VarianceType {
  const isLearned = trainer.variance === 'learned' || trainer.variance === 'learnedRange'
  if (isLearned === unet.layout.learnsVariance) return trainer.variance
  return unet.layout.learnsVariance ? 'learnedRange' : 'fixedLarge'
}

/** One batch and how it is trained. */
export interface TrainStepInput extends HeadDecision {
  readonly images: ImageBatch
  /** [N] timesteps in [0, T). */
  readonly t: Int32Array
  /** [N] factor on each example's loss; 1 by default. */
  readonly weight?: Float32Array
  /** [N, C, H, W] standard normal numbers to noise the images with, instead of those keyed by seed, step and example. */
  readonly noise?: Float32Array
  /**
   * [R, C, H, W] images of the stable target field (Xu et al. 2023, arXiv 2302.00670; math.md, eq. 64): the targets of all
   * heads become those of the mean of these and the example's own image, weighted by how probable each is given x_t. Only for
   * networks without conditions. `perHead` and all that follows from it are then errors against these targets.
   */
  readonly reference?: ImageBatch
  /** Learning rate of this step. */
  readonly lr: number
}

/** What one step of optimisation did. */
export interface StepResult {
  /** Mean of weight x loss over the batch, also with `sumsMicroBatches`, whose gradient is that of a sum of such means. */
  readonly loss: number
  /** Global norm of the gradient before clipping. */
  readonly gradNorm: number
  /** The step was not finite, and nothing was changed. */
  readonly skipped: boolean
  /** Factor on the loss while its gradient was taken; 1 unless precision is fp16. */
  readonly lossScale: number
  /** [N], before the timestep weight. */
  readonly exampleLoss: Float32Array
  /** [N, heads] mean squared error of each head in its own unit. */
  readonly perHead: Float32Array
  /** [N] column of the head with the largest share in the loss, -1 where several have it. */
  readonly chosen: Int32Array
  /** [N, heads, heads] mean over pixels of two heads' errors of v, multiplied (math.md, eq. 63); of several heads only. */
  readonly errorProducts?: Float32Array
  /** [N, heads] mean over pixels of each head's error of xStart, its brightness; of several heads only. */
  readonly meanError?: Float32Array
  /** [N] variational bound in bits per dimension, before its weight; absent where it takes no part. */
  readonly bound?: Float32Array
}

/**
 * Trains one network: owns optimizer, averages and step count. A step is one call into native code.
 *
 * @example
 * const trainer = await Trainer.create(unet, schedule, { emaRates: [0.99] })
 * const result = await trainer.trainStep({ images, t, lr: 1e-4 })
 */
export class Trainer extends NativeObject<'trainer'> {
  readonly unet: UNet
  readonly schedule: NoiseSchedule
  readonly config: TrainerConfig
  #step = 0
  #queued = 0
  #skips = 0

  private constructor(handle: TrainerHandle, unet: UNet, schedule: NoiseSchedule, config: TrainerConfig) {
    super(handle, 'trainer')
    this.unet = unet
    this.schedule = schedule
    this.config = config
  }

  /** A trainer at step 0. Throws a RangeError or TypeError that names the option. */
  static async create(unet: UNet, schedule: NoiseSchedule, options: TrainerOptions = {}): Promise<Trainer> {
    const call = 'Trainer.create'
    checkObject(call, 'unet', unet, 'UNet')
    checkObject(call, 'schedule', schedule, 'NoiseSchedule')
    if (unet.isAverage) {
      throw argumentError(call, 'unet.isAverage', 'false', true, {
        hint: 'it belongs to another trainer; write it with saveWeights and load it into a network of its own',
      })
    }
    const config = trainerConfig(options, unet.layout.learnsVariance)
    const nativeConfig = nativeTrainerConfig(call, unet, config)
    if (config.loss.choose === 'minBatch' && config.microBatch > 0) {
      throw argumentError(
        call,
        'microBatch',
        '0 when the smallest head of the whole batch is chosen',
        config.microBatch,
      )
    }
    if (config.labelDropout > 0 && !unet.config?.nullClass) {
      throw argumentError(call, 'labelDropout', '0 for a network without a null class', config.labelDropout, {
        hint: 'create it with nullClass: true',
      })
    }
    const bound = unet.layout.learnsVariance || config.loss.kind === 'kl' || config.loss.kind === 'rescaledKl'
    if (bound && unet.layout.heads.join() === 'eps' && schedule.tables.alphaBar.at(-1) === 0) {
      throw argumentError(call, 'heads', 'others than eps alone for a bound where no signal is left', 'eps', {
        hint: 'predict v, or use a schedule without zeroTerminalSnr',
      })
    }
    const handle = await native().trainerCreate(unet.handle, schedule.handle, nativeConfig)
    return new Trainer(handle, unet, schedule, config)
  }

  /** Steps done, which is also the number of the next one. */
  get step(): number {
    return this.#step
  }

  /** Steps that were skipped in a row until now. */
  get skips(): number {
    return this.#skips
  }

  /**
   * One step of optimisation.
   *
   * @throws RangeError or TypeError for a bad batch; NativeError ERR_NON_FINITE for a loss or gradient that is not
   * finite under `nonFinite: 'stop'`, or after too many skips; nothing is changed then
   */
  async trainStep(input: TrainStepInput): Promise<StepResult> {
    const { images, t, weight, noise, reference, lr } = input
    const { loss } = this.config
    const call = 'trainer.trainStep'
    checkImages(call, 'images', images)
    const [count] = images.shape
    checkTimesteps(call, t, this.schedule.timestepCount, count)
    checkNumber(call, 'lr', lr, 0)
    if (weight !== undefined) {
      if (!(weight instanceof Float32Array) || weight.length !== count) {
        throw argumentError(call, 'weight', `a Float32Array of ${count} factors`, weight, { kind: 'type' })
      }
      const bad = weight.findIndex((w) => !Number.isFinite(w) || w < 0)
      if (bad !== -1) throw argumentError(call, `weight[${bad}]`, 'a finite number >= 0', weight[bad])
    }
    checkNoise(call, noise, images)
    const conditions = conditionsOf(images)
    this.unet.checkInput(call, { x: images, t: { data: t, shape: [t.length] }, ...conditions })
    const batch = {
      images: { data: images.data, shape: images.shape },
      t,
      weight: { data: weight ?? new Float32Array(count).fill(1), shape: [count] },
      ...(noise && { noise: { data: noise, shape: images.shape } }),
      ...conditions,
      ...(images.labels && { y: { data: this.#withDropout(images.labels), shape: [count] } }),
      ...headInputs(call, input, loss, [count, this.unet.layout.heads.length]),
      ...referenceImages(call, reference, images, this.unet, loss),
      lr,
    }
    let result: StepResult
    this.#queued++
    try {
      result = await native().trainerStep(this.handle, batch)
      this.#step++
    } finally {
      this.#queued--
    }
    // A skip that made the loss scale smaller is no more than an overflow.
    const { precision, lossScale } = this.config
    const mayBeOverflow = precision === 'fp16' && result.lossScale > 2 ** lossScale.min
    if (!result.skipped) this.#skips = 0
    else if (!mayBeOverflow) this.#skips++
    if (this.#skips >= this.config.nonFiniteLimit) {
      throw new NativeError(
        `${call}: expected a finite loss at least once in ${this.config.nonFiniteLimit} steps, got ${this.#skips} skipped steps in a row at step ${this.#step - 1}; lower the learning rate or the precision's risk (bf16 instead of fp16)`,
        'ERR_NON_FINITE',
      )
    }
    return result
  }

  /** Labels of which some, keyed by (seed, step, example), are the null class. */
  #withDropout(labels: Int32Array): Int32Array {
    const { labelDropout, seed } = this.config
    if (labelDropout === 0) return labels
    const random = keyedRandom(seed, 'labelDropout')
    const nullClass = this.unet.config?.classCount as number
    const step = this.#step + this.#queued // the number that the step will have
    return labels.map((label, i) => (random.at(step, i).uniform() < labelDropout ? nullClass : label))
  }

  /**
   * The network over the average of its weights with this rate; it shares the average, so it moves as training goes on.
   *
   * @throws RangeError for a rate of which no average is kept
   */
  async averaged(rate: number = this.config.emaRates[0] ?? 0): Promise<UNet> {
    const index = this.config.emaRates.indexOf(rate)
    if (index === -1) {
      throw argumentError(
        'trainer.averaged',
        'rate',
        `one of ${this.config.emaRates.join(', ') || 'none'}`,
        rate,
      )
    }
    return this.unet.over(await native().trainerAveraged(this.handle, index))
  }

  /** Writes weights, averages and optimizer into an existing folder; see `saveCheckpoint` for a whole, safe checkpoint. */
  async saveTensors(folder: string): Promise<void> {
    checkText('trainer.saveTensors', 'folder', folder)
    await native().trainerSave(this.handle, folder)
  }

  /**
   * Reads back what `saveTensors` wrote, the step count included; strict.
   *
   * @param skips - steps that had been skipped in a row when it was written
   */
  async loadTensors(folder: string, skips = 0): Promise<void> {
    checkText('trainer.loadTensors', 'folder', folder)
    await native().trainerLoad(this.handle, folder)
    this.#step = await native().trainerStepCount(this.handle)
    this.#skips = skips
  }
}

/** @internal Checks noise that is given for images. */
export function checkNoise(call: string, noise: unknown, images: ImageBatch): void {
  if (noise === undefined) return
  const count = images.data.length
  if (!(noise instanceof Float32Array) || noise.length !== count) {
    throw argumentError(
      call,
      'noise',
      `a Float32Array of ${count} numbers, as many as the images have`,
      noise,
      {
        kind: 'type',
      },
    )
  }
  checkFinite(call, 'noise', noise)
}

/** @internal The conditions of a batch in native form. */
export function conditionsOf(images: ImageBatch) {
  return {
    y: images.labels ? { data: images.labels, shape: [images.labels.length] } : undefined,
    lowRes: images.lowRes ? { data: images.lowRes.data, shape: images.lowRes.shape } : undefined,
  }
}
