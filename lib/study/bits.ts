import { bitsPerDim } from '../analysis/bits-per-dim.ts'
import { openCombine } from '../sampling/combine.ts'
import { Denoiser } from '../sampling/denoiser.ts'
import { meanInterval } from '../statistics/paired.ts'
import type { ImageBatch } from '../tensor.ts'
import { headStatisticsOf, loadForSampling } from '../training/checkpoint.ts'
import type { RunConfig } from '../training/run-config.ts'
import { combinationsOf } from './samples.ts'
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
export function bitsHash({ bitsPerDim: bits, weights, combine, combinations }: EvaluationSettings): string {
  return settingsHash({ bits, weights, combine, combinations })
}

/**
 * The variational bound of a process of `bitsPerDim.steps` steps (math.md, eq. 12), with the variance that the network learned,
 * else fixedLarge. Fewer steps than the network was trained with make it larger, for all arms alike.
 */
export async function heldOutBits(
  checkpoint: string,
  settings: EvaluationSettings & { readonly bitsPerDim: BitsSettings },
  config: RunConfig,
  images: ImageBatch,
  signal?: AbortSignal,
): Promise<BitsResult> {
  const { weights, combine: own = config.combine, bitsPerDim: wanted, seed } = settings
  const { unet, schedule, state } = await loadForSampling(checkpoint, { weights, device: config.device })
  const process = schedule.respace(String(wanted.steps))
  const { rescalesTimesteps } = state.trainer
  try {
    const rows: BitsResult['rows'][number][] = []
    for (const words of [undefined, ...combinationsOf(settings, unet.layout.heads)]) {
      const sources = { statistics: headStatisticsOf(state), path: checkpoint }
      const combine = await openCombine(words ?? own, schedule, unet.layout.heads, sources)
      const denoiser = new Denoiser(unet, process, { combine, rescalesTimesteps })
      const { total } = await bitsPerDim({ denoiser, images, seed, ...(signal && { signal }) })
      rows.push({
        ...(words !== undefined && { combine: words }),
        mean: meanInterval(Array.from(total)).mean,
      })
    }
    return { hash: bitsHash(settings), rows }
  } finally {
    for (const object of [process, unet, schedule]) object.dispose()
  }
}
