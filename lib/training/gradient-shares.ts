import { headShares } from '../analysis/head-gradients.ts'
import type { GradientBatch } from '../analysis/loss-gradient.ts'
import { batches } from '../data/batches.ts'
import type { ImageDataset } from '../data/dataset.ts'
import type { ByName } from '../mixing/head-row.ts'
import { logSnrBins, logSnrOf } from '../mixing/log-snr-bins.ts'
import type { HeadPolicy } from '../mixing/policy.ts'
import { keyedRandom } from '../random.ts'
import type { Trainer } from './trainer.ts'

/** A line of gradients.jsonl: what each head of a run gives to the trunk at some noise levels, least noise first. */
export interface GradientRow {
  /** Steps done. */
  readonly step: number
  readonly levels: readonly {
    /** Timesteps [begin, end). */
    readonly t: readonly [begin: number, end: number]
    /** Mean log snr of these timesteps. */
    readonly logSnr: number
    /** Of the squared norm of the gradients of the heads' losses, and of the `mixture`'s where one is trained, as the run trains them; null where noise hides one. */
    readonly share: ByName | null
  }[]
}

const LEVELS = 5
const DRAWS = 4
const DRAW_SIZE = 2
/** Gradients that would take more than this are not measured: training was promised to fit without them. */
const MOST_BYTES = 256 * 2 ** 20

/** Whether `gradientRow` measures networks of this many parameters and heads: single ones have no shares, large ones no room. */
export function measuresGradients({ unet }: Trainer): boolean {
  const { length } = unet.layout.heads
  return length > 1 && 4 * (length * DRAWS + 1) * unet.parameterCount <= MOST_BYTES
}

/**
 * The share of each head in the trunk's gradient as the run trains it at this step: heads that the loss does not choose have none. The same
 * images, timesteps and noise at every step; 120 backward passes of one image for three heads.
 */
export async function gradientRow(
  trainer: Trainer,
  dataset: ImageDataset,
  options: {
    readonly policy: HeadPolicy
    readonly seed: number
    readonly withLabels: boolean
    readonly signal?: AbortSignal | undefined
  },
): Promise<GradientRow> {
  const { policy, seed, withLabels, signal } = options
  const { unet, schedule, config, step } = trainer
  const { heads } = unet.layout
  const { edges, centres } = logSnrBins(logSnrOf(schedule.tables.snr), LEVELS)
  const source = batches(dataset, { batchSize: DRAW_SIZE, seed: seed + 3, withLabels, prefetch: 0 })
  const random = keyedRandom(seed, 'probe')
  const levels: GradientRow['levels'][number][] = []
  try {
    for (const [level, logSnr] of centres.entries()) {
      signal?.throwIfAborted()
      const [begin, end] = [edges[level] as number, edges[level + 1] as number]
      const draws: GradientBatch[] = []
      for (let draw = 0; draw < DRAWS; draw++) {
        const key = level * DRAWS + draw
        const stream = random.at(4, key)
        const t = Int32Array.from({ length: DRAW_SIZE }, () => stream.integer(begin, end))
        draws.push({ images: (await source.next()).value, t, seed, step: key })
      }
      const { share, mixtureShare } = await headShares(unet, schedule, draws, {
        training: config,
        decide: (t) => policy.decide(t, step),
      })
      const parts = [
        ...heads.map((head, h) => [head, share[h]] as const),
        ...(mixtureShare === undefined ? [] : [['mixture', mixtureShare] as const]),
      ]
      const isKnown = parts.every(([, value]) => value !== null)
      levels.push({
        ...{ t: [begin, end], logSnr },
        share: isKnown ? (Object.fromEntries(parts) as ByName) : null,
      })
    }
  } finally {
    await source.return?.()
  }
  return { step, levels }
}
