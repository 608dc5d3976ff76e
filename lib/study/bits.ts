import { bitsPerDim } from '../analysis/bits-per-dim.ts'
import { imagesBetween } from '../data/image-range.ts'
import { Denoiser } from '../sampling/denoiser.ts'
import type { ImageBatch } from '../tensor.ts'
import { loadForSampling } from '../training/checkpoint.ts'
import type { RunConfig } from '../training/run-config.ts'
import { trainedVariance } from '../training/trainer.ts'
import { openCombinations } from './combinations.ts'
import { type BitsSettings, type EvaluationSettings, settingsHash } from './study-file.ts'

/** Bits per dimension of held-out images. */
export interface BitsResult {
  /** Hash of the settings. */
  readonly hash: string
  readonly rows: readonly {
    /** How the heads were combined; the arm's own way where it is absent. */
    readonly combine?: string
    /** Over the images. */
    readonly mean: number
  }[]
}

/** Hash of what decides the bits per dimension of a cell. */
export function bitsHash({ bitsPerDim: bits, weights, combine }: EvaluationSettings): string {
  return settingsHash({ bits, weights, combine })
}

/**
 * The variational bound of a process of `bitsPerDim.steps` steps (math.md, eq. 12), with the variance that the network was trained
 * with. Fewer steps than it was trained with make it larger, for all arms alike.
 *
 * @param images - with their classes and low-resolution twins where the network takes them
 */
export async function heldOutBits(
  checkpoint: string,
  settings: EvaluationSettings & { readonly bitsPerDim: BitsSettings },
  config: Pick<RunConfig, 'combine' | 'device'>,
  images: ImageBatch,
  signal?: AbortSignal,
): Promise<BitsResult> {
  const { weights, bitsPerDim: wanted, seed, batchSize } = settings
  const network = await loadForSampling(checkpoint, { weights, device: config.device })
  const { unet, schedule, state } = network
  const { rescalesTimesteps } = state.trainer
  const variance = trainedVariance(state.trainer, unet)
  const [count] = images.shape
  const process = schedule.respace(String(wanted.steps))
  try {
    const rows: BitsResult['rows'][number][] = []
    for (const { named, combine } of await openCombinations(checkpoint, network, settings, config)) {
      const denoiser = new Denoiser(unet, process, { combine, rescalesTimesteps })
      let sum = 0
      for (let first = 0; first < count; first += batchSize) {
        const part = imagesBetween(images, first, Math.min(first + batchSize, count))
        const measured = { denoiser, images: part, firstImage: first, variance, seed }
        const { total } = await bitsPerDim({ ...measured, ...(signal && { signal }) })
        sum += total.reduce((a, b) => a + b, 0)
      }
      rows.push({ ...named, mean: sum / count })
    }
    return { hash: bitsHash(settings), rows }
  } finally {
    for (const object of [process, unet, schedule]) object.dispose()
  }
}
