import type { UNet } from '../model/unet.ts'
import type { Space } from '../native.ts'
import type { NoiseSchedule } from '../schedule/noise-schedule.ts'
import type { TrainerOptions } from '../training/trainer.ts'
import { cosines, meanProducts } from './gram-statistics.ts'
import { type GradientBatch, lossGradientGram } from './loss-gradient.ts'

/** Gradients of single heads, on the parameters that all heads have in common. */
export interface HeadShares {
  /** [heads] squared norm of the gradient of the head's own loss, over the sum; null where one drowns in noise. */
  readonly share: (number | null)[]
  /** [heads, heads] cosines without the bias of noise. */
  readonly cosine: (number | null)[]
}

/**
 * What each head's loss alone gives to the trunk, all but the last convolution, whose channels belong to one head each (math.md, eq. 121).
 * Costs a backward pass for each head and batch.
 *
 * @param draws - independent batches of one noise level, at least 2
 * @param options.space - in which the heads' errors count; `own` by default
 * @param options.weight - [N] factors on the errors of a head in a batch
 */
export async function headShares(
  unet: UNet,
  schedule: NoiseSchedule,
  draws: readonly GradientBatch[],
  options: {
    readonly space?: Space
    readonly weight?: (batch: GradientBatch, head: number) => Float32Array | undefined
    readonly training?: TrainerOptions
    readonly memoryBytes?: number
  } = {},
): Promise<HeadShares> {
  const { space = 'own', weight, training = {}, memoryBytes } = options
  const { heads } = unet.layout
  const list = heads.flatMap((choose, head) =>
    draws.map((batch) => {
      const factors = weight?.(batch, head)
      return { ...batch, choose, space, ...(factors && { weight: factors }) }
    }),
  )
  const { products } = await lossGradientGram(unet, schedule, list, {
    training: withoutBound(training),
    parameters: (name) => !name.startsWith('out.2.'),
    ...(memoryBytes !== undefined && { memoryBytes }),
  })
  const mean = meanProducts({ products, groups: heads.length, draws: draws.length })
  const squares = heads.map((_, h) => mean[h * (heads.length + 1)]!)
  const sum = squares.reduce((a, b) => a + b, 0)
  return {
    share: squares.map((value) => (squares.every((one) => one > 0) ? value / sum : null)),
    cosine: cosines(mean, heads.length),
  }
}

/** Training without the variational bound, which has no space and belongs to no head, and without the direction of v, which is no head's error. */
export function withoutBound(training: TrainerOptions): TrainerOptions {
  return { ...training, loss: { ...training.loss, kind: 'mse', directionWeight: 0 }, boundWeight: 0 }
}
