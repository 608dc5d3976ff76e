import { createHash } from 'node:crypto'
import { basename, dirname, extname } from 'node:path'
import type { z } from 'zod'
import { argumentError } from '../check.ts'
import { bytesOf, type NpyArray } from '../data/npy.ts'
import { isPictureFolder } from '../data/open.ts'
import type { Device } from '../device.ts'
import type { HeadStatistics } from '../mixing/head-statistics.ts'
import type { MeasuredNetwork } from '../mixing/head-statistics-file.ts'
import type { UNet } from '../model/unet.ts'
import type { VarianceType } from '../native.ts'
import { integer, oneOf, text } from '../options.ts'
import { checkOpened, defaultCombine, fewImagesWarning, openCombine } from '../sampling/combine.ts'
import type { Combine } from '../sampling/denoiser.ts'
import type { NoiseSchedule } from '../schedule/noise-schedule.ts'
import {
  type CheckpointState,
  headStatisticsOf,
  latestCheckpoint,
  loadForSampling,
  readCheckpoint,
  STATE_FILE,
  sha256,
  type WeightsChoice,
} from '../training/checkpoint.ts'
import type { RunImages } from '../training/run.ts'
import type { RunConfig } from '../training/run-config.ts'
import { trainedVariance } from '../training/trainer.ts'
import { loadModel } from '../weights/load-model.ts'
import { describeOptions, givenModelOptions, type ModelValues, partNote } from './model-options.ts'
import { kebab } from './options.ts'
import { asUsage, UsageError } from './usage.ts'

const about = <T extends z.ZodType>(description: string, schema: T): T => schema.meta({ description }) as T

/** A network to draw from or to measure, wherever it comes from. */
export interface SamplingNetwork {
  readonly unet: UNet
  readonly schedule: NoiseSchedule
  /** What its images are like, where that is known. */
  readonly images?: Partial<RunImages>
  readonly rescalesTimesteps: boolean
  /** Of ancestral steps and bounds. */
  readonly variance: VarianceType
  /** For file names. */
  readonly name: string
  /** Where it was found. */
  readonly path: string
  /** A hash of everything that decides its predictions; reads the whole of a file of weights. */
  readonly identity: () => Promise<string>
  /** Of its heads, where a run has kept them. */
  readonly statistics?: HeadStatistics | undefined
  /** How its heads are combined unless `--combine` says otherwise. */
  readonly combine: string
  /** Of one of our own checkpoints. */
  readonly state?: CheckpointState
}

/** Whose network it is. */
export const SOURCE_SHAPE = {
  run: about('folder of a run, whose newest checkpoint is used', text().optional()),
  checkpoint: about('folder of a checkpoint of a run', text().optional()),
  weights: about(
    'average (ema), weights themselves (raw), or the rate of an average; without --run and --checkpoint a .pt or .safetensors file',
    text().default('ema'),
  ),
} satisfies Record<string, z.ZodType>

/** Options that name images. */
export const IMAGES_SHAPE = {
  data: about('images, as for train; those of the run by default', text().optional()),
  size: about(
    'height and width to which the pictures of data are cropped; those of the network’s images by default, where they are known',
    integer(1).optional(),
  ),
  classes: about(
    'classes of data: its own, or of folder names or file names; as the run has them by default, where data has such, else none',
    oneOf(['none', 'data', 'folder', 'prefix']).optional(),
  ),
  lowResFactor: about(
    'of a super-resolution network: how many times smaller the images are that it makes larger, which are made of data by area; as it was trained by default, where that is known',
    integer(2).optional(),
  ),
} satisfies Record<string, z.ZodType>

interface Where extends ModelValues {
  readonly lowRes?: string | undefined
  readonly run?: string | undefined
  readonly checkpoint?: string | undefined
  readonly weights: string
  readonly device: Device
}

/**
 * The network that a command's options name: a run's newest checkpoint (`--run`), a checkpoint (`--checkpoint`), or a file of
 * weights (`--weights FILE`).
 */
export async function networkForSampling(
  call: string,
  options: Where,
  given: Record<string, unknown>,
  line: (text: string) => void,
): Promise<SamplingNetwork> {
  const { run, checkpoint, weights, device } = options
  if (run !== undefined && checkpoint !== undefined) {
    throw new UsageError(argumentError(call, 'one of --run and --checkpoint', 'given', 'both').message)
  }
  if (run === undefined && checkpoint === undefined) {
    if (given.weights === undefined) {
      const what = 'one of --run, --checkpoint and --weights FILE'
      throw new UsageError(`${call}: expected ${what} to be given, got none`)
    }
    return fromFile(call, weights, options, line)
  }
  const stray = givenModelOptions(given).find((option) => option !== 'variance')
  if (stray !== undefined) {
    const what = 'absent unless --weights names a file'
    throw new UsageError(argumentError(call, `--${kebab(stray)}`, what, given[stray]).message)
  }
  const ofData = (['size', 'classes', 'lowResFactor'] as const).find((option) => given[option] !== undefined)
  if (ofData !== undefined && given.data === undefined) {
    const what = 'absent unless --data is given'
    throw new UsageError(argumentError(call, `--${kebab(ofData)}`, what, given[ofData]).message)
  }
  const folder = checkpoint ?? (await newest(call, run as string, line))
  const choice = weightsChoice(call, weights)
  const loaded = await loadForSampling(folder, { weights: choice, device })
  const { state } = loaded
  const images = (state.extra as { images?: RunImages } | null)?.images
  return {
    ...loaded,
    ...(images && { images }),
    rescalesTimesteps: state.trainer.rescalesTimesteps ?? false,
    ...headsOf(state, loaded.unet),
    variance: options.variance ?? trainedVariance(state.trainer, loaded.unet),
    name: `step-${state.step}`,
    path: folder,
    identity: async () => hashOf({ files: state.files, weights: choice }),
  }
}

/** What a checkpoint knows of its heads, and how they are read. */
function headsOf(state: CheckpointState, { layout }: UNet): Pick<SamplingNetwork, 'statistics' | 'combine'> {
  const { run } = (state.extra ?? {}) as { run?: RunConfig }
  const statistics = headStatisticsOf(state)
  const words = defaultCombine(layout.heads, state.trainer.loss.choose, run?.mix)
  return { statistics, combine: words === 'blue' && !statistics ? 'signal' : words }
}

async function fromFile(
  call: string,
  path: string,
  options: Where,
  line: (text: string) => void,
): Promise<SamplingNetwork> {
  const { unet, schedule, model } = await asUsage(() =>
    loadModel(path, { ...describeOptions(options), device: options.device }, call),
  )
  const note = partNote(path, model.contents)
  if (note) line(note)
  line(`${path}: ${unet.parameterCount} weights, configured by ${model.source}`)
  const { imageSize, lowResFactor, network, variance, rescalesTimesteps } = model
  const isOwn = basename(model.source) === STATE_FILE
  return {
    unet,
    schedule,
    ...(isOwn ? headsOf(await readCheckpoint(dirname(model.source)), unet) : { combine: 'signal' }),
    images: {
      ...(imageSize !== undefined && { height: imageSize, width: imageSize }),
      ...(lowResFactor !== undefined && { lowResFactor }),
    },
    rescalesTimesteps,
    variance: options.variance ?? (unet.layout.learnsVariance ? variance : 'fixedLarge'),
    name: basename(path, extname(path)),
    path,
    identity: async () => {
      const { part } = model.contents
      return hashOf({
        file: await sha256(path),
        part,
        network,
        process: model.schedule,
        variance,
        rescalesTimesteps,
      })
    },
  }
}

/** `--combine` of commands that read a network. */
export const COMBINE_SHAPE = {
  combine: about(
    'what predicts xStart: signal, table or blue (statistics of the heads, of the checkpoint or of a file: blue=FILE), mean, gate (of a network with one), a head, or weights such as xStart=0.3,v=0.7; by default signal where all heads were trained alike, blue after a minimum or where a strategy favours heads, and the head that --choose names',
    text().optional(),
  ),
} satisfies Record<string, z.ZodType>

/** What predicts xStart, from words of `--combine`; says so when a file of statistics was measured on another network. */
export async function combineFor(
  words: string,
  { unet, schedule, statistics, path, identity }: SamplingNetwork,
  line: (text: string) => void,
): Promise<Combine> {
  const onRead = async (file: string, read: HeadStatistics, measured?: MeasuredNetwork) => {
    const few = fewImagesWarning(file, read)
    if (few) line(few)
    if (measured === undefined || measured.identity === (await identity())) return
    line(
      `warning: ${file} was measured on other weights (${measured.path}); its choice of heads may not suit those of ${path}`,
    )
  }
  if (statistics && (words === 'table' || words === 'blue')) {
    const advice = 'train for longer, or measure them (trislot measure --head-statistics FILE)'
    const few = fewImagesWarning(path, statistics, advice)
    if (few) line(few)
  }
  return asUsage(async () => {
    const { heads, gate = false } = unet.layout
    const combine = await openCombine(words, schedule, heads, { statistics, path, onRead })
    checkOpened(combine, heads, gate)
    return combine
  })
}

/** The sha256 of a description, and of arrays by their bytes. */
export function hashOf(description: object, ...arrays: readonly NpyArray['data'][]): string {
  const hash = createHash('sha256').update(JSON.stringify(description))
  for (const array of arrays) hash.update(bytesOf(array))
  return hash.digest('hex')
}

/** Options of the images that a network is measured on. */
export type ImagesToMeasure = RunConfig & {
  /** Where they are those of the run: what they were when the checkpoint at `path` was saved. */
  readonly saved?: { readonly call: string; readonly path: string; readonly images: RunImages }
  /** Where they are not those of the run: how much smaller the images are that a super-resolution network makes larger. */
  readonly lowRes?: { readonly call: string; readonly factor: number }
}

/** Where images come from to measure a network on: the run's own options, or those of the command line. */
export async function imagesFor(
  call: string,
  options: z.output<z.ZodObject<typeof IMAGES_SHAPE>>,
  network: SamplingNetwork,
): Promise<ImagesToMeasure> {
  const { data, size, classes } = options
  const { path, state } = network
  const { run, images } = (state?.extra ?? {}) as { run?: RunConfig; images?: RunImages }
  if (run && (data === undefined || data === run.data)) {
    const factor = options.lowResFactor
    return checkedImages(call, network, factor, {
      ...run,
      ...(size !== undefined && { size }),
      ...(classes !== undefined && { classes }),
      ...(factor !== undefined && { superResolution: undefined, lowRes: { call, factor } }),
      ...(images && { saved: { call, path, images } }),
    })
  }
  if (data !== undefined) {
    const factor =
      options.lowResFactor ?? (isSuperResolution(network) ? network.images?.lowResFactor : undefined)
    return checkedImages(call, network, options.lowResFactor, {
      ...(await otherImages({ ...options, data }, network, run)),
      ...(factor !== undefined && { lowRes: { call, factor } }),
    })
  }
  const whose = state ? `for ${path}, which is not of trislot train` : 'with a file of weights'
  const classesToo = state ? '; --classes too where its network has classes' : ''
  throw new UsageError(`${call}: expected --data to be given ${whose}, got none${classesToo}`)
}

function isSuperResolution({ unet }: SamplingNetwork): boolean {
  return unet.config?.lowRes ?? false
}

/** Images that lack what the network takes beside them, or have what it does not take, are refused before they are opened. */
function checkedImages(
  call: string,
  network: SamplingNetwork,
  given: number | undefined,
  images: ImagesToMeasure,
): ImagesToMeasure {
  const { unet, path } = network
  if (isSuperResolution(network) && images.lowRes === undefined && images.superResolution === undefined) {
    const why = `because ${path} makes images larger and does not say how many times`
    throw new UsageError(`${call}: expected --low-res-factor to be given, ${why}, got none`)
  }
  if (!isSuperResolution(network) && given !== undefined) {
    const what = 'absent, the network makes no images larger'
    throw new UsageError(argumentError(call, '--low-res-factor', what, given).message)
  }
  const { classCount = 0 } = unet.config ?? {}
  if (classCount > 0 && images.classes === 'none') {
    const what = `data, folder or prefix, because the network has ${classCount} classes`
    throw new UsageError(argumentError(call, '--classes', what, images.classes).message)
  }
  return images
}

/** Options of images that are not the run's: pictures become what the network takes, and none is known to be held out. */
async function otherImages(
  { data, size, classes }: { data: string } & z.output<z.ZodObject<typeof IMAGES_SHAPE>>,
  { unet, images }: SamplingNetwork,
  run: RunConfig | undefined,
): Promise<RunConfig> {
  const isFolder = await isPictureFolder(data)
  const height = images?.height
  // What has a size of its own keeps it; emoji can be smaller than their 64 pixels.
  const isCropped = isFolder || (data === 'emoji' && height !== undefined && height <= 64)
  const hasSuchClasses = run && (run.classes === 'folder' || run.classes === 'prefix') === isFolder
  const { crop, badFiles, seed } = run ?? {}
  return {
    data,
    size: size ?? (isCropped ? height : undefined),
    classes: classes ?? (hasSuchClasses ? run.classes : 'none'),
    ...(isFolder && { channels: unet.layout.imageChannels, crop, badFiles }),
    seed,
  } as RunConfig
}

async function newest(call: string, run: string, line: (text: string) => void): Promise<string> {
  const found = await latestCheckpoint(run, { onUnreadable: (_, error) => line(`warning: ${error.message}`) })
  if (!found) throw new Error(`${call}: expected a checkpoint in ${run}, got none; train first`)
  return found
}

function weightsChoice(call: string, weights: string): WeightsChoice {
  if (weights === 'ema' || weights === 'raw') return weights
  const rate = Number(weights)
  if (weights.trim() !== '' && rate >= 0 && rate <= 1) return rate
  throw new UsageError(
    argumentError(call, '--weights', 'ema, raw or the rate of an average', weights).message,
  )
}
