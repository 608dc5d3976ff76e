import type { HeadDecider, HeadDecision } from '../mixing/policy.ts'
import type { UNet } from '../model/unet.ts'
import type { NoiseSchedule } from '../schedule/noise-schedule.ts'
import type { TrainerOptions } from '../training/trainer.ts'
import { cosines, meanProducts } from './gram-statistics.ts'
import { type GradientBatch, lossGradientGram } from './loss-gradient.ts'

/** Gradients of single heads, on the parameters that all heads have in common. */
export interface HeadShares {
  /** [heads] squared norm of the gradient of the head's loss, over the sum; null where one drowns in noise. */
  readonly share: (number | null)[]
  /** The same of the mixture that a strategy trains beside the heads, where there is one. */
  readonly mixtureShare?: number | null
  /** [heads, heads] cosines without the bias of noise. */
  readonly cosine: (number | null)[]
}

/**
 * What each head's loss alone gives to the trunk, all but the last convolution, whose channels belong to one head each (math.md, eq. 121):
 * its whole own loss, or with `decide` what training gives it, so that heads that are not chosen give nothing. Costs a backward pass for each
 * head and batch.
 *
 * @param draws - independent batches of one noise level, at least 2
 * @param options.decide - what the training's strategy says at these timesteps, which together with `training.loss` chooses heads
 */
export async function headShares(
  unet: UNet,
  schedule: NoiseSchedule,
  draws: readonly GradientBatch[],
  options: {
    readonly decide?: HeadDecider
    readonly training?: TrainerOptions
    readonly memoryBytes?: number
  } = {},
): Promise<HeadShares> {
  const { decide, training = {}, memoryBytes } = options
  const { heads } = unet.layout
  const hasMixture = draws.some(({ t }) => decide?.(t).mixture !== undefined)
  const groups = heads.length + (hasMixture ? 1 : 0)
  const list = Array.from({ length: groups }, (_, group) =>
    draws.map(
      (batch): GradientBatch =>
        decide
          ? { ...batch, decision: partOf(decide(batch.t), group, batch.t.length, heads.length) }
          : { ...batch, choose: heads[group]!, space: 'own' },
    ),
  ).flat()
  const { products } = await lossGradientGram(unet, schedule, list, {
    training: withoutBound(training),
    parameters: (name) => !name.startsWith('out.2.'),
    ...(memoryBytes !== undefined && { memoryBytes }),
  })
  const mean = meanProducts({ products, groups, draws: draws.length })
  const squares = Array.from({ length: groups }, (_, group) => mean[group * (groups + 1)]!)
  const sum = squares.reduce((a, b) => a + b, 0)
  const isKnown = sum > 0 && squares.every((square) => square >= 0) // 0: nothing of it was trained
  const share = squares.map((square) => (isKnown ? square / sum : null))
  const cosine = cosines(mean, groups)
  return {
    share: share.slice(0, heads.length),
    ...(hasMixture && { mixtureShare: share[heads.length]! }),
    cosine: cosine.filter((_, at) => at % groups < heads.length && at < groups * heads.length),
  }
}

/** A decision with the errors of one head alone, or with the mixture's, which comes after the heads. */
function partOf(decision: HeadDecision, group: number, count: number, size: number): HeadDecision {
  const { headWeight, mixture, ...choice } = decision
  return {
    ...choice,
    headWeight: Float32Array.from({ length: count * size }, (_, i) =>
      i % size === group ? (headWeight?.[i] ?? 1) : 0,
    ),
    ...(group === size && mixture && { mixture }),
  }
}

/** Training without the variational bound, which has no space and belongs to no head, and without the direction of v, which is no head's error. */
export function withoutBound(training: TrainerOptions): TrainerOptions {
  return { ...training, loss: { ...training.loss, kind: 'mse', directionWeight: 0 }, boundWeight: 0 }
}
