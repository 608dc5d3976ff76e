import { createHash } from 'node:crypto'
import { basename, join } from 'node:path'
import { z } from 'zod'
import { gaussianEpsLoss } from '../analysis/gaussian-model.ts'
import { readLossCurve } from '../analysis/loss-curve-file.ts'
import { argumentError, ofArgument } from '../check.ts'
import { partitionByLoss, partitionEvenly } from '../curriculum/partition.ts'
import type { Slot } from '../curriculum/slot.ts'
import { type OpenOptions, openDataset } from '../data/open.ts'
import { KERNELS, PRECISIONS } from '../device.ts'
import { type UNetOptions, unetConfig } from '../model/unet.ts'
import { checkOptions, decimal, device, flag, integer, numbers, oneOf, positive, text } from '../options.ts'
import { ALL_HEADS, HEADS } from '../prediction/heads.ts'
import { defaultCombine } from '../sampling/combine.ts'
import { SCHEDULE_NAMES } from '../schedule/noise-schedule.ts'
import { extent } from '../statistics/extent.ts'
import { clippedSnr } from '../timesteps/law.ts'
import { doubleCounting } from './double-counting.ts'
import { initOptions } from './initial-weights.ts'
import { LEARNING_RATE_KINDS, runLearningRate } from './learning-rate.ts'
import { checkMixing, MIXING_SHAPE, mixOptions } from './mixing-options.ts'
import { NETWORK_KEYS, presetOptions, RUN_PRESETS } from './run-presets.ts'
import { halfLifeRates, withRecipe } from './run-recipes.ts'
import {
  numbersOfImages,
  runAlphaBar,
  SAMPLER_NAMES,
  settleTimesteps,
  slotsFromEdges,
  TIMESTEP_SHAPE,
  timestepSampler,
  trainedTimestepCount,
} from './timestep-options.ts'
import { CHOICES, LOSS_KINDS, SPACES, VARIANCE_TYPES, withoutDirection } from './trainer.ts'

const about = <T extends z.ZodType>(group: string, description: string, schema: T): T =>
  schema.meta({ description, group }) as T

/** Every option of a run: the single source of command-line options, help, the checks of config.json, and types. */
export const RUN_SHAPE = {
  data: about('data', 'digits, emoji, a folder of images, a .npz file, CIFAR-10 or an IDX file', text()),
  size: about('data', 'height and width to which the images of a folder are cropped', integer(1).optional()),
  channels: about(
    'data',
    'image channels of a folder: 1 grey, 3 RGB (2 and 4 with alpha)',
    integer(1, 4).optional(),
  ),
  crop: about('data', 'part of a picture that is taken', oneOf(['center', 'random']).optional()),
  badFiles: about('data', 'pictures that do not decode', oneOf(['error', 'skip']).optional()),
  flip: about('data', 'mirror half of the images', flag().default(false)),
  classes: about(
    'data',
    'train with classes: those of the data, or of folder names or file names (guided-diffusion)',
    oneOf(['none', 'data', 'folder', 'prefix']).default('none'),
  ),
  heldOut: about(
    'data',
    'images that are not trained: previews of super-resolution, and measure, take these',
    integer(1).optional(),
  ),
  splitSeed: about('data', 'keys which images are held out; seed by default', integer(0).optional()),
  superResolution: about(
    'data',
    'train super-resolution from this height: the low-resolution twins are made of the images (area down-scaling)',
    integer(1).optional(),
  ),

  preset: about(
    'network',
    'a network by name, or a published one with schedule, batch size and learning rate; other options override it',
    oneOf(RUN_PRESETS).optional(),
  ),
  init: about(
    'network',
    'begin with the weights of a .pt, .safetensors or checkpoint; its network is the run’s unless options differ',
    text().optional(),
  ),
  initConfig: about(
    'network',
    'JSON with the configuration of init, or a published network by name; needed for files that are not known',
    text().optional(),
  ),
  initPart: about('network', 'which dict of a .pt that holds several', text().optional()),
  initHeads: about(
    'network',
    'what the network of init predicts, where its configuration does not say it',
    z.array(oneOf(ALL_HEADS), `some of ${HEADS.join(', ')}, or xPrev or F`).optional(),
  ),
  heads: about(
    'network',
    'what is predicted, or xPrev or F (EDM’s) alone; all three without a preset',
    z.array(oneOf(ALL_HEADS), `some of ${HEADS.join(', ')}, or xPrev or F alone`).optional(),
  ),
  learnsVariance: about('network', 'predict the variance too', flag().optional()),
  gate: about(
    'network',
    'a gate that learns how much each head counts in each pixel, for combine gate',
    flag().optional(),
  ),
  targetAngles: about(
    'network',
    'angles, even in t, by which the target learns to turn away from v; for heads v',
    integer(0).optional(),
  ),
  modelChannels: about('network', 'base width; 64 without a preset', integer(1).optional()),
  channelMult: about(
    'network',
    'width of each level as a multiple; 1,2,2 without a preset',
    numbers('a list of multiples').optional(),
  ),
  resBlockCount: about('network', 'residual blocks a level; 2 without a preset', integer(1).optional()),
  attentionResolutions: about(
    'network',
    'down-sampling factors with attention, such as 2,4; none without a preset',
    numbers('a list of factors').optional(),
  ),
  attentionHeads: about('network', 'attention heads; 4 without a preset', integer(1).optional()),
  attentionHeadsUp: about('network', 'attention heads on the way up, if others', integer(-1).optional()),
  headChannels: about(
    'network',
    'channels of an attention head, instead of a number of heads',
    integer(-1).optional(),
  ),
  dropout: about('network', 'share of activations that is dropped', decimal(0, 0.99).optional()),
  convResample: about('network', 'convolutions resize; on unless --no-conv-resample', flag().optional()),
  recompute: about('network', 'less memory, a third more time', flag().optional()),
  scaleShiftNorm: about(
    'network',
    'timesteps scale and shift; on unless --no-scale-shift-norm',
    flag().optional(),
  ),
  resBlockUpDown: about('network', 'residual blocks resize', flag().optional()),
  newAttentionOrder: about('network', 'channel order of attention', flag().optional()),
  normGroups: about('network', 'groups of the normalisation; 32 without a preset', integer(1).optional()),

  schedule: about('diffusion', 'noise schedule', oneOf(SCHEDULE_NAMES).default('linear')),
  timestepCount: about('diffusion', 'diffusion timesteps T', integer(1, 1_000_000).default(1000)),
  zeroTerminalSnr: about('diffusion', 'no signal at the last timestep', flag().default(false)),
  respacing: about(
    'diffusion',
    'train on some timesteps only: 250, ddim25, or counts of sections 10,15,20',
    text().optional(),
  ),
  rescalesTimesteps: about(
    'diffusion',
    'tell the network t x 1000 / T, as improved-diffusion does',
    flag().optional(),
  ),
  variance: about(
    'diffusion',
    'of the reverse process; learnedRange where it is learned, else fixedLarge',
    oneOf(VARIANCE_TYPES).optional(),
  ),

  sampler: about('timesteps', 'who draws timesteps', oneOf(SAMPLER_NAMES).default('uniform')),
  slots: about('timesteps', 'number of timestep slots K; 10 by default', integer(1).optional()),
  slotPlan: about(
    'timesteps',
    'which slot is open when: one:K, all, sequential:noisy-first:STEPS, round-robin[:STEPS] (default), random',
    text().optional(),
  ),
  slotEdges: about(
    'timesteps',
    'edges of the slots: 0,12,…,T; or leave them to lossCurve',
    numbers('a list of timesteps').optional(),
  ),
  lossCurve: about('timesteps', 'file of measured losses, cut into slots of equal loss', text().optional()),
  importanceWeights: about(
    'timesteps',
    'weights so that every timestep counts the same',
    flag().default(false),
  ),

  loss: about(
    'loss',
    'errors of the heads (mse, the default), with a learned variance’s bound times T / 1000, or the bound alone',
    oneOf(LOSS_KINDS).optional(),
  ),
  choose: about(
    'loss',
    'heads that enter the loss: min is the paper, mean all of them, a head that one alone; relaxed (a floor of 0.1 for the losers) and softmin (at a temperature of 1) keep their numbers without mix; given belongs to mix',
    oneOf([...CHOICES, ...HEADS]).default('mean'),
  ),
  ...MIXING_SHAPE,
  compare: about('loss', 'space in which heads are compared', oneOf(SPACES).default('own')),
  space: about('loss', 'space of the error that is minimised', oneOf(SPACES).default('own')),
  sigmaData: about('loss', 'standard deviation of pixels, for space F', decimal(1e-6).default(0.5)),
  directionWeight: about(
    'loss',
    'weight of 1 - cosine between v and its target, beside the errors; for networks with a v head',
    decimal(0).optional(),
  ),
  boundWeight: about('loss', 'weight of the variational bound', decimal(0).default(1)),

  steps: about('training', 'optimizer updates in all; more of them continue a run', integer(1)),
  batchSize: about('training', 'images a step', integer(1).default(32)),
  microBatch: about('training', 'images a forward pass; 0 is the whole batch', integer(0).default(0)),
  sumsMicroBatches: about(
    'training',
    'add the mean losses of micro-batches up, as guided-diffusion does',
    flag().optional(),
  ),
  lr: about('training', 'learning rate', positive().default(1e-4)),
  lrSchedule: about(
    'training',
    'course of the learning rate',
    oneOf(LEARNING_RATE_KINDS).default('constant'),
  ),
  lrSteps: about('training', 'step at which the learning rate is 0; steps by default', integer(1).optional()),
  warmupSteps: about('training', 'steps of linear warm-up', integer(0).default(0)),
  weightDecay: about('training', 'AdamW weight decay', decimal(0).default(0)),
  decayAll: about('training', 'decay norms and biases too', flag().default(false)),
  beta1: about('training', 'Adam', decimal(0, 1).default(0.9)),
  beta2: about('training', 'Adam', decimal(0, 1).default(0.999)),
  clipNorm: about('training', 'greatest gradient norm; 0 clips nothing', decimal(0).default(1)),
  labelDropout: about(
    'training',
    'chance that an image is trained without its class, for sampling with --guidance-scale; 0.1 is usual',
    decimal(0, 1).optional(),
  ),
  emaRates: about('training', 'rates of the moving averages', numbers('a list of rates').default([0.9999])),
  emaWarmsUp: about('training', 'averages begin with small rates', flag().default(true)),
  precision: about('training', 'of convolutions and attention', oneOf(PRECISIONS).default('fp32')),
  lossScaleLog2: about(
    'training',
    'first loss scale of fp16, as a power of two; 20 by default',
    decimal(0, 32).optional(),
  ),
  lossScaleGrowth: about(
    'training',
    'what each step adds to that power; 0.001 by default',
    decimal(0).optional(),
  ),
  nonFinite: about(
    'training',
    'what a loss that is not finite does',
    oneOf(['stop', 'skip']).default('stop'),
  ),
  seed: about('training', 'keys weights, noise, timesteps, order and flips', integer(0).default(0)),

  run: about('run', 'folder of the run; runs/DATA-HASH of the options by default', text().optional()),
  device: about('run', 'cpu, cuda or cuda:N', device().default('cpu')),
  threads: about('run', 'threads of LibTorch; as many as cores by default', integer(1, 1024).optional()),
  kernels: about('run', 'on the CPU: trislot’s own (fast), or LibTorch’s (plain)', oneOf(KERNELS).optional()),
  keep: about('run', 'checkpoints that are kept; 0 keeps all', integer(0).default(3)),
  saveEvery: about('run', 'steps between checkpoints; 0 saves at the end only', integer(0).default(1000)),
  previewEvery: about('run', 'steps between preview pictures; 0 makes none', integer(0).default(1000)),
  previewCount: about('run', 'images of a preview', integer(1, 1024).default(16)),
  logEvery: about('run', 'steps between lines of stats.jsonl', integer(1).default(10)),
  combine: about(
    'run',
    'what predicts xStart in previews: signal, table or blue (statistics of the heads, of the run or of a file: blue=FILE), mean, gate (of a network with one), a head, or weights such as xStart=0.3,v=0.7; by default signal where all heads are trained alike, blue after a minimum or where a strategy favours heads, and the head that choose names',
    text().optional(),
  ),
  ...TIMESTEP_SHAPE,
} as const satisfies Record<string, z.ZodType>

/** Options of `run`, those of `trislot train` in camelCase; `data` and `steps` are required. `trislot train --help` says what each means. */
export type RunOptions = z.input<z.ZodObject<typeof RUN_SHAPE>>

type Given = z.output<z.ZodObject<typeof RUN_SHAPE>>

/** A run's options with presets, slots and defaults filled in, as config.json holds them. */
export type RunConfig = Given & { readonly run: string; readonly combine: string }

/** Options that may differ when a run is continued, because they change nothing of what is learned. */
export const FREE_OPTIONS: readonly (keyof RunConfig)[] = [
  'steps', 'run', 'keep', 'saveEvery', 'previewEvery', 'previewCount', 'combine',
] // biome-ignore format: one list

/** @internal What an option is where neither the caller nor a preset or recipe says it; undefined where there is no default. */
export function runDefault(option: string): unknown {
  const schema = RUN_SHAPE[option as keyof typeof RUN_SHAPE] as z.ZodType | undefined
  return schema?.safeParse(undefined).data
}

/**
 * Checks options, fills in preset and defaults, cuts slots, and names the run's folder.
 *
 * @param call - what messages of errors begin with
 * @throws RangeError that lists unknown options (with the nearest name) and wrong values
 */
export async function runConfig(asked: RunOptions, call = 'run'): Promise<RunConfig> {
  const options = withRecipe(asked)
  const given = checkOptions(call, RUN_SHAPE, options)
  const { preset: _, lossCurve: __, slotRule: ___, run, ...rest } = given
  const base = await baseOptions(given, options, call)
  const explicit = Object.entries(rest).filter(([key]) => options[key as keyof RunOptions] !== undefined)
  const config: Given = { ...rest, ...base, ...Object.fromEntries(explicit) }
  const isCount = options.attentionHeads !== undefined && options.headChannels === undefined
  if (isCount && base.headChannels !== undefined) config.headChannels = -1 // which would count before a number of heads
  config.modelChannels ??= 64
  if (config.labelDropout && config.classes === 'none') {
    throw argumentError(call, 'labelDropout', 'absent unless classes are trained', config.labelDropout)
  }
  if (config.lrSchedule !== 'constant') config.lrSteps ??= config.steps
  runLearningRate(call, config) // which checks them
  const scale = (['lossScaleLog2', 'lossScaleGrowth'] as const).find((key) => given[key] !== undefined)
  if (scale && given.precision !== 'fp16') {
    throw argumentError(call, scale, 'absent unless precision is fp16', given[scale])
  }
  if (given.sumsMicroBatches && given.microBatch === 0) {
    throw argumentError(call, 'sumsMicroBatches', 'absent without microBatch', true)
  }
  Object.assign(config, halfLifeRates(call, options, config.batchSize))
  Object.assign(config, mixOptions(call, { ...options, steps: config.steps }))
  checkMixing(call, config, config.heads ?? HEADS)
  if (config.zeroTerminalSnr && (config.choose === 'eps' || config.heads?.join() === 'eps')) {
    throw argumentError(call, 'zeroTerminalSnr', 'absent where eps alone is trained', true, {
      hint: 'where no signal is left eps says nothing of the image; train v',
    })
  }
  refuseDirection(call, config)
  const { lossCurve, slotRule } = given
  const slots = await slotsOf({ ...config, lossCurve, slotRule }, call)
  if (slots) {
    config.slots = slots.length
    config.slotEdges = [...slots.map(({ begin }) => begin), slots.at(-1)?.end as number]
    config.slotPlan ??= 'round-robin'
  }
  runWarnings(config, call)
  const ofImages = numbersOfImages(config.sampler)
  if (ofImages) config.samplerNumbers ??= ofImages(await imageHeight(given), config.sigmaData)
  const settled = settleTimesteps(call, config, trainedTimestepCount(config))
  const isChecked = settled.samplerNumbers ?? settled.weightingNumbers ?? settled.slotPlan
  if (isChecked) timestepSampler(settled) // which checks them
  const combine = settled.combine ?? defaultCombine(settled.heads ?? HEADS, settled.choose, settled.mix)
  const complete = { ...settled, combine, run: run ?? join('runs', runName(given)) }
  // Colours and classes are known when the images are read; whatever they are, the network's widths must fit.
  unetConfig(networkOptions(complete, config.channels ?? 3, config.classes === 'none' ? 0 : 2), call)
  return complete
}

/** Refuses the direction of v where no v is trained; the trainer does, too, but only once the run has begun. */
function refuseDirection(
  call: string,
  { directionWeight, loss = 'mse', choose, heads = [...HEADS] }: Given,
): void {
  if (!directionWeight) return
  const isKl = loss === 'kl' || loss === 'rescaledKl'
  const without = withoutDirection(heads, choose, isKl && `loss ${loss}`)
  if (without) throw argumentError(call, 'directionWeight', `absent ${without}`, directionWeight)
}

/** What of a run counts twice, or does nothing, and may be meant, in words; throws where it cannot be. */
export function runWarnings(config: Given, call = 'run'): string[] {
  const { slotEdges = [] } = config
  const lengths = slotEdges.slice(1).map((end, k) => end - (slotEdges[k] as number))
  const [shortest] = extent(lengths)
  const counted = doubleCounting(call, {
    ...config,
    slotsByLoss: config.slotRefresh !== undefined || lengths.some((length) => length - shortest > 1),
  })
  return [...counted, ...uselessOptions(config)]
}

/** What of a run does nothing, because what it belongs to is not given. */
function uselessOptions(config: Given): string[] {
  const { lrSchedule, lrSteps, splitSeed, heldOut, decayAll, weightDecay, choose, mix, compare } = config
  const [head, ...others] = config.heads ?? HEADS
  const choosesNothing = others.length === 0 && choose !== 'mean' && choose !== head
  const comparesNothing = mix === undefined && (choose === 'mean' || HEADS.some((head) => head === choose))
  const found: [isUseless: boolean, what: string][] = [
    [
      lrSteps !== undefined && lrSchedule === 'constant',
      `lrSteps ${lrSteps} does nothing where lrSchedule is constant`,
    ],
    [splitSeed !== undefined && heldOut === undefined, `splitSeed ${splitSeed} does nothing without heldOut`],
    [decayAll && weightDecay === 0, 'decayAll does nothing without weightDecay'],
    [choosesNothing, `choose ${choose} does nothing beside one head, ${head}`],
    [
      comparesNothing && compare !== 'own',
      `compare ${compare} does nothing where choose is ${choose}, which compares no heads`,
    ],
  ]
  return found.flatMap(([isUseless, what]) => (isUseless ? [what] : []))
}

/** Options of the network among those of a run. */
export function networkOptions(config: RunConfig, imageChannels: number, classCount: number): UNetOptions {
  const chosen = NETWORK_KEYS.filter((key) => config[key] !== undefined).map((key) => [key, config[key]])
  return {
    ...Object.fromEntries(chosen),
    ...{ imageChannels, classCount },
    ...(config.labelDropout && { nullClass: true }),
    ...(config.superResolution !== undefined && { lowRes: true }),
    ...(config.targetAngles && { angleSpan: config.rescalesTimesteps ? 1000 : config.timestepCount }),
  } as UNetOptions
}

/** What a preset or the network of `init` fills in. */
async function baseOptions(given: Given, options: RunOptions, call: string): Promise<Partial<Given>> {
  const { preset, init, initConfig, initPart, initHeads } = given
  if (init === undefined) {
    const stray = Object.entries({ initConfig, initPart, initHeads }).find(([, value]) => value !== undefined)
    if (stray) throw argumentError(call, stray[0], 'absent without init', stray[1])
    return preset === undefined ? {} : presetOptions(preset)
  }
  if (preset !== undefined) throw argumentError(call, 'preset', 'absent when init is given', preset)
  const run = given.run ?? join('runs', runName(given))
  return initOptions({ ...given, run }, options, call)
}

/** What `openDataset` is told of a run's images. */
export function datasetOptions({
  size,
  channels,
  crop,
  badFiles,
  classes,
}: Pick<Given, 'size' | 'channels' | 'crop' | 'badFiles' | 'classes'>): OpenOptions {
  return {
    ...(size !== undefined && { size }),
    ...(channels !== undefined && { channels }),
    ...(crop !== undefined && { crop }),
    ...(badFiles !== undefined && { badFiles }),
    ...((classes === 'folder' || classes === 'prefix') && { labels: classes }),
  } as OpenOptions
}

async function imageHeight(given: Given): Promise<number> {
  return given.size ?? (await openDataset(given.data, datasetOptions(given))).height
}

async function slotsOf(given: Given, call: string): Promise<Slot[] | undefined> {
  const { sampler, slots, slotEdges, slotPlan, slotRule, slotRefresh, slotRefreshRule, lossCurve } = given
  const timestepCount = trainedTimestepCount(given)
  const slotCount = slots ?? Math.min(10, timestepCount)
  if (sampler !== 'slots') {
    const stray = Object.entries({
      slots,
      slotEdges,
      slotPlan,
      slotRule,
      slotRefresh,
      slotRefreshRule,
      lossCurve,
    }).find(([, value]) => value !== undefined)
    if (stray) throw argumentError(call, stray[0], 'absent unless sampler is slots', stray[1])
    return undefined
  }
  if (slotRefreshRule !== undefined && slotRefresh === undefined)
    throw argumentError(call, 'slotRefreshRule', 'absent without slotRefresh', slotRefreshRule)
  const both = slotRule !== undefined && Object.entries({ slotEdges, lossCurve }).find(([, value]) => value)
  if (both) throw argumentError(call, 'slotRule', `absent when ${both[0]} is given`, slotRule)
  if (slotEdges) {
    if (lossCurve) throw argumentError(call, 'lossCurve', 'absent when slotEdges are given', lossCurve)
    const ascends = slotEdges.every(
      (edge, k) => Number.isInteger(edge) && (k === 0 || edge > (slotEdges[k - 1] as number)),
    )
    if (!ascends || slotEdges.length < 2 || slotEdges[0] !== 0 || slotEdges.at(-1) !== timestepCount) {
      throw argumentError(call, 'slotEdges', `ascending timesteps from 0 to ${timestepCount}`, slotEdges)
    }
    if (slots !== undefined && slots !== slotEdges.length - 1) {
      throw argumentError(call, 'slots', `${slotEdges.length - 1}, as many as slotEdges has`, slots)
    }
    return slotsFromEdges(slotEdges)
  }
  if (slotRule === 'gaussian') {
    const alphaBar = runAlphaBar(given)
    const withinReach = clippedSnr(call, alphaBar).map((snr) => snr / (1 + snr)) // with noise and signal everywhere
    const size = await imageHeight(given)
    return partitionByLoss(gaussianEpsLoss({ size, alphaBar: withinReach }), slotCount)
  }
  if (lossCurve) return partitionByLoss(await readLossCurve(lossCurve, timestepCount), slotCount)
  return ofArgument('run', 'slots', `a number of slots of ${timestepCount} timesteps`, slotCount, () =>
    partitionEvenly(timestepCount, slotCount),
  )
}

/** @internal `digits-1a2b3c4d`: the same options give the same folder, so that the same command continues its run. */
export function runName(
  given: { readonly data: string },
  freeOptions: readonly string[] = FREE_OPTIONS,
): string {
  const free = new Set<string>(freeOptions)
  const entries = Object.entries(given).filter(([key, value]) => value !== undefined && !free.has(key))
  const hash = createHash('sha256').update(JSON.stringify(entries.sort(([a], [b]) => (a < b ? -1 : 1))))
  const data = basename(given.data)
    .replaceAll(/[^\w.-]+/g, '-')
    .replace(/\.\w+$/, '')
  return `${data || 'data'}-${hash.digest('hex').slice(0, 8)}`
}
