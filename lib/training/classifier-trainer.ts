import {
  argumentError,
  checkInteger,
  checkKnownOptions,
  checkNumber,
  checkOneOf,
  checkText,
  checkTimesteps,
} from '../check.ts'
import { PRECISIONS } from '../device.ts'
import { NativeError } from '../errors.ts'
import type { Classifier } from '../model/classifier.ts'
import { type ClassifierTrainerHandle, native, type Precision } from '../native.ts'
import { NativeObject } from '../native-object.ts'
import type { NoiseSchedule } from '../schedule/noise-schedule.ts'
import { checkImages, type ImageBatch } from '../tensor.ts'
import { checkAdam } from './trainer.ts'

/** Options of `ClassifierTrainer.create`; names and defaults are those of `TrainerOptions`. */
export interface ClassifierTrainerOptions {
  /** Keys noise and dropout; 0 by default. */
  readonly seed?: number
  /** Train on noised images, which guidance needs; true by default. Otherwise images are clean and every t is 0. */
  readonly noised?: boolean
  readonly beta1?: number
  readonly beta2?: number
  readonly tiny?: number
  /** 0 by default; guided-diffusion's classifiers used 0.05. */
  readonly weightDecay?: number
  /** Decay norms and biases too, as guided-diffusion does; false by default. */
  readonly decayAll?: boolean
  /** Greatest gradient norm; 0 clips nothing; 1 by default. */
  readonly clipNorm?: number
  /** Examples a forward pass; gradients of the parts add up. 0, the whole batch, by default. */
  readonly microBatch?: number
  /** `fp16` scales the loss as `TrainerOptions.lossScale` says by default: a gradient that overflows is skipped and halves the scale. */
  readonly precision?: Precision
  /** What a loss or gradient that is not finite does: `stop` throws, `skip` changes nothing and goes on. */
  readonly nonFinite?: 'stop' | 'skip'
  /** Consecutive skips after which `skip` gives up; 10 by default. */
  readonly nonFiniteLimit?: number
}

/** `ClassifierTrainerOptions` with every default filled in. */
export type ClassifierTrainerConfig = Required<ClassifierTrainerOptions>

const KNOWN = [
  'seed', 'noised', 'beta1', 'beta2', 'tiny', 'weightDecay', 'decayAll', 'clipNorm', 'microBatch', 'precision',
  'nonFinite', 'nonFiniteLimit',
] as const // biome-ignore format: one list

function trainerConfig(options: ClassifierTrainerOptions): ClassifierTrainerConfig {
  const call = 'ClassifierTrainer.create'
  checkKnownOptions(call, options, KNOWN)
  const config: ClassifierTrainerConfig = {
    seed: options.seed ?? 0,
    noised: options.noised ?? true,
    beta1: options.beta1 ?? 0.9,
    beta2: options.beta2 ?? 0.999,
    tiny: options.tiny ?? 1e-8,
    weightDecay: options.weightDecay ?? 0,
    decayAll: options.decayAll ?? false,
    clipNorm: options.clipNorm ?? 1,
    microBatch: options.microBatch ?? 0,
    precision: options.precision ?? 'fp32',
    nonFinite: options.nonFinite ?? 'stop',
    nonFiniteLimit: options.nonFiniteLimit ?? 10,
  }
  checkInteger(call, 'seed', config.seed, 0)
  checkAdam(call, config)
  checkNumber(call, 'weightDecay', config.weightDecay, 0)
  checkNumber(call, 'clipNorm', config.clipNorm, 0)
  checkInteger(call, 'microBatch', config.microBatch, 0)
  checkInteger(call, 'nonFiniteLimit', config.nonFiniteLimit, 1)
  checkOneOf(call, 'precision', config.precision, PRECISIONS)
  checkOneOf(call, 'nonFinite', config.nonFinite, ['stop', 'skip'])
  return config
}

/** What a classifier makes of a batch. */
export interface ClassifierLosses {
  /** [N] cross-entropy, in nats. */
  readonly exampleLoss: Float32Array
  /** [N] classes that are thought more probable than the true one: 0 is right, below 5 among the first five. */
  readonly rank: Int32Array
}

/** What one step of optimisation did. */
export interface ClassifierStepResult extends ClassifierLosses {
  /** Mean cross-entropy of the batch: the number that was differentiated. */
  readonly loss: number
  /** Global norm of the gradient before clipping. */
  readonly gradNorm: number
  /** The step was not finite, and nothing was changed. */
  readonly skipped: boolean
  /** Factor on the loss while its gradient was taken; 1 unless precision is fp16. */
  readonly lossScale: number
}

/** Share of examples whose class is among the `k` that are thought most probable. */
export function accuracy(rank: Int32Array, k: number): number {
  checkInteger('accuracy', 'k', k, 1)
  return rank.filter((before) => before < k).length / rank.length
}

/**
 * Trains a classifier on noised images: cross-entropy at timesteps that a sampler draws (Dhariwal & Nichol 2021, section 4;
 * guided-diffusion's classifier_train). A step is one call into native code.
 *
 * @example
 * const trainer = await ClassifierTrainer.create(classifier, schedule, { weightDecay: 0.05 })
 * const { loss, rank } = await trainer.trainStep({ images, t, lr: 3e-4 })
 */
export class ClassifierTrainer extends NativeObject<'classifierTrainer'> {
  readonly classifier: Classifier
  readonly schedule: NoiseSchedule
  readonly config: ClassifierTrainerConfig
  #step = 0
  #skips = 0

  private constructor(
    handle: ClassifierTrainerHandle,
    classifier: Classifier,
    schedule: NoiseSchedule,
    config: ClassifierTrainerConfig,
  ) {
    super(handle, 'classifier trainer')
    this.classifier = classifier
    this.schedule = schedule
    this.config = config
  }

  /** A trainer at step 0. Throws a RangeError or TypeError that names the option. */
  static async create(
    classifier: Classifier,
    schedule: NoiseSchedule,
    options: ClassifierTrainerOptions = {},
  ): Promise<ClassifierTrainer> {
    const config = trainerConfig(options)
    const { nonFiniteLimit: _, ...rest } = config
    const handle = await native().classifierTrainerCreate(classifier.handle, schedule.handle, rest)
    return new ClassifierTrainer(handle, classifier, schedule, config)
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
   * @param input.images - [N, C, H, W], with their labels
   * @param input.t - [N] timesteps in [0, T); not looked at when images are not noised
   * @throws RangeError or TypeError for a bad batch; NativeError ERR_NON_FINITE for a loss or gradient that is not finite
   * under `nonFinite: 'stop'`, or after too many skips; nothing is changed then
   */
  async trainStep(input: {
    readonly images: ImageBatch
    readonly t: Int32Array
    readonly lr: number
  }): Promise<ClassifierStepResult> {
    const call = 'classifierTrainer.trainStep'
    const batch = this.#batch(call, input.images, input.t)
    checkNumber(call, 'lr', input.lr, 0)
    const result = await native().classifierTrainerStep(this.handle, { ...batch, lr: input.lr })
    this.#step++
    // A skip that made the loss scale smaller is no more than an overflow.
    if (!result.skipped) this.#skips = 0
    else if (result.lossScale === 1) this.#skips++
    if (this.#skips >= this.config.nonFiniteLimit) {
      throw new NativeError(
        `${call}: expected a finite loss at least once in ${this.config.nonFiniteLimit} steps, got ${this.#skips} skipped steps in a row at step ${this.#step - 1}; lower the learning rate`,
        'ERR_NON_FINITE',
      )
    }
    return result
  }

  /**
   * Losses of images that are not trained on, in evaluation mode, noised by numbers of their own.
   *
   * @param input.step - keys the noise, so that the same step asks the same question
   */
  async evaluate(input: {
    readonly images: ImageBatch
    readonly t: Int32Array
    readonly step?: number
  }): Promise<ClassifierLosses> {
    const call = 'classifierTrainer.evaluate'
    const { images, t, step = 0 } = input
    const batch = this.#batch(call, images, t)
    checkInteger(call, 'step', step, 0, 2 ** 32 - 1)
    const key = { seed: this.config.seed, purpose: 'probe', step, firstSample: 0 } as const
    return native().classifierTrainerEvaluate(this.handle, batch, key)
  }

  /** Writes weights and optimizer into an existing folder; see `saveClassifierCheckpoint` for a whole, safe checkpoint. */
  async saveTensors(folder: string): Promise<void> {
    checkText('classifierTrainer.saveTensors', 'folder', folder)
    await native().classifierTrainerSave(this.handle, folder)
  }

  /**
   * Reads back what `saveTensors` wrote, the step count included; strict.
   *
   * @param skips - steps that had been skipped in a row when it was written
   */
  async loadTensors(folder: string, skips = 0): Promise<void> {
    checkText('classifierTrainer.loadTensors', 'folder', folder)
    await native().classifierTrainerLoad(this.handle, folder)
    this.#step = await native().classifierTrainerStepCount(this.handle)
    this.#skips = skips
  }

  #batch(call: string, images: ImageBatch, t: Int32Array) {
    checkImages(call, 'images', images)
    const [count] = images.shape
    this.classifier.checkImageShape(call, images.shape)
    checkTimesteps(call, t, this.schedule.timestepCount, count)
    if (!images.labels) {
      throw argumentError(call, 'images.labels', `${count} classes`, images.labels, { kind: 'type' })
    }
    this.classifier.checkClasses(call, images.labels, count)
    return {
      images: { data: images.data, shape: images.shape },
      t,
      y: { data: images.labels, shape: [count] },
    }
  }
}
