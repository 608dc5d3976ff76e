import { argumentError, checkInteger } from '../check.ts'
import { type ImageDataset, subset } from '../data/dataset.ts'
import { bytesOf } from '../data/npy.ts'
import { nchwToNhwc, npzOnDisk, readNpz } from '../data/npz.ts'
import { type NpyStream, writeNpzStream } from '../data/npz-stream.ts'
import { openZip } from '../data/zip.ts'
import { DataError } from '../errors.ts'
import { keyedRandom } from '../random.ts'
import { chooseRows, featureStatistics, type GaussianStatistics } from './distances.ts'
import { datasetFeatures, type Reference } from './evaluate.ts'
import type { FeatureNetwork } from './feature-network.ts'
import { readBatches } from './read-batches.ts'

const STATISTICS = ['mu', 'sigma', 'mu_s', 'sigma_s'] as const

/** A reference whose images are read from an open file. */
export interface ReferenceFile extends Reference {
  /** Closes the file. */
  close(): Promise<void>
}

/**
 * Opens a reference batch as guided-diffusion's evaluator reads it: `arr_0` images (uint8 [N, H, W, C]), or the statistics
 * `mu`, `sigma` of pool features and `mu_s`, `sigma_s` of spatial ones, or all of them. Files of `makeReference` also hold
 * `features` of the images, and the sha256 of the feature network. Images are read when they are needed: call `close` at
 * the end.
 *
 * @throws DataError for files that hold neither, or whose arrays do not fit together
 */
export async function readReference(file: string): Promise<ReferenceFile> {
  const call = 'readReference'
  const zip = await openZip(call, file)
  const names = zip.names.map((name) => name.replace(/\.npy$/, ''))
  await zip.close()
  const has = (name: string): boolean => names.includes(name)
  if (!has('arr_0') && !has('mu')) {
    throw new DataError(
      `${call}: expected ${file} to hold arr_0, or mu and sigma, got ${names.join(', ') || 'nothing'}`,
      file,
    )
  }
  const wanted = [...STATISTICS, 'features', 'network_sha256'].filter(has)
  const arrays = wanted.length > 0 ? await readNpz(file, wanted) : new Map()
  const statistics = (mu: string, sigma: string): GaussianStatistics | undefined => {
    if (!has(mu)) return undefined
    const [mean, covariance] = [arrays.get(mu)!, arrays.get(sigma)]
    const size = mean.data.length
    if (String(covariance?.shape) !== String([size, size])) {
      const got = covariance ? `(${covariance.shape.join(', ')})` : 'none'
      throw new DataError(`${call}: expected ${sigma} of ${file} to be (${size}, ${size}), got ${got}`, file)
    }
    const numbers = (data: ArrayLike<number>) => Float64Array.from(data)
    return { mean: numbers(mean.data), covariance: numbers(covariance.data) }
  }
  const pool = statistics('mu', 'sigma')
  const spatial = statistics('mu_s', 'sigma_s')
  const features = arrays.get('features')
  const hash = arrays.get('network_sha256')
  const images = has('arr_0') ? await npzOnDisk(file) : undefined
  return {
    name: file,
    ...(images && { images }),
    ...(features && { features: features as NonNullable<Reference['features']> }),
    ...(pool && { pool }),
    ...(spatial && { spatial }),
    ...(hash && { networkSha256: Buffer.from(hash.data as Uint8Array).toString('hex') }),
    close: async () => images?.close(),
  }
}

/** Options of `makeReference`. */
export interface MakeReferenceOptions {
  readonly images: ImageDataset
  readonly network: FeatureNetwork
  /** Images kept in the file, for precision and recall: 10,000 by default, drawn at random; all when there are fewer. */
  readonly keep?: number
  /** Keys which images are kept; 0 by default. */
  readonly seed?: number
  readonly batchSize?: number
  /** Called after each batch, with counts of images. */
  readonly onProgress?: ((done: number, total: number) => void) | undefined
  readonly signal?: AbortSignal | undefined
}

/**
 * Writes a reference batch as guided-diffusion's: statistics of all images' features, and some images (`readReference`
 * lists the arrays). The original's evaluator reads it too, but its own Inception network must have made the statistics that
 * it compares.
 *
 * @throws DataError when the file cannot be written
 */
export async function makeReference(file: string, options: MakeReferenceOptions): Promise<void> {
  const call = 'makeReference'
  const { images, network, seed = 0, batchSize = 64, onProgress, signal } = options
  const { keep = Math.min(10_000, images.length) } = options
  checkInteger(call, 'keep', keep, 1, images.length)
  if (images.length < 2) throw argumentError(call, 'images', 'at least two images', images.length)
  const { pool, spatial, probabilities } = await datasetFeatures(network, images, {
    batchSize,
    onProgress,
    signal,
  })
  probabilities?.dispose()
  try {
    const rows = chooseRows(keep, images.length, keyedRandom(seed, 'shuffle').at(0))
    const width = pool.shape[1] as number
    const all = (await pool.toHost()).data as Float32Array
    const kept = new Float32Array(keep * width)
    for (const [i, row] of rows.entries()) kept.set(all.subarray(row * width, (row + 1) * width), i * width)
    const { channels, height, width: columns } = images
    const arrays: Record<string, NpyStream> = {
      arr_0: {
        type: '|u1',
        shape: [keep, height, columns, channels],
        chunks: pixels(subset(images, rows), batchSize),
      },
      ...statistics(await featureStatistics(pool), 'mu', 'sigma'),
      ...(spatial && statistics(await featureStatistics(spatial), 'mu_s', 'sigma_s')),
      features: { type: '<f4', shape: [keep, width], chunks: [bytesOf(kept)] },
      network_sha256: { type: '|u1', shape: [32], chunks: [Buffer.from(network.sha256, 'hex')] },
    }
    await writeNpzStream(file, arrays)
  } finally {
    pool.dispose()
    spatial?.dispose()
  }
}

function statistics(
  { mean, covariance }: GaussianStatistics,
  mu: string,
  sigma: string,
): Record<string, NpyStream> {
  const size = mean.length
  return {
    [mu]: { type: '<f8', shape: [size], chunks: [bytesOf(mean)] },
    [sigma]: { type: '<f8', shape: [size, size], chunks: [bytesOf(covariance)] },
  }
}

async function* pixels(images: ImageDataset, batchSize: number): AsyncIterable<Uint8Array> {
  for await (const { images: batch } of readBatches(images, batchSize)) {
    const [n, channels, height, width] = batch.shape
    yield nchwToNhwc(batch.data as Uint8Array, n, height * width, channels)
  }
}
