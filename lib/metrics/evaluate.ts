import { argumentError } from '../check.ts'
import type { ImageDataset } from '../data/dataset.ts'
import type { Device } from '../device.ts'
import { DeviceTensor } from '../device-tensor.ts'
import { packageVersion } from '../setup/paths.ts'
import {
  featureStatistics,
  frechetDistance,
  type GaussianStatistics,
  inceptionScore,
  type KernelDistance,
  kernelDistance,
  precisionRecall,
} from './distances.ts'
import type { FeatureNetwork } from './feature-network.ts'
import { comparePixels } from './pixels.ts'
import { concatenated, readBatches } from './read-batches.ts'

/** What samples are compared with; `readReference` and `makeReference` give one. */
export interface Reference {
  readonly name: string
  /** Images for precision and recall, KID, and the sliced Wasserstein distance: 10,000 as a rule. */
  readonly images?: ImageDataset
  /** Pool features of those images, when they are known already; [N, D], row-major. */
  readonly features?: { readonly data: Float32Array; readonly shape: readonly [n: number, d: number] }
  /** Of the pool features of the whole data set. */
  readonly pool?: GaussianStatistics
  /** Of its spatial features. */
  readonly spatial?: GaussianStatistics
  /** Of the file of the feature network that made features and statistics; absent in guided-diffusion's files. */
  readonly networkSha256?: string
}

/** Options of `evaluate`. */
export interface EvaluateOptions {
  readonly samples: ImageDataset
  readonly reference: Reference
  /** Without it only the pixels are compared. */
  readonly network?: FeatureNetwork
  /** Images at once through the network; 64 by default. */
  readonly batchSize?: number
  /** Keys the subsets of KID and the directions of the sliced Wasserstein distance; 0 by default. */
  readonly seed?: number
  /** For the sliced Wasserstein distance. */
  readonly device?: Device
  /** Called after each batch with `samples`, `reference` or `pixels`, and counts of images. */
  readonly onProgress?: ((what: string, done: number, total: number) => void) | undefined
  readonly signal?: AbortSignal | undefined
}

/** What `evaluate` found; what the reference or the network cannot give is null. */
export interface Evaluation {
  readonly samples: { readonly name: string; readonly count: number }
  readonly reference: { readonly name: string; readonly imageCount: number }
  readonly network: { readonly file: string; readonly sha256: string; readonly features: number } | null
  readonly fid: number | null
  readonly sfid: number | null
  readonly inceptionScore: number | null
  readonly precision: number | null
  readonly recall: number | null
  readonly kid: KernelDistance | null
  readonly slicedWasserstein: number | null
  /**
   * How much the samples differ from each other in their pixels, as a share of the reference's images (`pixelSpread`): well below
   * 1 after too few steps (docs/solvers.md). null without images, and where those are all equal.
   */
  readonly pixelSpread: number | null
  readonly seed: number
  readonly trislot: string
}

/** All features of a data set; the caller disposes of them. */
export async function datasetFeatures(
  network: FeatureNetwork,
  dataset: ImageDataset,
  options: {
    readonly batchSize?: number
    readonly onProgress?: ((done: number, total: number) => void) | undefined
    readonly signal?: AbortSignal | undefined
  } = {},
): Promise<{ pool: DeviceTensor; spatial?: DeviceTensor; probabilities?: DeviceTensor }> {
  const { batchSize = 64, onProgress, signal } = options
  const parts = { pool: [], spatial: [], probabilities: [] } as Record<string, DeviceTensor[]>
  for await (const { images, done } of readBatches(dataset, batchSize, signal)) {
    for (const [name, tensor] of Object.entries(await network.features(images))) parts[name]!.push(tensor)
    onProgress?.(done, dataset.length)
  }
  const { pool, spatial, probabilities } = parts as Record<
    'pool' | 'spatial' | 'probabilities',
    DeviceTensor[]
  >
  return {
    pool: await concatenated(pool),
    ...(spatial.length > 0 && { spatial: await concatenated(spatial) }),
    ...(probabilities.length > 0 && { probabilities: await concatenated(probabilities) }),
  }
}

/**
 * Compares samples with a reference: FID, sFID, Inception score, precision and recall as guided-diffusion's evaluator
 * (math.md, "Metrics"), KID, and the sliced Wasserstein distance and the spread of the pixels. Memory holds the features of all samples.
 *
 * @throws RangeError where reference and network do not belong together
 */
export async function evaluate(options: EvaluateOptions): Promise<Evaluation> {
  const { samples, reference, network, seed = 0 } = options
  const byNetwork = network ? await compareFeatures(network, options) : undefined
  const { images } = reference
  const progress = options.onProgress
  const pixels = images
    ? await comparePixels(samples, images, {
        seed,
        batchSize: options.batchSize ?? 64,
        device: options.device ?? 'cpu',
        signal: options.signal,
        onProgress: progress && ((done, total) => progress('pixels', done, total)),
      })
    : null
  return {
    samples: { name: samples.name, count: samples.length },
    reference: { name: reference.name, imageCount: images?.length ?? 0 },
    network: null,
    ...{ fid: null, sfid: null, inceptionScore: null, precision: null, recall: null, kid: null },
    ...byNetwork,
    slicedWasserstein: pixels?.slicedWasserstein ?? null,
    pixelSpread: pixels && pixels.spreads[1] > 0 ? pixels.spreads[0] / pixels.spreads[1] : null,
    seed,
    trislot: packageVersion(),
  }
}

async function compareFeatures(
  network: FeatureNetwork,
  options: EvaluateOptions,
): Promise<Partial<Evaluation>> {
  const { samples, reference, batchSize = 64, seed = 0, signal, onProgress } = options
  const { networkSha256: made } = reference
  if (made !== undefined && made !== network.sha256) {
    const what = `the network that made ${reference.name} (sha256 ${made})`
    throw argumentError('evaluate', 'network', what, `${network.file} (sha256 ${network.sha256})`)
  }
  const held: DeviceTensor[] = []
  const featuresOf = async (what: string, dataset: ImageDataset) => {
    const progress = onProgress && ((done: number, total: number) => onProgress(what, done, total))
    const features = await datasetFeatures(network, dataset, { batchSize, onProgress: progress, signal })
    held.push(...Object.values(features))
    return features
  }
  try {
    const ofReference = await referenceFeatures(reference, network, featuresOf)
    if (ofReference.known) held.push(ofReference.known)
    const ofSamples = await featuresOf('samples', samples)
    const width = ofSamples.pool.shape[1] as number
    const { pool: referencePool } = ofReference
    const expected = reference.pool?.mean.length ?? referencePool?.shape[1]
    if (expected !== width) {
      throw argumentError(
        'evaluate',
        'network',
        `one that gives ${expected} features, as ${reference.name}`,
        width,
      )
    }
    const frechet = async (
      known: GaussianStatistics | undefined,
      a: DeviceTensor | undefined,
      b: DeviceTensor | undefined,
    ): Promise<number | null> => {
      if (!b || !(known ?? a)) return null
      return frechetDistance(
        known ?? (await featureStatistics(a as DeviceTensor)),
        await featureStatistics(b),
      )
    }
    const { probabilities } = ofSamples
    const neighbours = referencePool && (await precisionRecall(referencePool, ofSamples.pool))
    return {
      network: { file: network.file, sha256: network.sha256, features: width },
      fid: await frechet(reference.pool, referencePool, ofSamples.pool),
      sfid: await frechet(reference.spatial, ofReference.spatial, ofSamples.spatial),
      inceptionScore: probabilities ? await inceptionScore(probabilities) : null,
      precision: neighbours?.precision ?? null,
      recall: neighbours?.recall ?? null,
      kid: referencePool ? await kernelDistance(referencePool, ofSamples.pool, { seed }) : null,
    }
  } finally {
    for (const tensor of held) tensor.dispose()
  }
}

/** Features of the reference's images: those that it holds, or new ones. */
async function referenceFeatures(
  reference: Reference,
  network: FeatureNetwork,
  featuresOf: (what: string, dataset: ImageDataset) => ReturnType<typeof datasetFeatures>,
): Promise<{ pool?: DeviceTensor; spatial?: DeviceTensor; known?: DeviceTensor }> {
  const { features, images, pool } = reference
  if (features && pool) {
    const known = await DeviceTensor.from(features, network.device)
    return { pool: known, known }
  }
  return images ? featuresOf('reference', images) : {}
}
