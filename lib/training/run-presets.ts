import { NETWORK_PRESETS } from '../model/presets.ts'
import { RECIPES, type Recipe } from '../model/recipes.ts'
import type { UNetOptions } from '../model/unet.ts'
import type { RunConfig } from './run-config.ts'

/** Published networks that a run can train: those without a second image, with the simple loss, that are told t itself. */
const TRAINABLE = Object.entries<Recipe>(RECIPES).filter(
  ([, { network, training, rescalesTimesteps }]) =>
    !network.lowRes && training.loss === 'mse' && !rescalesTimesteps,
)

/** Names that `preset` of a run takes. */
export const RUN_PRESETS: readonly string[] = [
  ...Object.keys(NETWORK_PRESETS),
  ...TRAINABLE.map(([name]) => name),
]

/** The options that a preset fills in: of a network, or of a whole recipe. */
export function presetOptions(name: string): Partial<RunConfig> {
  if (Object.hasOwn(NETWORK_PRESETS, name)) {
    return runNetwork(NETWORK_PRESETS[name as keyof typeof NETWORK_PRESETS])
  }
  const { network, schedule, training }: Recipe = RECIPES[name as keyof typeof RECIPES]
  return {
    ...runNetwork(network),
    schedule: schedule.name,
    timestepCount: schedule.timestepCount,
    batchSize: training.batchSize,
    lr: training.lr,
    weightDecay: training.weightDecay,
    emaRates: [training.emaRate],
    sampler: training.sampler,
  }
}

/** A network's options as a run has them: channels and classes come from the images. */
export function runNetwork({
  imageChannels: _channels,
  classCount: _classes,
  lowRes: _lowRes,
  dims: _dims,
  ...rest
}: UNetOptions): Partial<RunConfig> {
  return { ...rest } as Partial<RunConfig>
}
