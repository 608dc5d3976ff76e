import { argumentError, checkInteger, checkOneOf } from '../check.ts'
import { native, type VarianceType } from '../native.ts'
import type { Denoiser } from '../sampling/denoiser.ts'
import { checkImages, type ImageBatch } from '../tensor.ts'
import { checkNoise, conditionsOf, VARIANCE_TYPES } from '../training/trainer.ts'

/** Options of `bitsPerDim`. */
export interface BitsPerDimOptions {
  /** Network and process; its `clip`, `combine` and `rescalesTimesteps` count, its `y` and `lowRes` do not, and it must not guide. */
  readonly denoiser: Denoiser
  /** The images, [N, C, H, W], with their classes and low-resolution twins where the network takes them. */
  readonly images: ImageBatch
  /** Variance of the reverse process; what the network learned, else `fixedLarge`, by default. */
  readonly variance?: VarianceType
  /** Keys the noise, with timestep (step where they are fractional) and image: image k has the same whatever the batch. 0 by default. */
  readonly seed?: number
  /** Index of the batch's first image. */
  readonly firstImage?: number
  /** [N, C, H, W] noise for every timestep, instead of keyed noise. */
  readonly noise?: Float32Array
  /** Stops between two timesteps by throwing the signal's reason. */
  readonly signal?: AbortSignal
  /** Called after each timestep. */
  readonly onTimestep?: (done: number, total: number) => void
}

/** Bits per dimension of images, and the terms that they add up from. */
export interface BitsPerDim {
  /** [N] upper bound of the negative log-likelihood in bits per dimension: `prior` and all of `bound`. */
  readonly total: Float64Array
  /** [N] what the last timestep still tells of the image. */
  readonly prior: Float64Array
  /** [N, T] term of each step of the process, row-major; step 0 is the likelihood of the 8-bit image. */
  readonly bound: Float64Array
  /** [N, T] mean squared error of the predicted xStart. */
  readonly xStartMse: Float64Array
  /** [N, T] mean squared error of the eps that belongs to that xStart (which is clipped). */
  readonly epsMse: Float64Array
  /** [T] timestep of the trained process at each step. */
  readonly t: Float64Array
}

/**
 * The variational bound on the negative log-likelihood of 8-bit images, in bits per dimension (math.md, eq. 12 and 12b;
 * guided-diffusion's `calc_bpd_loop`). One pass of the network for each timestep of the denoiser's process.
 *
 * @throws RangeError or TypeError for images that do not fit the network, or a variance that it does not have
 *
 * @example
 * const denoiser = new Denoiser(unet, schedule)
 * const { total } = await bitsPerDim({ denoiser, images })
 */
export async function bitsPerDim(options: BitsPerDimOptions): Promise<BitsPerDim> {
  const call = 'bitsPerDim'
  const { denoiser, images, seed = 0, firstImage = 0, noise, signal, onTimestep } = options
  const { unet, process } = denoiser
  const variance = options.variance ?? denoiser.defaultVariance
  if (denoiser.isGuided) {
    throw argumentError(call, 'denoiser.isGuided', 'false', true, { hint: 'guidance has no likelihood' })
  }
  checkImages(call, 'images', images)
  checkInteger(call, 'seed', seed, 0)
  checkInteger(call, 'firstImage', firstImage, 0, 2 ** 32 - (images.shape[0] ?? 1)) // which the noise counts in 32 bits
  checkOneOf(call, 'variance', variance, VARIANCE_TYPES)
  checkNoise(call, noise, images)
  if (variance.startsWith('learned') !== unet.layout.learnsVariance) {
    const what = unet.layout.learnsVariance ? 'learned or learnedRange' : 'fixedSmall or fixedLarge'
    throw argumentError(call, 'variance', `${what}, as the network has it`, variance)
  }
  const [count] = images.shape
  const conditions = conditionsOf(images)
  unet.checkInput(call, { x: images, t: { data: new Int32Array(count), shape: [count] }, ...conditions })
  const host = { data: images.data, shape: images.shape }
  const steps = process.timestepCount
  const t = process.tables.timestepMap.slice()
  const keys = t.every(Number.isInteger) ? t : t.map((_, k) => k)
  const prior = Float64Array.from((await native().boundPrior(process.handle, host)).data as Float32Array)
  const total = prior.slice()
  const terms = { bound: 0, xStartMse: 0, epsMse: 0 }
  const rows = {
    bound: new Float64Array(count * steps),
    xStartMse: new Float64Array(count * steps),
    epsMse: new Float64Array(count * steps),
  }
  for (let k = steps - 1; k >= 0; k--) {
    signal?.throwIfAborted()
    const said = await native().boundEvaluate(
      unet.handle,
      process.handle,
      unet.layout,
      variance,
      {
        images: host,
        t: new Int32Array(count).fill(k),
        ...(noise && { noise: { data: noise, shape: images.shape } }),
        ...conditions,
      },
      denoiser.nativeOptions(call, k),
      { seed, purpose: 'probe', step: keys[k] as number, firstSample: firstImage },
    )
    for (const name of Object.keys(terms) as (keyof typeof terms)[]) {
      for (let i = 0; i < count; i++) rows[name][i * steps + k] = said[name][i] as number
    }
    for (let i = 0; i < count; i++) total[i] = (total[i] as number) + (said.bound[i] as number)
    onTimestep?.(steps - k, steps)
  }
  return { total, prior, ...rows, t }
}
