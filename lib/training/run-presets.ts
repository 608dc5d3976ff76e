import { NETWORK_PRESETS, type NetworkPreset } from '../model/presets.ts'
import { RECIPES, type Recipe, type RecipeName } from '../model/recipes.ts'
import type { UNetOptions } from '../model/unet.ts'
import type { RunConfig } from './run-config.ts'

/** The name of a network or of a published one. */
export type RunPreset = NetworkPreset | RecipeName

/** Names that `preset` of a run takes. */
export const RUN_PRESETS = [...Object.keys(NETWORK_PRESETS), ...Object.keys(RECIPES)] as [
  RunPreset,
  ...RunPreset[],
]

/** The options that a preset fills in: of a network, or of a whole recipe. */
export function presetOptions(name: RunPreset): Partial<RunConfig> {
  if (Object.hasOwn(NETWORK_PRESETS, name)) {
    return runNetwork(NETWORK_PRESETS[name as keyof typeof NETWORK_PRESETS])
  }
  const recipe: Recipe = RECIPES[name as RecipeName]
  const { network, schedule, training, variance, rescalesTimesteps, lowResSize } = recipe
  return {
    ...runNetwork(network),
    schedule: schedule.name,
    timestepCount: schedule.timestepCount,
    variance,
    rescalesTimesteps,
    loss: training.loss,
    ...(lowResSize !== undefined && { superResolution: lowResSize }),
    batchSize: training.batchSize,
    lr: training.lr,
    weightDecay: training.weightDecay,
    emaRates: [training.emaRate],
    sampler: training.sampler,
  }
}

/** @internal Options of a network that are options of a run; channels, classes and the rest follow from its images and its other options. */
export const NETWORK_KEYS = [
  'heads', 'learnsVariance', 'gate', 'targetAngles', 'modelChannels', 'channelMult', 'resBlockCount', 'attentionResolutions', 'attentionHeads',
  'attentionHeadsUp', 'headChannels', 'dropout', 'convResample', 'recompute', 'scaleShiftNorm', 'resBlockUpDown',
  'newAttentionOrder', 'normGroups',
] as const satisfies readonly (keyof RunConfig & keyof UNetOptions)[] // biome-ignore format: one list

/** A network's options as a run has them. */
export function runNetwork(network: UNetOptions): Partial<RunConfig> {
  const known = NETWORK_KEYS.filter((key) => network[key] !== undefined)
  return Object.fromEntries(known.map((key) => [key, network[key]]))
}
