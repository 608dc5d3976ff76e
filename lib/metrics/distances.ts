import { argumentError, checkFinite, checkInteger } from '../check.ts'
import type { DeviceTensor } from '../device-tensor.ts'
import { native } from '../native.ts'
import { keyedRandom, type RandomStream } from '../random.ts'

/** Mean [D] and covariance [D, D] (row-major) of features. */
export interface GaussianStatistics {
  readonly mean: Float64Array
  readonly covariance: Float64Array
}

/**
 * Mean and unbiased covariance of features, summed in float64.
 *
 * @param features - [N, D], N >= 2
 */
export async function featureStatistics(features: DeviceTensor): Promise<GaussianStatistics> {
  checkRows('featureStatistics', 'features', features, 2)
  const { mean, covariance } = await native().featureStatistics(features.handle)
  return { mean: mean.data as Float64Array, covariance: covariance.data as Float64Array }
}

/**
 * Frechet distance of two Gaussians, squared as FID has it (math.md, "Metrics"): FID on Inception's pool features, sFID on
 * its spatial ones. float64; the trace of the matrix root comes from eigenvalues, so that singular covariances need no
 * correction.
 */
export async function frechetDistance(a: GaussianStatistics, b: GaussianStatistics): Promise<number> {
  const call = 'frechetDistance'
  const size = a.mean.length
  for (const [name, { mean, covariance }] of [
    ['a', a],
    ['b', b],
  ] as const) {
    if (mean.length !== size || covariance.length !== size ** 2) {
      const what = `${size} means and ${size} x ${size} covariances`
      throw argumentError(call, name, what, [mean.length, covariance.length])
    }
    checkFinite(call, `${name}.mean`, mean)
    checkFinite(call, `${name}.covariance`, covariance)
  }
  const tensors = [a, b].map(({ mean, covariance }) => ({
    mean: { data: mean, shape: [size] },
    covariance: { data: covariance, shape: [size, size] },
  }))
  return native().frechetDistance(tensors[0]!, tensors[1]!)
}

/**
 * Inception score: exp of the mean KL divergence of each image's classes from all images' classes, averaged over
 * contiguous splits, the last of which may be short.
 *
 * @param probabilities - [N, K]
 * @param splitSize - 5000, as the original
 */
export async function inceptionScore(probabilities: DeviceTensor, splitSize = 5000): Promise<number> {
  checkRows('inceptionScore', 'probabilities', probabilities, 1)
  checkInteger('inceptionScore', 'splitSize', splitSize, 1)
  return native().inceptionScore(probabilities.handle, splitSize)
}

/**
 * Precision and recall by nearest neighbours (arXiv 1904.06991) as guided-diffusion's evaluator computes them: squared
 * distances in half precision (single where that overflows), each point counted among its own neighbours.
 *
 * @param reference - pool features [N, D]
 * @param samples - pool features [M, D]
 * @param neighbour - 3, as the original
 * @returns the shares of samples near the reference, and of reference points near the samples
 */
export async function precisionRecall(
  reference: DeviceTensor,
  samples: DeviceTensor,
  neighbour = 3,
): Promise<{ readonly precision: number; readonly recall: number }> {
  const call = 'precisionRecall'
  checkInteger(call, 'neighbour', neighbour, 1)
  checkRows(call, 'reference', reference, neighbour + 1)
  checkRows(call, 'samples', samples, neighbour + 1, reference.shape[1])
  return native().precisionRecall(reference.handle, samples.handle, neighbour)
}

/** Options of `kernelDistance`. */
export interface KernelDistanceOptions {
  /** Subsets that are averaged, 100 by default; 1 where they hold everything. */
  readonly subsetCount?: number
  /** Rows of a subset; 1000 by default, or all of the smaller set when that is less. */
  readonly subsetSize?: number
  /** Keys the choice of the subsets; 0 by default. */
  readonly seed?: number
}

/** A kernel distance, and how much it varies from subset to subset. */
export interface KernelDistance {
  readonly mean: number
  readonly standardDeviation: number
  readonly subsetCount: number
  readonly subsetSize: number
}

/**
 * Kernel Inception distance (arXiv 1801.01401): the unbiased squared maximum mean discrepancy under the kernel
 * (x . y / D + 1)^3, averaged over random subsets without repetition. It may be slightly negative.
 *
 * @param a - [N, D]
 * @param b - [M, D]
 */
export async function kernelDistance(
  a: DeviceTensor,
  b: DeviceTensor,
  options: KernelDistanceOptions = {},
): Promise<KernelDistance> {
  const call = 'kernelDistance'
  const count = checkRows(call, 'a', a, 2)
  const smaller = Math.min(count, checkRows(call, 'b', b, 2, a.shape[1]))
  const { subsetSize = Math.min(1000, smaller), seed = 0 } = options
  checkInteger(call, 'subsetSize', subsetSize, 2, smaller)
  const holdsAll = subsetSize === a.shape[0] && subsetSize === b.shape[0]
  const { subsetCount = holdsAll ? 1 : 100 } = options
  checkInteger(call, 'subsetCount', subsetCount, 1)
  checkInteger(call, 'seed', seed, 0)
  const random = keyedRandom(seed, 'shuffle')
  const rows = (points: DeviceTensor, sample: number) => {
    const data = new Int32Array(subsetCount * subsetSize)
    for (let i = 0; i < subsetCount; i++) {
      const chosen = chooseRows(subsetSize, points.shape[0] as number, random.at(i, sample))
      data.set(chosen, i * subsetSize)
    }
    return { data, shape: [subsetCount, subsetSize] }
  }
  const distances = await native().kernelDistances(a.handle, b.handle, rows(a, 0), rows(b, 1))
  const mean = distances.reduce((sum, value) => sum + value, 0) / subsetCount
  const squares = distances.reduce((sum, value) => sum + (value - mean) ** 2, 0)
  const standardDeviation = subsetCount > 1 ? Math.sqrt(squares / (subsetCount - 1)) : 0
  return { mean, standardDeviation, subsetCount, subsetSize }
}

/** `count` different rows of `total`, ascending. */
export function chooseRows(count: number, total: number, stream: RandomStream): Int32Array {
  const order = Int32Array.from({ length: total }, (_, i) => i)
  for (let i = 0; i < count; i++) {
    const j = stream.integer(i, total)
    const kept = order[i]!
    order[i] = order[j]!
    order[j] = kept
  }
  return order.slice(0, count).sort()
}

function checkRows(
  call: string,
  name: string,
  points: DeviceTensor,
  least: number,
  columns?: number,
): number {
  const [rows, width] = points.shape
  if (points.shape.length !== 2 || (columns !== undefined && width !== columns)) {
    throw argumentError(call, `${name}.shape`, `[N, ${columns ?? 'D'}]`, points.shape)
  }
  checkInteger(call, `${name}.shape (N)`, rows, least)
  return rows as number
}
