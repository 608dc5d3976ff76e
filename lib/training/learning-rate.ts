import { argumentError, checkInteger, checkKnownOptions, checkNumber, checkOneOf } from '../check.ts'

/** How the learning rate falls after warm-up. */
export const LEARNING_RATE_KINDS = ['constant', 'linear', 'cosine', 'guidedDiffusionAnneal'] as const
/** One of `LEARNING_RATE_KINDS`. */
export type LearningRateKind = (typeof LEARNING_RATE_KINDS)[number]

/** A learning rate over training, as JSON. */
export interface LearningRateConfig {
  /** `constant` by default. */
  readonly kind?: LearningRateKind
  /** The highest rate, > 0. */
  readonly base: number
  /** Steps of linear warm-up, the first of which uses base / warmupSteps; 0 by default. */
  readonly warmupSteps?: number
  /** The step at which the rate has reached 0; needed by every kind but `constant`. */
  readonly totalSteps?: number
}

/**
 * The learning rate of each step, counted from 0.
 *
 * `linear` and `cosine` fall from `base` at the end of warm-up to 0 at `totalSteps`, and stay there.
 * `guidedDiffusionAnneal` is the original loop's: updates 0 and 1 use the full rate, update k uses
 * base (1 - (k - 1) / totalSteps) (math.md, eq. 28).
 *
 * @example
 * const lr = learningRate({ kind: 'cosine', base: 2e-4, warmupSteps: 100, totalSteps: 10_000 })
 * lr(0) // 2e-6
 */
export function learningRate(config: LearningRateConfig): (step: number) => number {
  const call = 'learningRate'
  checkKnownOptions(call, config, ['kind', 'base', 'warmupSteps', 'totalSteps'])
  const { kind = 'constant', base, warmupSteps = 0, totalSteps } = config
  checkOneOf(call, 'kind', kind, LEARNING_RATE_KINDS)
  checkNumber(call, 'base', base)
  if (base <= 0) throw argumentError(call, 'base', 'a number > 0', base)
  checkInteger(call, 'warmupSteps', warmupSteps, 0)
  if (totalSteps !== undefined || kind !== 'constant')
    checkInteger(call, 'totalSteps', totalSteps, warmupSteps + 1)
  if (kind === 'guidedDiffusionAnneal' && warmupSteps > 0) {
    throw argumentError(call, 'warmupSteps', '0 with guidedDiffusionAnneal', warmupSteps, {
      hint: 'use linear',
    })
  }

  const decay = DECAYS[kind]
  return (step) => {
    checkInteger(call, 'step', step, 0)
    if (step < warmupSteps) return (base * (step + 1)) / warmupSteps
    return base * decay(step - warmupSteps, (totalSteps ?? Number.POSITIVE_INFINITY) - warmupSteps)
  }
}

/** Options of a run about its learning rate. */
export interface RunLearningRate {
  readonly lrSchedule: LearningRateKind
  readonly lr: number
  readonly lrSteps?: number | undefined
  readonly warmupSteps: number
}

/**
 * The learning rate of a run.
 *
 * @throws RangeError that names the option of the run
 */
export function runLearningRate(call: string, options: RunLearningRate): (step: number) => number {
  const { lrSchedule: kind, lr: base, lrSteps, warmupSteps } = options
  if (kind === 'guidedDiffusionAnneal' && warmupSteps > 0) {
    throw argumentError(call, 'warmupSteps', `0 with lrSchedule ${kind}`, warmupSteps, {
      hint: 'lrSchedule linear has a warm-up',
    })
  }
  if (lrSteps !== undefined && lrSteps <= warmupSteps) {
    throw argumentError(call, 'lrSteps', `more than the warmupSteps ${warmupSteps}`, lrSteps, {
      hint: 'the learning rate falls after the warm-up; lrSteps are the steps of the run by default',
    })
  }
  return learningRate({ kind, base, warmupSteps, ...(lrSteps !== undefined && { totalSteps: lrSteps }) })
}

/** Factor on the base rate `step` steps after warm-up, of `count` in all. */
const DECAYS: Record<LearningRateKind, (step: number, count: number) => number> = {
  constant: () => 1,
  linear: (step, count) => Math.max(0, 1 - step / count),
  cosine: (step, count) => (step >= count ? 0 : (1 + Math.cos((Math.PI * step) / count)) / 2),
  guidedDiffusionAnneal: (step, count) => Math.max(0, 1 - Math.max(0, step - 1) / count),
}
