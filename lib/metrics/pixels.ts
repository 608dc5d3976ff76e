import { argumentError, checkInteger } from '../check.ts'
import type { ImageDataset } from '../data/dataset.ts'
import type { Device } from '../device.ts'
import { DeviceTensor } from '../device-tensor.ts'
import { native } from '../native.ts'
import type { ImageBatch } from '../tensor.ts'
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
  return projectedDistance(a, b, options)
}

async function projectedDistance(
  a: ImageDataset,
  b: ImageDataset,
  options: SlicedWassersteinOptions,
  onBatch?: (set: number, images: ImageBatch) => void,
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
      for (const [set, dataset] of [a, b].entries()) {
        const parts: DeviceTensor[] = []
        for await (const { images, done } of readBatches(dataset, batchSize, signal)) {
          parts.push(new DeviceTensor(await native().projectImages(images, directions.handle)))
          onBatch?.(set, images)
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
  const sums = new PixelSums(dataset)
  for await (const { images } of readBatches(dataset, batchSize, signal)) sums.add(images)
  return sums.spread
}

/** `slicedWasserstein` and the `pixelSpread` of both sets, each image read once. */
export async function comparePixels(
  a: ImageDataset,
  b: ImageDataset,
  options: SlicedWassersteinOptions = {},
): Promise<{ slicedWasserstein: number; spreads: readonly [a: number, b: number] }> {
  const sums = [new PixelSums(a), new PixelSums(b)] as const
  const distance = await projectedDistance(a, b, options, (set, images) => sums[set]?.add(images))
  return { slicedWasserstein: distance, spreads: [sums[0].spread, sums[1].spread] }
}

/** Sums of bytes and of their squares at each pixel, exact in float64. */
class PixelSums {
  readonly #sums: Float64Array
  readonly #squares: Float64Array
  #count = 0

  constructor({ channels, height, width }: ImageDataset) {
    const size = channels * height * width
    this.#sums = new Float64Array(size)
    this.#squares = new Float64Array(size)
  }

  add({ data, shape: [n] }: ImageBatch): void {
    const [sums, squares] = [this.#sums, this.#squares]
    const size = sums.length
    for (let first = 0; first < n * size; first += size) {
      for (let k = 0; k < size; k++) {
        const value = data[first + k] as number
        sums[k]! += value
        squares[k]! += value * value
      }
    }
    this.#count += n
  }

  get spread(): number {
    const n = this.#count
    if (n === 1) return 0
    const variance = this.#squares.reduce(
      (sum, square, k) => sum + (square - this.#sums[k]! ** 2 / n) / (n - 1),
      0,
    )
    return Math.sqrt(variance / this.#sums.length) / 127.5
  }
}
