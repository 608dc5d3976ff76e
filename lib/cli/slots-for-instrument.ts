import type { z } from 'zod'
import { gaussianEpsLoss } from '../analysis/gaussian-model.ts'
import { readLossCurve } from '../analysis/loss-curve-file.ts'
import { argumentError } from '../check.ts'
import { partitionByLoss } from '../curriculum/partition.ts'
import { checkSlots, type Slot } from '../curriculum/slot.ts'
import { integer, numbers, text } from '../options.ts'
import type { RunConfig } from '../training/run-config.ts'
import type { SamplingNetwork } from './network-for-sampling.ts'
import { asUsage, UsageError } from './usage.ts'

const about = <T extends z.ZodType>(description: string, schema: T): T => schema.meta({ description }) as T

/** Options that say which slots an instrument looks at. */
export const SLOTS_SHAPE = {
  slots: about('slots of equal loss', integer(1).default(10)),
  slotEdges: about('their edges 0,12,…,T instead', numbers('a list of timesteps').optional()),
  lossCurve: about(
    'file of trislot measure whose loss is cut; without it and edges those of the run, or the Gaussian model’s',
    text().optional(),
  ),
} satisfies Record<string, z.ZodType>

/** Edges of slots that training has cut anew, as they are at a checkpoint; undefined for other samplers. */
function refreshedEdges(state: SamplingNetwork['state']): readonly number[] | undefined {
  const { name, state: learned } = state?.sampler ?? {}
  if (name !== 'refreshed-slots') return undefined
  // A learned weighting has the name of the sampler that it is beside, and its state within its own.
  const { ends, sampler } = learned as { ends?: number[]; sampler?: { ends: number[] } }
  return [0, ...(ends ?? sampler?.ends ?? [])]
}

/** The slots that the options mean, and in words where they come from. */
export async function instrumentSlots(
  call: string,
  options: z.output<z.ZodObject<typeof SLOTS_SHAPE>>,
  given: Record<string, unknown>,
  { schedule, state }: SamplingNetwork,
  size: number,
): Promise<{ slots: Slot[]; source: string }> {
  const { timestepCount, tables } = schedule
  const { slotEdges, lossCurve } = options
  if (slotEdges && (lossCurve || given.slots !== undefined)) {
    const what = lossCurve ? '--loss-curve' : '--slots'
    throw new UsageError(
      argumentError(call, what, 'absent when --slot-edges are given', lossCurve ?? options.slots).message,
    )
  }
  const ofRun = refreshedEdges(state) ?? (state?.extra as { run?: RunConfig } | null)?.run?.slotEdges
  const usesRun = !slotEdges && !lossCurve && given.slots === undefined && ofRun !== undefined
  const edges = slotEdges ?? (usesRun ? ofRun : undefined)
  if (edges) {
    const slots = edges.slice(1).map((end, k) => ({ begin: edges[k] as number, end }))
    await asUsage(() => checkSlots(call, slots, timestepCount))
    return { slots, source: slotEdges ? 'edges given' : 'edges of the run' }
  }
  const slotCount = Math.min(options.slots, timestepCount)
  if (lossCurve) {
    return {
      slots: partitionByLoss(await readLossCurve(lossCurve, timestepCount), slotCount),
      source: `equal loss of ${lossCurve}`,
    }
  }
  const alphaBar = tables.alphaBar.map((value) => Math.min(Math.max(value, 1e-12), 1 - 1e-12))
  return {
    slots: partitionByLoss(gaussianEpsLoss({ size, alphaBar }), slotCount),
    source: 'equal eps loss of the Gaussian model',
  }
}
