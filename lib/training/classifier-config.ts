import { join } from 'node:path'
import type { z } from 'zod'
import { argumentError } from '../check.ts'
import { type ClassifierOptions, POOLS } from '../model/classifier.ts'
import { checkOptions, decimal, flag, integer, numbers, oneOf, positive, text } from '../options.ts'
import { runLearningRate } from './learning-rate.ts'
import { RUN_SHAPE, runName } from './run-config.ts'

const about = <T extends z.ZodType>(group: string, description: string, schema: T): T =>
  schema.meta({ description, group }) as T

/** Options of `runClassifier` that mean what they mean for `run`. */
const SHARED = (({
  size,
  channels,
  crop,
  badFiles,
  flip,
  schedule,
  timestepCount,
  zeroTerminalSnr,
  ...rest
}) => {
  const { batchSize, microBatch, lrSchedule, lrSteps, warmupSteps, weightDecay, decayAll, beta1, beta2 } =
    rest
  const { clipNorm, precision, nonFinite, seed, run, device, threads, kernels, keep, saveEvery, logEvery } =
    rest
  return {
    data: { size, channels, crop, badFiles, flip },
    diffusion: { schedule, timestepCount, zeroTerminalSnr },
    training: {
      ...{ batchSize, microBatch, lrSchedule, lrSteps, warmupSteps, weightDecay, decayAll, beta1, beta2 },
      ...{ clipNorm, precision, nonFinite, seed },
    },
    run: { run, device, threads, kernels, keep, saveEvery, logEvery },
  }
})(RUN_SHAPE)

/** Every option of a classifier's run: command line, help, the checks of config.json, and types. */
export const CLASSIFIER_SHAPE = {
  data: RUN_SHAPE.data,
  ...SHARED.data,
  classes: about(
    'data',
    'where classes come from: the data, names of folders, or names of files (guided-diffusion)',
    oneOf(['data', 'folder', 'prefix']).default('data'),
  ),
  valData: about('data', 'images for validation, opened with the same options', text().optional()),
  heldOut: about(
    'data',
    'images that are set aside for validation, instead of valData',
    integer(1).optional(),
  ),

  modelChannels: about('network', 'base width', integer(1).default(128)),
  channelMult: about(
    'network',
    'width of each level as a multiple',
    numbers('a list of multiples').default([1, 2, 2]),
  ),
  resBlockCount: about('network', 'residual blocks a level', integer(1).default(2)),
  attentionResolutions: about(
    'network',
    'down-sampling factors with attention, such as 2,4',
    numbers('a list of factors').optional(),
  ),
  headChannels: about('network', 'channels of an attention head', integer(1).default(64)),
  pool: about('network', 'how feature maps become one vector', oneOf(POOLS).default('attention')),
  dropout: about('network', 'share of activations that is dropped', decimal(0, 0.99).optional()),
  recompute: about('network', 'less memory, a third more time', flag().optional()),
  scaleShiftNorm: about('network', 'timesteps scale and shift', flag().default(true)),
  resBlockUpDown: about('network', 'residual blocks resize', flag().default(true)),
  newAttentionOrder: about('network', 'channel order of attention', flag().optional()),
  normGroups: about('network', 'groups of the normalisation; 32 by default', integer(1).optional()),

  ...SHARED.diffusion,
  noised: about('diffusion', 'train on noised images, which guidance needs', flag().default(true)),
  sampler: about(
    'diffusion',
    'who draws timesteps',
    oneOf(['uniform', 'stratified', 'systematic']).default('uniform'),
  ),

  steps: RUN_SHAPE.steps,
  lr: about('training', 'learning rate', positive().default(3e-4)),
  ...SHARED.training,
  ...SHARED.run,
  evalEvery: about('run', 'steps between validation batches; 0 makes none', integer(0).default(10)),
} as const satisfies Record<string, z.ZodType>

/** Options of `runClassifier`; `data` and `steps` are required. */
export type ClassifierRunOptions = z.input<z.ZodObject<typeof CLASSIFIER_SHAPE>>

/** A classifier run's options with defaults filled in, as config.json holds them. */
export type ClassifierRunConfig = z.output<z.ZodObject<typeof CLASSIFIER_SHAPE>> & { readonly run: string }

/** Options that may differ when a run is continued. */
export const CLASSIFIER_FREE_OPTIONS = [
  'steps',
  'run',
  'keep',
  'saveEvery',
] as const satisfies readonly (keyof ClassifierRunConfig)[]

/**
 * Checks options, fills in defaults, and names the run's folder.
 *
 * @throws RangeError that lists unknown options (with the nearest name) and wrong values
 */
export function classifierRunConfig(
  options: ClassifierRunOptions,
  call = 'runClassifier',
): ClassifierRunConfig {
  const given = checkOptions(call, CLASSIFIER_SHAPE, options)
  if (given.valData !== undefined && given.heldOut !== undefined) {
    throw argumentError(call, 'heldOut', 'absent when valData is given', given.heldOut)
  }
  const config = { ...given }
  if (config.lrSchedule !== 'constant') config.lrSteps ??= config.steps
  runLearningRate(call, config) // which checks them
  const name = `classifier-${runName(given, CLASSIFIER_FREE_OPTIONS)}`
  return { ...config, run: given.run ?? join('runs', name) }
}

/** Options of the network among those of a run. */
export function classifierOptions(
  config: ClassifierRunConfig,
  images: { readonly channels: number; readonly height: number; readonly classCount: number },
): ClassifierOptions {
  const { modelChannels, channelMult, resBlockCount, attentionResolutions, headChannels, pool } = config
  const { dropout, recompute, scaleShiftNorm, resBlockUpDown, newAttentionOrder, normGroups } = config
  return {
    ...{ modelChannels, channelMult, resBlockCount, headChannels, pool, scaleShiftNorm, resBlockUpDown },
    ...(attentionResolutions && { attentionResolutions }),
    ...(dropout !== undefined && { dropout }),
    ...(recompute !== undefined && { recompute }),
    ...(newAttentionOrder !== undefined && { newAttentionOrder }),
    ...(normGroups !== undefined && { normGroups }),
    ...{ imageChannels: images.channels, imageSize: images.height, classCount: images.classCount },
  }
}
