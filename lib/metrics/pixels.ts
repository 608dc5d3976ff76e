import { argumentError, checkInteger } from '../check.ts'
import type { ImageDataset } from '../data/dataset.ts'
import type { Device } from '../device.ts'
import { DeviceTensor } from '../device-tensor.ts'
import { native } from '../native.ts'
import { concatenated, readBatches } from './read-batches.ts'

/** Options of `slicedWasserstein`. */
export interface SlicedWassersteinOptions {
  /** Random directions; 512 by default. */
  readonly directions?: number
  /** Keys the directions; 0 by default. */
  readonly seed?: number
  readonly batchSize?: number
  readonly device?: Device
  /** Called after each batch, with counts of images. */
  readonly onProgress?: ((done: number, total: number) => void) | undefined
  readonly signal?: AbortSignal | undefined
}

/**
 * Sliced 2-Wasserstein distance of the pixels of two sets of images (Bonneel et al. 2015; math.md, "Metrics"): images are
 * points with coordinates in [-1, 1]; the root of the mean, over random directions, of the squared 2-Wasserstein distance
 * between the projections. It needs no network; it sees colours and coarse shapes, not what is in a picture.
 */
export async function slicedWasserstein(
  a: ImageDataset,
  b: ImageDataset,
  options: SlicedWassersteinOptions = {},
): Promise<number> {
  const call = 'slicedWasserstein'
  const { directions: count = 512, seed = 0, batchSize = 64, device = 'cpu', onProgress, signal } = options
  checkInteger(call, 'directions', count, 1)
  checkInteger(call, 'seed', seed, 0)
  const shapes = [a, b].map(({ channels, height, width }) => [channels, height, width])
  if (String(shapes[0]) !== String(shapes[1])) {
    throw argumentError(call, 'b', `images of the shape [${shapes[0]!.join(', ')}] as a`, shapes[1])
  }
  const size = shapes[0]!.reduce((product, side) => product * side, 1)
  const key = { seed, purpose: 'probe', step: 0, firstSample: 0 } as const
  const directions = await DeviceTensor.noise([count, size], key, device)
  try {
    const projected: DeviceTensor[] = []
    let before = 0
    try {
      for (const dataset of [a, b]) {
        const parts: DeviceTensor[] = []
        for await (const { images, done } of readBatches(dataset, batchSize, signal)) {
          parts.push(new DeviceTensor(await native().projectImages(images, directions.handle)))
          onProgress?.(before + done, a.length + b.length)
        }
        projected.push(await concatenated(parts))
        before += dataset.length
      }
      return await native().slicedWasserstein(projected[0]!.handle, projected[1]!.handle)
    } finally {
      for (const tensor of projected) tensor.dispose()
    }
  } finally {
    directions.dispose()
  }
}

/**
 * How much images differ from each other: the root of the mean over pixels of a pixel's variance, pixels in [-1, 1]
 * (math.md, eq. 49a). Samples of few steps have less of it than the data (docs/solvers.md).
 *
 * @returns 0 for a single image
 */
export async function pixelSpread(
  dataset: ImageDataset,
  { batchSize = 64, signal }: Pick<SlicedWassersteinOptions, 'batchSize' | 'signal'> = {},
): Promise<number> {
  const size = dataset.channels * dataset.height * dataset.width
  // Sums of bytes and of their squares are exact in float64.
  const sums = new Float64Array(size)
  const squares = new Float64Array(size)
  for await (const { images } of readBatches(dataset, batchSize, signal)) {
    const { data } = images
    for (let i = 0; i < data.length; i++) {
      const value = data[i] as number
      sums[i % size]! += value
      squares[i % size]! += value * value
    }
  }
  const n = dataset.length
  if (n === 1) return 0
  let variance = 0
  for (let k = 0; k < size; k++) variance += (squares[k]! - sums[k]! ** 2 / n) / (n - 1)
  return Math.sqrt(variance / size) / 127.5
}
