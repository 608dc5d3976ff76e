import { imagesBetween } from '../data/image-range.ts'
import type { HeadDecider } from '../mixing/policy.ts'
import type { UNet } from '../model/unet.ts'
import type { NoiseSchedule } from '../schedule/noise-schedule.ts'
import type { ImageBatch } from '../tensor.ts'
import type { TrainerOptions } from '../training/trainer.ts'
import { lossGradientGram } from './loss-gradient.ts'
import { probeTimesteps } from './timestep-curve.ts'

/** Squared norms of single images' gradients at some timesteps. */
export interface GradientMoments {
  /** Ascending. */
  readonly t: Int32Array
  /** [t, N] squared norm of the training loss's gradient of each image alone. */
  readonly squaredNorms: Float64Array
  /** [t] their mean: the second moment of the gradient. */
  readonly mean: Float64Array
  /** [t] its standard error. */
  readonly standardError: Float64Array
}

/**
 * The second moment of the training gradient over the timesteps, from images one at a time (math.md, eq. 114); costs a
 * backward pass for each image and timestep, and the memory of one gradient.
 *
 * @param options.count - of the images, the first so many
 * @param options.timestepCount - timesteps, evenly in log snr, both ends among them
 * @param options.decide - what the training's strategy of several heads says at these timesteps; by default nothing
 */
export async function gradientMoments(
  unet: UNet,
  schedule: NoiseSchedule,
  options: {
    readonly images: ImageBatch
    readonly count: number
    readonly timestepCount: number
    readonly seed: number
    readonly training?: TrainerOptions
    readonly decide?: HeadDecider | undefined
    readonly signal?: AbortSignal
    readonly onProgress?: (done: number, total: number) => void
  },
): Promise<GradientMoments> {
  const { images, count, timestepCount, seed, training = {}, decide, signal, onProgress } = options
  const t = probeTimesteps(schedule.tables.snr, 1, timestepCount - 1)
  const squaredNorms = new Float64Array(t.length * count)
  for (const [row, timestep] of t.entries()) {
    for (let i = 0; i < count; i++) {
      signal?.throwIfAborted()
      const [image, at] = [imagesBetween(images, i, i + 1), Int32Array.of(timestep)]
      const batch = { images: image, t: at, seed, step: i, ...(decide && { decision: decide(at) }) }
      const { products } = await lossGradientGram(unet, schedule, [batch], { training })
      squaredNorms[row * count + i] = products[0]!
      onProgress?.(row * count + i + 1, t.length * count)
    }
  }
  const mean = new Float64Array(t.length)
  const standardError = new Float64Array(t.length)
  for (const row of t.keys()) {
    const values = squaredNorms.subarray(row * count, (row + 1) * count)
    mean[row] = values.reduce((a, b) => a + b, 0) / count
    const variance = values.reduce((a, b) => a + (b - mean[row]!) ** 2, 0) / Math.max(1, count - 1)
    standardError[row] = Math.sqrt(variance / count)
  }
  return { t, squaredNorms, mean, standardError }
}
