import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import type { UNet } from '../model/unet.ts'
import type { Precision, VarianceType } from '../native.ts'
import { type GridOptions, imageGrid } from '../report/grid.ts'
import { writePng } from '../report/png.ts'
import type { Combine } from '../sampling/denoiser.ts'
import { Denoiser } from '../sampling/denoiser.ts'
import { sample } from '../sampling/sample.ts'
import type { Solver } from '../sampling/solver.ts'
import type { NoiseSchedule, Visits } from '../schedule/noise-schedule.ts'
import type { ImageBatch } from '../tensor.ts'

/** What a preview shows. */
export interface DrawOptions {
  readonly schedule: NoiseSchedule
  /** Images in all, and their channels, height and width. */
  readonly count: number
  readonly image: readonly [channels: number, height: number, width: number]
  /** Index of the first image, 0 by default: images `first` to `first + count - 1` of the seed are drawn. */
  readonly first?: number
  /** Images drawn at once; all by default. Image k is the same whatever it is, but for rounding. */
  readonly batchSize?: number
  readonly seed: number
  /** Which timesteps are visited: `'250'`, `'ddim25'`, sections, a spacing; what `NoiseSchedule.respace` takes. */
  readonly respacing: Visits
  /** The sampler; `ddim` where `eta` is given, else `ddpm`. */
  readonly solver?: Solver | undefined
  /** Short for `solver: { name: 'ddim', eta }`. */
  readonly eta?: number | undefined
  readonly combine: Combine
  /** Variance of the ancestral sampler; what the network learned, else `fixedLarge`, by default. */
  readonly variance?: VarianceType
  /** The network is told t x 1000 / T; false by default. */
  readonly rescalesTimesteps?: boolean
  readonly precision?: Precision
  /** Class of image k, for class-conditional networks. */
  readonly classOf?: ((k: number) => number) | undefined
  readonly signal?: AbortSignal | undefined
  /** Called after each timestep; counts images times timesteps. */
  readonly onProgress?: (done: number, total: number) => void
}

/** Draws images in batches; float32 in about [-1, 1], [count, C, H, W]. */
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
    signal,
  } = options
  const batchSize = Math.min(options.batchSize ?? count, count)
  const size = image[0] * image[1] * image[2]
  const data = new Float32Array(count * size)
  const labels = classOf && Int32Array.from({ length: count }, (_, k) => classOf(first + k))
  const process = schedule.respace(respacing)
  try {
    for (let begin = 0; begin < count; begin += batchSize) {
      const n = Math.min(batchSize, count - begin)
      const y = labels?.slice(begin, begin + n)
      const denoiser = new Denoiser(unet, process, { combine, rescalesTimesteps, precision, ...(y && { y }) })
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

/** Writes images as one PNG, enlarged so that small ones can be seen, on grey. */
export async function writeGrid(file: string, images: ImageBatch, options: GridOptions = {}): Promise<void> {
  const scale = Math.max(1, Math.min(8, Math.floor(96 / images.shape[2])))
  await writePng(file, imageGrid(images, { scale, background: 128, ...options }))
}

/** Writes `previews/step-NNNNNNNN-NAME.png` in a run's folder, from the same noise at every step. */
export async function writePreview(
  run: string,
  step: number,
  name: string,
  unet: UNet,
  options: DrawOptions,
): Promise<string> {
  await mkdir(join(run, 'previews'), { recursive: true })
  const file = join(run, 'previews', `step-${String(step).padStart(8, '0')}-${name}.png`)
  await writeGrid(file, await drawImages(unet, options))
  return file
}
