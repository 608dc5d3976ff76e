import { checkInteger } from '../check.ts'
import type { DeviceTensor } from '../device-tensor.ts'
import type { VarianceType } from '../native.ts'
import type { ImageShape } from '../tensor.ts'
import type { Denoiser } from './denoiser.ts'

/** Options of `sample`. */
export interface SampleOptions {
  readonly denoiser: Denoiser
  /** Images to draw, as [N, C, H, W]. */
  readonly shape: ImageShape
  /** Image k of a seed is the same image whatever the batch it is drawn in. */
  readonly seed: number
  /** Index of the batch's first image. */
  readonly firstImage?: number
  /** DDIM with this eta; without it the ancestral sampler of DDPM. */
  readonly eta?: number
  /** Variance of ancestral steps: what the network learned, else `fixedLarge`. */
  readonly variance?: VarianceType
  /** Called after each step. */
  readonly onStep?: (progress: { readonly done: number; readonly total: number; readonly t: number }) => void
  /** Stops between two steps by throwing the signal's reason. */
  readonly signal?: AbortSignal
}

/**
 * Draws images by walking the denoiser's process from the noisiest step to the cleanest.
 *
 * @returns float32 in about [-1, 1], [N, C, H, W], row-major
 *
 * @example
 * const denoiser = new Denoiser(unet, schedule.respace('ddim25'), { combine: 'v' })
 * const images = await sample({ denoiser, shape: [16, 1, 28, 28], seed: 7, eta: 0 })
 */
export async function sample(options: SampleOptions): Promise<Float32Array> {
  const { denoiser, shape, seed, firstImage = 0, eta, variance, onStep, signal } = options
  checkInteger('sample', 'firstImage', firstImage, 0)
  const total = denoiser.process.timestepCount
  let xt = await denoiser.noise(shape, seed, firstImage)
  try {
    for (let k = total - 1; k >= 0; k--) {
      signal?.throwIfAborted()
      const { xStart, variance: varianceValues, mean } = await denoiser.predictXStart(xt, k)
      let xPrev: DeviceTensor
      try {
        const step = { xt, xStart, k, eta, varianceValues, mean, seed, firstImage }
        xPrev = await denoiser.reverseStep(variance ? { ...step, variance } : step)
      } finally {
        xStart.dispose()
        varianceValues?.dispose()
        mean?.dispose()
      }
      xt.dispose()
      xt = xPrev
      onStep?.({ done: total - k, total, t: denoiser.process.tables.timestepMap[k] as number })
    }
    return (await xt.toHost()).data as Float32Array
  } finally {
    xt.dispose()
  }
}
