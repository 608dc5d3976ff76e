import { argumentError, checkInteger, checkTimesteps } from '../check.ts'
import { imagesBetween } from '../data/image-range.ts'
import type { HeadDecider } from '../mixing/policy.ts'
import type { UNet } from '../model/unet.ts'
import { native } from '../native.ts'
import type { Head } from '../prediction/heads.ts'
import type { NoiseSchedule } from '../schedule/noise-schedule.ts'
import { checkImages, type ImageBatch } from '../tensor.ts'
import { headInputs } from '../training/head-inputs.ts'
import { conditionsOf, nativeTrainerConfig, type TrainerOptions, trainerConfig } from '../training/trainer.ts'

/** Mean loss of every head at every measured timestep. */
export interface TimestepLoss {
  readonly heads: readonly Head[]
  /** Timesteps that were measured, ascending. */
  readonly t: Int32Array
  /** [t, heads] mean squared error in each head's own unit, row-major. */
  readonly perHead: Float64Array
  /** [t] mean of the training loss (chosen head and space); where the batch chooses the head, each `batchSize` images do. */
  readonly loss: Float64Array
  /** [t, heads] standard error of `perHead` over the images. */
  readonly standardError: Float64Array
  /** [t, N, heads] errors of every image, where `keepsExamples` asked for them. */
  readonly perExample?: Float32Array
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
 * @param options.timesteps - measure these instead, ascending
 * @param options.batchSize - images a forward pass, which decides memory and not the numbers; all by default
 * @param options.keepsExamples - give the errors of every image too, for resampling
 * @param options.decide - what the training's strategy of several heads says at these timesteps, for `loss`; by default nothing
 * @param options.onTimestep - called after each one
 */
export async function measureTimestepLoss(
  unet: UNet,
  schedule: NoiseSchedule,
  options: {
    readonly images: ImageBatch
    readonly timestepStride?: number
    readonly timesteps?: Int32Array
    readonly batchSize?: number
    readonly keepsExamples?: boolean
    readonly seed?: number
    readonly training?: TrainerOptions
    readonly decide?: HeadDecider
    readonly signal?: AbortSignal
    readonly onTimestep?: (done: number, total: number) => void
  },
): Promise<TimestepLoss> {
  const call = 'measureTimestepLoss'
  const { images, timestepStride = 1, seed = 0, training = {}, decide, signal, onTimestep } = options
  checkImages(call, 'images', images)
  checkInteger(call, 'timestepStride', timestepStride, 1, schedule.timestepCount)
  checkInteger(call, 'seed', seed, 0)
  const [count] = images.shape
  const batchSize = options.batchSize ?? count
  checkInteger(call, 'batchSize', batchSize, 1)
  const { heads } = unet.layout
  const config = nativeTrainerConfig(call, unet, trainerConfig(training, unet.layout.learnsVariance))
  const t = options.timesteps ?? strided(schedule.timestepCount, timestepStride)
  checkTimesteps(call, t, schedule.timestepCount)
  for (let row = 1; row < t.length; row++) {
    if (t[row]! <= t[row - 1]!) throw argumentError(call, `timesteps[${row}]`, `above ${t[row - 1]}`, t[row])
  }
  const width = heads.length
  const perHead = new Float64Array(t.length * width)
  const standardError = new Float64Array(t.length * width)
  const loss = new Float64Array(t.length)
  const perExample = options.keepsExamples ? new Float32Array(t.length * count * width) : undefined
  const products = width > 1 ? width ** 2 : 0
  const errorProducts = new Float64Array(t.length * products)
  const brightnessProducts = new Float64Array(t.length * products)
  unet.checkInput(call, { x: images, t: { data: t, shape: [count] }, ...conditionsOf(images) })

  for (const [row, timestep] of t.entries()) {
    const values = new Float32Array(count * width)
    for (let begin = 0; begin < count; begin += batchSize) {
      signal?.throwIfAborted()
      const part = imagesBetween(images, begin, Math.min(begin + batchSize, count))
      const timesteps = new Int32Array(part.shape[0]).fill(timestep)
      const batch = {
        images: { data: part.data, shape: part.shape },
        t: timesteps,
        ...conditionsOf(part),
        ...(decide && headInputs(call, decide(timesteps), config.loss, [part.shape[0], width])),
      }
      const key = { seed, purpose: 'probe', step: 0, firstSample: begin } as const
      const losses = await native().lossEvaluate(unet.handle, schedule.handle, config, batch, key)
      loss[row]! += losses.loss.reduce((a, b) => a + b, 0) / count
      values.set(losses.perHead, begin * width)
      const { errorProducts: ofErrors, meanError } = losses
      for (let i = 0; ofErrors && meanError && i < part.shape[0] * products; i++) {
        const image = Math.floor(i / products)
        const a = image * width + Math.floor((i % products) / width)
        const b = image * width + (i % width)
        const at = row * products + (i % products)
        errorProducts[at]! += (ofErrors[i] as number) / count
        brightnessProducts[at]! += ((meanError[a] as number) * (meanError[b] as number)) / count
      }
    }
    perExample?.set(values, row * values.length)
    for (let head = 0; head < width; head++) {
      const ofHead = values.filter((_, i) => i % width === head)
      const mean = ofHead.reduce((a, b) => a + b, 0) / count
      const variance = ofHead.reduce((a, b) => a + (b - mean) ** 2, 0) / Math.max(1, count - 1)
      perHead[row * width + head] = mean
      standardError[row * width + head] = Math.sqrt(variance / count)
    }
    onTimestep?.(row + 1, t.length)
  }
  return {
    heads,
    t,
    perHead,
    loss,
    standardError,
    ...(perExample && { perExample }),
    ...(products > 0 && { errorProducts, brightnessProducts }),
  }
}

function strided(timestepCount: number, stride: number): Int32Array {
  return Int32Array.from({ length: Math.ceil(timestepCount / stride) }, (_, i) => i * stride)
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
