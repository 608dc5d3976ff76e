import { type ImageDataset, inMemory, type MemoryImages } from '../data/dataset.ts'
import { imagesBetween } from '../data/image-range.ts'
import { toUint8 } from '../data/to-uint8.ts'
import type { DeviceTensor } from '../device-tensor.ts'
import { featureStatistics, frechetDistance, kernelDistance } from '../metrics/distances.ts'
import { slicedWasserstein } from '../metrics/pixels.ts'
import { Denoiser, type DenoiserOptions } from '../sampling/denoiser.ts'
import { sample } from '../sampling/sample.ts'
import type { ImageBatch } from '../tensor.ts'
import { loadForSampling } from '../training/checkpoint.ts'
import type { RunConfig } from '../training/run-config.ts'
import { openCombinations } from './combinations.ts'
import type { FeatureClassifier } from './features.ts'
import { type EvaluationSettings, type SampleSettings, settingsHash } from './study-file.ts'

/** Distances of samples from the data set, for each number of steps. */
export interface SampleResult {
  /** Hash of the settings. */
  readonly hash: string
  /** sha256 of the network whose features are compared. */
  readonly features?: string
  readonly rows: readonly {
    readonly steps: number
    /** How the heads were combined; the arm's own way where it is absent. */
    readonly combine?: string
    readonly slicedWasserstein: number
    readonly frechet?: number
    readonly kid?: number
    /** Super-resolution: mean squared error to the originals, pixels in [-1, 1]. */
    readonly mse?: number
  }[]
}

/** What samples are compared with. */
interface Reference {
  readonly dataset: ImageDataset
  /** For super-resolution: the same images with `lowRes`, of which image k is made larger; as many as are drawn. */
  readonly originals: ImageBatch | undefined
}

/** Hash of what decides the samples of a cell. */
export function samplesHash({ samples, weights, combine }: EvaluationSettings): string {
  return settingsHash({ samples, weights, combine })
}

/**
 * Draws samples, image k from the same noise in every cell, and compares them with a data set: sliced
 * Wasserstein distance of pixels, and, where there is a classifier, Frechet distance and unbiased MMD of its features; for
 * super-resolution with the originals of what is made larger, pixel by pixel, too.
 */
export async function compareSamples(
  checkpoint: string,
  settings: EvaluationSettings & { readonly samples: SampleSettings },
  config: RunConfig,
  compared: Reference,
  classifier: FeatureClassifier | undefined,
  signal?: AbortSignal,
): Promise<SampleResult> {
  const { samples, weights } = settings
  const { dataset, originals } = compared
  const network = await loadForSampling(checkpoint, { weights, device: config.device })
  const { unet, schedule, state } = network
  const reference = await classifier?.features(dataset, signal)
  try {
    const rows: SampleResult['rows'][number][] = []
    for (const { named, combine } of await openCombinations(checkpoint, network, settings, config)) {
      for (const steps of samples.steps) {
        const process = schedule.respace({ spacing: samples.spacing ?? 'uniform', steps })
        const { rescalesTimesteps } = state.trainer
        const denoiser = (inputs: Pick<DenoiserOptions, 'y' | 'lowRes'>) =>
          new Denoiser(unet, process, { combine, rescalesTimesteps, ...inputs })
        try {
          const drawn = await draw(denoiser, samples, config, compared, signal)
          const distances = await distancesOf(inMemory(drawn), dataset, classifier, reference, signal)
          const mse = originals && meanSquare(drawn.data, originals.data)
          rows.push({ steps, ...named, ...distances, ...(mse !== undefined && { mse }) })
        } finally {
          process.dispose()
        }
      }
    }
    const sha = classifier?.description.sha256
    return { hash: samplesHash(settings), ...(sha && { features: sha }), rows }
  } finally {
    reference?.dispose()
    unet.dispose()
    schedule.dispose()
  }
}

async function distancesOf(
  drawn: ImageDataset,
  dataset: ImageDataset,
  classifier: FeatureClassifier | undefined,
  reference: DeviceTensor | undefined,
  signal: AbortSignal | undefined,
) {
  const pixels = await slicedWasserstein(drawn, dataset, { signal })
  const features = await classifier?.features(drawn, signal)
  if (!features || !reference) return { slicedWasserstein: pixels }
  try {
    const frechet = await frechetDistance(
      await featureStatistics(features),
      await featureStatistics(reference),
    )
    const { mean: kid } = await kernelDistance(features, reference, { subsetCount: 20 })
    return { slicedWasserstein: pixels, frechet, kid }
  } finally {
    features.dispose()
  }
}

async function draw(
  denoiser: (inputs: Pick<DenoiserOptions, 'y' | 'lowRes'>) => Denoiser,
  { count, seed, batchSize, solver = 'ddim', lowerOrderFinal }: SampleSettings,
  config: RunConfig,
  { dataset: { channels, height, width, classNames }, originals }: Reference,
  signal: AbortSignal | undefined,
): Promise<MemoryImages> {
  const size = channels * height * width
  const data = new Uint8Array(count * size)
  for (let first = 0; first < count; first += batchSize) {
    const n = Math.min(batchSize, count - first)
    const part = originals && imagesBetween(originals, first, first + n)
    const classes = config.classes === 'none' ? 0 : (classNames?.length ?? 0)
    const inTurn = () => Int32Array.from({ length: n }, (_, i) => (first + i) % classes)
    const y = classes > 0 ? (part?.labels ?? inTurn()) : undefined
    const images = await sample({
      denoiser: denoiser({ ...(y && { y }), ...(part?.lowRes && { lowRes: part.lowRes }) }),
      ...{ shape: [n, channels, height, width], seed, firstImage: first },
      solver: lowerOrderFinal === undefined ? solver : { name: 'dpmpp2m', lowerOrderFinal },
      ...(signal && { signal }),
    })
    data.set(toUint8(images), first * size)
  }
  return { data, shape: [count, channels, height, width], name: `${count} samples` }
}

/** Of two sets of bytes, as numbers in [-1, 1]. */
function meanSquare(a: ArrayLike<number>, b: ArrayLike<number>): number {
  let sum = 0
  for (let i = 0; i < a.length; i++) sum += (((a[i] as number) - (b[i] as number)) / 127.5) ** 2
  return sum / a.length
}
