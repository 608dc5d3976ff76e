import { gradientMoments } from '../analysis/gradient-moments.ts'
import { curveOverTimesteps } from '../analysis/timestep-curve.ts'
import { batches } from '../data/batches.ts'
import type { ImageDataset } from '../data/dataset.ts'
import type { HeadPolicy } from '../mixing/policy.ts'
import type { ImageBatch } from '../tensor.ts'
import type { Trainer } from './trainer.ts'

const IMAGES = 8
const TIMESTEPS = 17

/**
 * [T] the second moment of the training gradient of one image at each timestep (math.md, eq. 114), as it is now: of eight images, others at
 * each step, at 17 timesteps, interpolated between them. 136 backward passes of one image.
 */
export async function gradientCurve(
  { unet, schedule, config, step }: Trainer,
  dataset: ImageDataset,
  options: {
    readonly seed: number
    readonly withLabels: boolean
    /** Of several heads. */
    readonly policy?: HeadPolicy | undefined
  },
): Promise<Float64Array> {
  const { seed, withLabels, policy } = options
  const decide = policy && ((t: Int32Array) => policy.decide(t, step))
  const source = batches(dataset, {
    batchSize: IMAGES,
    seed: seed + 4,
    firstStep: step,
    withLabels,
    prefetch: 0,
  })
  try {
    const images: ImageBatch = (await source.next()).value
    const sizes = { count: IMAGES, timestepCount: Math.min(TIMESTEPS, schedule.timestepCount) }
    const { t, mean } = await gradientMoments(unet, schedule, {
      ...{ images, ...sizes, seed, training: config, decide },
    })
    return curveOverTimesteps(t, mean, schedule.tables.snr)
  } finally {
    await source.return?.()
  }
}
