import { checkInteger } from '../check.ts'
import type { UNet } from '../model/unet.ts'
import { native } from '../native.ts'
import type { Head } from '../prediction/heads.ts'
import type { NoiseSchedule } from '../schedule/noise-schedule.ts'
import { checkImages, type ImageBatch } from '../tensor.ts'
import { conditionsOf, nativeTrainerConfig, type TrainerOptions, trainerConfig } from '../training/trainer.ts'

/** Mean loss of every head at every measured timestep. */
export interface TimestepLoss {
  readonly heads: readonly Head[]
  /** Timesteps that were measured, ascending. */
  readonly t: Int32Array
  /** [t, heads] mean squared error in each head's own unit, row-major. */
  readonly perHead: Float64Array
  /** [t] mean of the training loss (chosen head and space). */
  readonly loss: Float64Array
  /** [t, heads] standard error of `perHead` over the images. */
  readonly standardError: Float64Array
  /** [t, heads, heads] mean over pixels and images of two heads' errors of v, multiplied; of several heads only. */
  readonly errorProducts?: Float64Array
  /** [t, heads, heads] mean over images of two heads' errors of the brightness of xStart, multiplied; of several heads only. */
  readonly brightnessProducts?: Float64Array
}

/**
 * Measures the loss of a network at each timestep, on the same images and noise for all of them.
 *
 * @param options.images - the images that are noised, [N, C, H, W]; keep them out of training
 * @param options.timestepStride - measure every so many timesteps; 1 by default
 * @param options.onTimestep - called after each one
 */
export async function measureTimestepLoss(
  unet: UNet,
  schedule: NoiseSchedule,
  options: {
    readonly images: ImageBatch
    readonly timestepStride?: number
    readonly seed?: number
    readonly training?: TrainerOptions
    readonly signal?: AbortSignal
    readonly onTimestep?: (done: number, total: number) => void
  },
): Promise<TimestepLoss> {
  const call = 'measureTimestepLoss'
  const { images, timestepStride = 1, seed = 0, training = {}, signal, onTimestep } = options
  checkImages(call, 'images', images)
  checkInteger(call, 'timestepStride', timestepStride, 1, schedule.timestepCount)
  checkInteger(call, 'seed', seed, 0)
  const [count] = images.shape
  const { heads } = unet.layout
  const config = nativeTrainerConfig(call, unet, trainerConfig(training, unet.layout.learnsVariance))
  const total = Math.ceil(schedule.timestepCount / timestepStride)
  const t = Int32Array.from({ length: total }, (_, i) => i * timestepStride)
  const perHead = new Float64Array(total * heads.length)
  const standardError = new Float64Array(total * heads.length)
  const loss = new Float64Array(total)
  const products = heads.length > 1 ? heads.length ** 2 : 0
  const errorProducts = new Float64Array(total * products)
  const brightnessProducts = new Float64Array(total * products)
  const conditions = conditionsOf(images)
  unet.checkInput(call, { x: images, t: { data: t, shape: [count] }, ...conditions })

  for (const [row, timestep] of t.entries()) {
    signal?.throwIfAborted()
    const batch = {
      images: { data: images.data, shape: images.shape },
      t: new Int32Array(count).fill(timestep),
      ...conditions,
    }
    const key = { seed, purpose: 'probe', step: 0, firstSample: 0 } as const
    const losses = await native().lossEvaluate(unet.handle, schedule.handle, config, batch, key)
    loss[row] = losses.loss.reduce((a, b) => a + b, 0) / count
    for (let head = 0; head < heads.length; head++) {
      const values = Float64Array.from(
        { length: count },
        (_, i) => losses.perHead[i * heads.length + head] as number,
      )
      const mean = values.reduce((a, b) => a + b, 0) / count
      const variance = values.reduce((a, b) => a + (b - mean) ** 2, 0) / Math.max(1, count - 1)
      perHead[row * heads.length + head] = mean
      standardError[row * heads.length + head] = Math.sqrt(variance / count)
    }
    const { errorProducts: ofErrors, meanError } = losses
    for (let i = 0; ofErrors && meanError && i < count * products; i++) {
      const image = Math.floor(i / products)
      const a = image * heads.length + Math.floor((i % products) / heads.length)
      const b = image * heads.length + (i % heads.length)
      const at = row * products + (i % products)
      errorProducts[at]! += (ofErrors[i] as number) / count
      brightnessProducts[at]! += ((meanError[a] as number) * (meanError[b] as number)) / count
    }
    onTimestep?.(row + 1, total)
  }
  return {
    heads,
    t,
    perHead,
    loss,
    standardError,
    ...(products > 0 && { errorProducts, brightnessProducts }),
  }
}

/**
 * A curve over all T timesteps from values at some of them, by linear interpolation; what `partitionByLoss` takes.
 *
 * @param head - column of `perHead`; without it the training loss
 */
export function lossCurve(measured: TimestepLoss, timestepCount: number, head?: Head): Float64Array {
  const column = head === undefined ? -1 : measured.heads.indexOf(head)
  if (head !== undefined && column === -1) {
    throw new RangeError(`lossCurve: expected head to be one of ${measured.heads.join(', ')}, got ${head}`)
  }
  const value = (row: number): number =>
    (column === -1 ? measured.loss[row] : measured.perHead[row * measured.heads.length + column]) as number
  const curve = new Float64Array(timestepCount)
  let row = 0
  for (let t = 0; t < timestepCount; t++) {
    while (row + 1 < measured.t.length && (measured.t[row + 1] as number) <= t) row++
    const here = measured.t[row] as number
    const next = measured.t[row + 1]
    if (next === undefined) curve[t] = value(row)
    else curve[t] = value(row) + ((value(row + 1) - value(row)) * (t - here)) / (next - here)
  }
  return curve
}
