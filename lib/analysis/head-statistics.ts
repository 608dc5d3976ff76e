import { argumentError, checkInteger, checkTimesteps } from '../check.ts'
import { HeadStatistics } from '../mixing/head-statistics.ts'
import { logSnrOf } from '../mixing/log-snr-bins.ts'
import type { UNet } from '../model/unet.ts'
import { native } from '../native.ts'
import type { NoiseSchedule } from '../schedule/noise-schedule.ts'
import { checkImages, type ImageBatch } from '../tensor.ts'
import { sliceImages } from '../training/preview.ts'
import { conditionsOf, nativeTrainerConfig, type TrainerOptions, trainerConfig } from '../training/trainer.ts'

/** Options of `measureHeadStatistics`. */
export interface MeasureHeadStatisticsOptions {
  /** The images that are noised, [N, C, H, W]; keep them out of training. */
  readonly images: ImageBatch
  /** Timesteps to measure; `timestepsPerBin` of them, evenly spread in each bin, by default. */
  readonly timesteps?: Int32Array
  /** 4 by default. */
  readonly timestepsPerBin?: number
  /** Greatest number of bins; 20 by default. */
  readonly binCount?: number
  /** Images at once; 64 by default. */
  readonly batchSize?: number
  /** Keys the noise, which is the same at every timestep; 0 by default. */
  readonly seed?: number
  /** As the network was trained. */
  readonly training?: TrainerOptions
  readonly signal?: AbortSignal
  /** Called after each timestep. */
  readonly onTimestep?: (done: number, total: number) => void
}

/**
 * The statistics of a network's heads on held-out images: every image at every timestep counts the same. They give the table
 * and the weights for sampling (`combineByTable`, `combineByBlue`), and with `mixtureError` the least error that any linear
 * mixture of these heads can have.
 *
 * @throws RangeError for a network of one head
 */
export async function measureHeadStatistics(
  unet: UNet,
  schedule: NoiseSchedule,
  options: MeasureHeadStatisticsOptions,
): Promise<HeadStatistics> {
  const call = 'measureHeadStatistics'
  const { images, binCount, batchSize = 64, seed = 0, timestepsPerBin = 4, training = {} } = options
  const { heads } = unet.layout
  if (heads.length < 2) throw argumentError(call, 'unet', 'a network of several heads', heads)
  checkImages(call, 'images', images)
  checkInteger(call, 'batchSize', batchSize, 1)
  checkInteger(call, 'seed', seed, 0)
  checkInteger(call, 'timestepsPerBin', timestepsPerBin, 1)
  const statistics = new HeadStatistics({
    heads,
    logSnr: logSnrOf(schedule.tables.snr),
    ...(binCount !== undefined && { binCount }),
    halfLife: Number.POSITIVE_INFINITY,
    hysteresis: 0,
  })
  const timesteps = options.timesteps ?? spread(statistics.bins.edges, timestepsPerBin)
  checkTimesteps(call, timesteps, schedule.timestepCount)
  const config = nativeTrainerConfig(call, unet, trainerConfig(training, unet.layout.learnsVariance))
  const [count] = images.shape
  for (const [row, timestep] of timesteps.entries()) {
    for (let first = 0; first < count; first += batchSize) {
      options.signal?.throwIfAborted()
      const part = slice(images, first, Math.min(batchSize, count - first))
      const t = new Int32Array(part.shape[0]).fill(timestep)
      const conditions = conditionsOf(part)
      if (row === 0) unet.checkInput(call, { x: part, t: { data: t, shape: [t.length] }, ...conditions })
      const batch = { images: { data: part.data, shape: part.shape }, t, ...conditions }
      const key = { seed, purpose: 'probe', step: 0, firstSample: first } as const
      const losses = await native().lossEvaluate(unet.handle, schedule.handle, config, batch, key)
      statistics.observe({ ...losses, t })
    }
    options.onTimestep?.(row + 1, timesteps.length)
  }
  return statistics
}

function slice(images: ImageBatch, first: number, n: number): ImageBatch {
  const { labels, lowRes } = images
  return {
    ...sliceImages(images, first, n),
    ...(labels && { labels: labels.slice(first, first + n) }),
    ...(lowRes && { lowRes: sliceImages(lowRes, first, n) }),
  }
}

/** So many timesteps of each bin, evenly; the first and the last of all are among them. */
function spread(edges: readonly number[], perBin: number): Int32Array {
  const last = (edges.at(-1) as number) - 1
  const t = edges.slice(1).flatMap((end, bin) => {
    const begin = edges[bin] as number
    return Array.from({ length: perBin }, (_, k) => Math.floor(begin + ((k + 0.5) * (end - begin)) / perBin))
  })
  return Int32Array.from(new Set([0, ...t, last]))
}
