import { argumentError, checkInteger, checkKnownOptions, checkNumber, checkObject } from '../check.ts'
import type { HeadPolicy } from '../mixing/policy.ts'
import type { ImageBatch } from '../tensor.ts'
import type { TimestepSampler } from '../timesteps/sampler.ts'
import type { StepResult, Trainer } from './trainer.ts'

/** What `train` needs: who computes, who draws timesteps, where images come from, how fast to learn. */
export interface TrainOptions {
  readonly trainer: Trainer
  readonly sampler: TimestepSampler
  /** Batches from step `trainer.step` on; see `batches`. */
  readonly batches: AsyncIterable<ImageBatch> | Iterable<ImageBatch>
  /** Learning rate, or its course over steps. */
  readonly lr: number | ((step: number) => number)
  /** Decides how much each head is trained; without it every step follows the trainer's loss alone. */
  readonly mixing?: HeadPolicy
  /** Images of the stable target field for a step; see `TrainStepInput.reference`. */
  readonly reference?: (step: number) => Promise<ImageBatch> | ImageBatch
  /** Step at which training ends; without it the loop ends with the batches or when it is left. */
  readonly stepCount?: number
  /** Stops at the next step boundary, without an error. */
  readonly signal?: AbortSignal
}

const OPTIONS = [
  'trainer', 'sampler', 'batches', 'lr', 'mixing', 'reference', 'stepCount', 'signal',
] as const satisfies readonly (keyof TrainOptions)[] // biome-ignore format: one list

/** One step as the loop saw it. */
export interface StepReport extends StepResult {
  /** Number of the step, from 0. */
  readonly step: number
  /** [N] timesteps that were trained. */
  readonly t: Int32Array
  /** [N] their factors. */
  readonly weight: Float32Array
  readonly lr: number
  /** Time waited for the images and time computed, in milliseconds. */
  readonly waitMs: number
  readonly stepMs: number
}

/**
 * Trains one batch per iteration and reports each step; stop by leaving the loop.
 *
 * @throws RangeError, TypeError for an option that is wrong or unknown, at the first iteration; what a step throws
 *
 * @example
 * for await (const report of train({ trainer, sampler, batches, lr: 1e-4, stepCount: 1000 })) {
 *   console.log(report.step, report.loss)
 * }
 */
export async function* train(options: TrainOptions): AsyncGenerator<StepReport, void, void> {
  const { trainer, sampler, mixing, batches, lr, stepCount = Number.POSITIVE_INFINITY, signal } = options
  checkOptions(options)
  const { heads } = trainer.unet.layout
  if (trainer.step >= stepCount) return

  let before = performance.now()
  for await (const images of batches) {
    if (signal?.aborted) return
    const step = trainer.step
    const reference = await options.reference?.(step)
    const arrived = performance.now()
    const { t, weight } = sampler.draw(images.shape[0], step)
    const rate = typeof lr === 'number' ? lr : lr(step)
    const decision = mixing?.decide(t, step)

    const result = await trainer.trainStep({
      images,
      t,
      weight,
      ...decision,
      ...(reference && { reference }),
      lr: rate,
    })

    if (!result.skipped) {
      const losses = { ...result, t, loss: result.exampleLoss, heads }
      sampler.observe?.(losses)
      mixing?.observe?.(losses)
    }
    const done = performance.now()
    yield { step, t, weight, lr: rate, ...result, waitMs: arrived - before, stepMs: done - arrived }
    if (trainer.step >= stepCount || signal?.aborted) return
    before = performance.now()
  }
}

function checkOptions(options: TrainOptions): void {
  const call = 'train'
  checkKnownOptions(call, options, OPTIONS)
  const { trainer, sampler, batches, lr, stepCount = Number.POSITIVE_INFINITY } = options
  checkObject(call, 'trainer', trainer, 'Trainer')
  if (typeof sampler?.draw !== 'function') {
    throw argumentError(call, 'sampler', 'a sampler of timesteps', sampler, { kind: 'type' })
  }
  if (!(Symbol.asyncIterator in Object(batches)) && !(Symbol.iterator in Object(batches))) {
    throw argumentError(call, 'batches', 'an iterable of batches', batches, { kind: 'type' })
  }
  if (typeof lr !== 'function') checkNumber(call, 'lr', lr, 0)
  if (stepCount !== Number.POSITIVE_INFINITY) checkInteger(call, 'stepCount', stepCount, 0)
}
