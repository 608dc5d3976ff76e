// Options that say what a file of weights does not: shared by the commands that take such files.
import { z } from 'zod'
import { flag, integer, oneOf, text } from '../options.ts'
import { ALL_HEADS } from '../prediction/heads.ts'
import { SCHEDULE_NAMES } from '../schedule/noise-schedule.ts'
import { VARIANCE_TYPES } from '../training/trainer.ts'
import type { GivenModel } from '../weights/describe.ts'
import { kebab } from './options.ts'

const about = <T extends z.ZodType>(description: string, schema: T): T =>
  schema.meta({ description, group: 'the network of a file of weights' }) as T

/** The options; a command spreads them into its own. */
export const MODEL_SHAPE = {
  config: about(
    'JSON with the configuration (ours, or guided-diffusion’s constructor options), or a published network by name',
    text().optional(),
  ),
  part: about('which dict of a .pt that holds several; ema, then model by default', text().optional()),
  heads: about(
    'what the network predicts, in the order xStart, v, eps',
    z.array(oneOf(ALL_HEADS)).optional(),
  ),
  imageChannels: about('channels of its images', integer(1, 4).optional()),
  superResolution: about('it makes images larger', flag().optional()),
  attentionHeads: about('attention heads', integer(1).optional()),
  headChannels: about('channels of an attention head, instead of a number of heads', integer(-1).optional()),
  newAttentionOrder: about('channel order of attention; --no- is the legacy order', flag().optional()),
  normGroups: about('groups of the normalisation', integer(1).optional()),
  schedule: about('noise schedule that it was trained with', oneOf(SCHEDULE_NAMES).optional()),
  timestepCount: about('timesteps that it was trained with', integer(1, 1_000_000).optional()),
  variance: about(
    'of ancestral steps and bounds: what a learned one means, or a fixed one; as trained by default',
    oneOf(VARIANCE_TYPES).optional(),
  ),
  rescalesTimesteps: about('it sees t x 1000 / T (improved-diffusion)', flag().optional()),
} satisfies Record<string, z.ZodType>

/** Their values. */
export type ModelValues = z.output<z.ZodObject<typeof MODEL_SHAPE>>

/** Where a command's option has another name than the network's. */
const OTHER_NAMES: Record<string, string> = { lowRes: 'superResolution', noLowRes: 'noSuperResolution' }

/** What the options say of a network, as `describeModel` takes it. */
export function describeOptions(options: ModelValues & { readonly lowRes?: string | undefined }) {
  const { config, part, schedule, timestepCount, variance, rescalesTimesteps } = options
  const { heads, imageChannels, normGroups } = options
  const lowRes = options.superResolution ?? (options.lowRes === undefined ? undefined : true)
  const { attentionHeads, headChannels, newAttentionOrder } = options
  const given = {
    network: { heads, imageChannels, lowRes, attentionHeads, headChannels, newAttentionOrder, normGroups },
    schedule,
    timestepCount,
    ...(variance !== undefined && { variance: variance === 'learned' ? 'learned' : 'learnedRange' }),
    rescalesTimesteps,
  } as GivenModel
  return {
    ...(config !== undefined && { config }),
    ...(part !== undefined && { part }),
    given,
    nameOf: (option: string) => `--${kebab(OTHER_NAMES[option] ?? option)}`,
  }
}

/** Which of these options are given. */
export function givenModelOptions(given: Record<string, unknown>): string[] {
  return Object.keys(MODEL_SHAPE).filter((key) => given[key] !== undefined)
}

/** What is worth a line to the user about a file that holds several dicts. */
export function partNote(
  path: string,
  { part, otherParts }: { part?: string; otherParts: readonly string[] },
): string | undefined {
  if (part === undefined || otherParts.length === 0) return undefined
  return `note: ${path} holds ${[part, ...otherParts].join(' and ')}; ${part} is used (--part for another)`
}
