import { join } from 'node:path'
import { argumentError, checkInteger, checkKnownOptions } from '../check.ts'
import { makeFolder } from '../folder.ts'
import type { UNet } from '../model/unet.ts'
import type { Precision, VarianceType } from '../native.ts'
import { type GridOptions, imageGrid } from '../report/grid.ts'
import { writePng } from '../report/png.ts'
import { sideBySide } from '../report/side-by-side.ts'
import type { ClassifierGuidance, Combine } from '../sampling/denoiser.ts'
import { Denoiser } from '../sampling/denoiser.ts'
import { sample } from '../sampling/sample.ts'
import type { Solver } from '../sampling/solver.ts'
import type { NoiseSchedule, Visits } from '../schedule/noise-schedule.ts'
import { checkShape, type ImageBatch } from '../tensor.ts'

/** What `drawImages` draws. */
export interface DrawOptions {
  readonly schedule: NoiseSchedule
  /** Images in all, and their channels, height and width. */
  readonly count: number
  /** [C, H, W] of each. */
  readonly image: readonly [channels: number, height: number, width: number]
  /** Index of the first image, 0 by default: images `first` to `first + count - 1` of the seed are drawn. */
  readonly first?: number
  /** Images drawn at once; all by default. Image k is the same whatever it is, but for rounding. */
  readonly batchSize?: number
  /** Keys all noise: image k of a seed is always the same. */
  readonly seed: number
  /** Which timesteps are visited: `'250'`, `'ddim25'`, sections, a spacing; what `NoiseSchedule.respace` takes. */
  readonly respacing: Visits
  /** The sampler; `ddim` where `eta` is given, else `ddpm`. */
  readonly solver?: Solver | undefined
  /** Short for `solver: { name: 'ddim', eta }`. */
  readonly eta?: number | undefined
  /** Which prediction is used; see `DenoiserOptions`, where it may be left out. */
  readonly combine: Combine
  /** Variance of the ancestral sampler; what the network learned, else `fixedLarge`, by default. */
  readonly variance?: VarianceType
  /** The network is told t x 1000 / T; false by default. */
  readonly rescalesTimesteps?: boolean
  readonly precision?: Precision
  /** Class of image k, for class-conditional networks and for a classifier. */
  readonly classOf?: ((k: number) => number) | undefined
  /** What is made larger, for super-resolution: [count, C, h, w], uint8 or float32 in [-1, 1]. */
  readonly lowRes?: ImageBatch['lowRes'] | undefined
  /** Classifier-free guidance; see `DenoiserOptions`. */
  readonly guidanceScale?: number | undefined
  readonly guidanceInterval?: readonly [begin: number, end: number] | undefined
  /** A classifier that leads towards `classOf`. */
  readonly classifier?: Omit<ClassifierGuidance, 'y'> | undefined
  readonly signal?: AbortSignal | undefined
  /** Called after each timestep; counts images times timesteps. */
  readonly onProgress?: (done: number, total: number) => void
}

const OPTIONS = [
  'schedule', 'count', 'image', 'first', 'batchSize', 'seed', 'respacing', 'solver', 'eta', 'combine', 'variance',
  'rescalesTimesteps', 'precision', 'classOf', 'lowRes', 'guidanceScale', 'guidanceInterval', 'classifier', 'signal', 'onProgress',
] as const satisfies readonly (keyof DrawOptions)[] // biome-ignore format: one list

/**
 * Draws images in batches; float32 in about [-1, 1], [count, C, H, W].
 *
 * @throws RangeError, TypeError for options that do not fit the network; the signal's reason where it stops
 */
export async function drawImages(unet: UNet, options: DrawOptions): Promise<ImageBatch> {
  const {
    schedule,
    count,
    image,
    seed,
    respacing,
    solver,
    eta,
    combine,
    variance,
    rescalesTimesteps = false,
    first = 0,
    precision = 'fp32',
    classOf,
    lowRes,
    guidanceScale,
    guidanceInterval,
    classifier,
    signal,
  } = options
  const call = 'drawImages'
  checkKnownOptions(call, options, OPTIONS)
  checkShape(call, '[count, ...image]', [count, ...image])
  checkInteger(call, 'batchSize', options.batchSize ?? count, 1)
  const batchSize = Math.min(options.batchSize ?? count, count)
  const size = image[0] * image[1] * image[2]
  const data = new Float32Array(count * size)
  const labels = classOf && Int32Array.from({ length: count }, (_, k) => classOf(first + k))
  const isConditional = (unet.config?.classCount ?? 0) > 0
  if (lowRes && lowRes.shape[0] !== count) {
    throw argumentError(call, 'lowRes', `${count} images, as many as count`, lowRes.shape)
  }
  const process = schedule.respace(respacing)
  try {
    for (let begin = 0; begin < count; begin += batchSize) {
      const n = Math.min(batchSize, count - begin)
      const y = labels?.slice(begin, begin + n)
      const denoiser = new Denoiser(unet, process, {
        ...{ combine, rescalesTimesteps, precision },
        ...(y && isConditional && { y }),
        ...(lowRes && { lowRes: sliceImages(lowRes, begin, n) }),
        ...(guidanceScale !== undefined && { guidanceScale }),
        ...(guidanceInterval && { guidanceInterval }),
        ...(y && classifier && { classifierGuidance: { ...classifier, y } }),
      })
      const images = await sample({
        denoiser,
        shape: [n, ...image],
        seed,
        firstImage: first + begin,
        solver,
        ...(eta !== undefined && { eta }),
        ...(variance && { variance }),
        ...(signal && { signal }),
        onStep: ({ done, total }) => options.onProgress?.(begin * total + n * done, count * total),
      })
      data.set(images, begin * size)
    }
  } finally {
    process.dispose()
  }
  return { data, shape: [count, ...image], ...(labels && { labels }) }
}

/** Images `first` to `first + n` of a batch. */
export function sliceImages(
  { data, shape }: NonNullable<ImageBatch['lowRes']>,
  first: number,
  n: number,
): NonNullable<ImageBatch['lowRes']> {
  const size = shape[1] * shape[2] * shape[3]
  return { data: data.slice(first * size, (first + n) * size), shape: [n, shape[1], shape[2], shape[3]] }
}

/** Writes images as one PNG, enlarged so that small ones can be seen, on grey. */
export async function writeGrid(file: string, images: ImageBatch, options: GridOptions = {}): Promise<void> {
  const scale = Math.max(1, Math.min(8, Math.floor(96 / images.shape[2])))
  await writePng(file, imageGrid(images, { scale, background: 128, ...options }))
}

/**
 * Writes what super-resolution made: low-resolution image, result and, where there is one, original side by side, as one
 * PNG.
 */
export async function writeSuperResolution(
  file: string,
  lowRes: NonNullable<ImageBatch['lowRes']>,
  images: ImageBatch,
  original?: ImageBatch,
): Promise<void> {
  const stages = original ? [lowRes, images, original] : [lowRes, images]
  const perRow = Math.max(1, Math.round(Math.sqrt(images.shape[0] / stages.length)))
  await writeGrid(file, sideBySide(stages), { columns: stages.length * perRow })
}

/** Where `writePreview` puts a picture. */
export function previewFile(run: string, step: number, name: string): string {
  return join(run, 'previews', `step-${String(step).padStart(8, '0')}-${name}.png`)
}

/**
 * Writes `previews/step-NNNNNNNN-NAME.png` in a run's folder, from the same noise at every step; for super-resolution low
 * resolution, result and original side by side.
 */
export async function writePreview(
  run: string,
  step: number,
  name: string,
  unet: UNet,
  options: DrawOptions & { readonly original?: ImageBatch | undefined },
): Promise<string> {
  await makeFolder(join(run, 'previews'))
  const file = previewFile(run, step, name)
  const { original, ...drawn } = options
  const images = await drawImages(unet, drawn)
  const { lowRes } = options
  if (lowRes) await writeSuperResolution(file, lowRes, images, original)
  else await writeGrid(file, images)
  return file
}
