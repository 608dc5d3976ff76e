import { readFile } from 'node:fs/promises'
import { checkInteger, checkKnownOptions, checkOneOf, isObject, show } from '../check.ts'
import { DataError } from '../errors.ts'
import {
  networkFromRaw,
  optionsFromGuidedDiffusion,
  type RawUNetOptions,
  type UNetOptions,
} from '../model/unet.ts'
import { SCHEDULE_NAMES, type ScheduleName } from '../schedule/noise-schedule.ts'

/** What a configuration says of a network; whatever it leaves out must come from elsewhere. */
export interface ConfigFile {
  readonly network?: Partial<UNetOptions>
  readonly schedule?: ScheduleName
  readonly timestepCount?: number
  readonly variance?: 'learned' | 'learnedRange'
  readonly rescalesTimesteps?: boolean
  readonly imageSize?: number
  /** Of super-resolution. */
  readonly lowResFactor?: number
  /** Of our own checkpoints: what a schedule has besides name and length. */
  readonly process?: { readonly zeroTerminalSnr: boolean; readonly betas?: readonly number[] }
}

/** guided-diffusion's options beside those of the network's constructor. */
const DIFFUSION = [
  'noise_schedule',
  'diffusion_steps',
  'predict_xstart',
  'rescale_timesteps',
  'learn_sigma',
  'large_size',
  'small_size',
] as const

/**
 * Reads the JSON that describes a network: as `trislot convert` writes it, a checkpoint's state.json, or guided-diffusion's
 * constructor options (alone, or as `config` beside `constructor`), to which `noise_schedule`, `diffusion_steps`,
 * `predict_xstart`, `rescale_timesteps`, and for super-resolution `large_size` and `small_size` may be added.
 *
 * @throws DataError for a file that is not such JSON; RangeError, TypeError for an option that is not one
 */
export async function readConfigFile(file: string): Promise<ConfigFile> {
  const call = 'readConfigFile'
  const json = await readJson(call, file)
  if ('format' in json && 'trainer' in json && 'network' in json) return fromState(json)
  if ('network' in json) return fromDescription(call, json)
  const raw = ('config' in json ? json.config : json) as Record<string, unknown>
  const isSuperRes = Object.hasOwn(json, 'constructor') && (json.constructor as unknown) === 'SuperResModel'
  return fromRaw(call, isSuperRes ? { ...raw, superres: true } : raw)
}

/** A JSON object from a file; so is each part that a configuration has in it. */
export async function readJson(call: string, file: string): Promise<Record<string, unknown>> {
  const content = await readFile(file, 'utf8').catch((cause: NodeJS.ErrnoException) => {
    throw new DataError(`${call}: expected ${file} to be readable, got ${cause.code}`, file, { cause })
  })
  let json: unknown
  try {
    json = JSON.parse(content)
  } catch (cause) {
    throw new DataError(`${call}: expected ${file} to be JSON, got ${(cause as Error).message}`, file, {
      cause,
    })
  }
  if (!isObject(json)) {
    throw new DataError(`${call}: expected ${file} to hold the options of a network, got ${show(json)}`, file)
  }
  for (const key of ['network', 'trainer', 'schedule', 'config']) {
    if (key in json && !isObject(json[key])) {
      throw new DataError(`${call}: expected ${key} of ${file} to be an object, got ${show(json[key])}`, file)
    }
  }
  return json
}

interface StoredSchedule {
  readonly name?: ScheduleName
  readonly timestepCount?: number
  readonly zeroTerminalSnr?: boolean
  readonly betas?: readonly number[]
}

function fromDescription(call: string, json: Record<string, unknown>): ConfigFile {
  const known = [
    'network',
    'schedule',
    'variance',
    'rescalesTimesteps',
    'imageSize',
    'lowResFactor',
    'recipe',
  ]
  checkKnownOptions(call, json, known)
  const { network, variance, rescalesTimesteps, imageSize, lowResFactor } = json as ConfigFile
  const schedule = (json.schedule ?? {}) as StoredSchedule
  if (schedule.name !== undefined) checkOneOf(call, 'schedule.name', schedule.name, SCHEDULE_NAMES)
  if (variance !== undefined) checkOneOf(call, 'variance', variance, ['learned', 'learnedRange'])
  if (lowResFactor !== undefined) checkInteger(call, 'lowResFactor', lowResFactor, 2)
  return {
    ...(network && { network }),
    ...processOf(schedule),
    ...(variance && { variance }),
    ...(rescalesTimesteps !== undefined && { rescalesTimesteps }),
    ...(imageSize !== undefined && { imageSize }),
    ...(lowResFactor !== undefined && { lowResFactor }),
  }
}

function fromState(json: Record<string, unknown>): ConfigFile {
  const { network, trainer, schedule, extra } = json as {
    network: UNetOptions
    trainer: { readonly variance?: string; readonly rescalesTimesteps?: boolean }
    schedule: StoredSchedule
    extra?: {
      readonly images?: { readonly height: number; readonly width: number; readonly lowResFactor?: number }
    } | null
  }
  const images = extra?.images
  return {
    network,
    ...processOf(schedule),
    variance: trainer.variance === 'learned' ? 'learned' : 'learnedRange',
    rescalesTimesteps: trainer.rescalesTimesteps ?? false,
    ...(images && images.height === images.width && { imageSize: images.height }),
    ...(images?.lowResFactor !== undefined && { lowResFactor: images.lowResFactor }),
  }
}

function processOf({ name, timestepCount, zeroTerminalSnr = false, betas }: StoredSchedule): ConfigFile {
  return {
    ...(name && { schedule: name }),
    ...(timestepCount !== undefined && { timestepCount }),
    ...((zeroTerminalSnr || betas) && { process: { zeroTerminalSnr, ...(betas && { betas }) } }),
  }
}

function fromRaw(call: string, options: Record<string, unknown>): ConfigFile {
  const raw = { ...options }
  for (const key of DIFFUSION) delete raw[key]
  const { noise_schedule, diffusion_steps, predict_xstart, rescale_timesteps } = options as {
    noise_schedule?: ScheduleName
    diffusion_steps?: number
    predict_xstart?: boolean
    rescale_timesteps?: boolean
  }
  const { small_size, large_size = raw.image_size } = options as { small_size?: number; large_size?: number }
  if (noise_schedule !== undefined) checkOneOf(call, 'noise_schedule', noise_schedule, SCHEDULE_NAMES)
  const lowResFactor = small_size === undefined ? undefined : Number(large_size) / small_size
  if (lowResFactor !== undefined) checkInteger(call, 'large_size / small_size', lowResFactor, 2)
  const network = raw as unknown as RawUNetOptions
  return {
    // What the output means is known only where the file says it.
    network:
      predict_xstart === undefined
        ? networkFromRaw(network, call)
        : optionsFromGuidedDiffusion(network, [predict_xstart ? 'xStart' : 'eps']),
    // The original's learned variance is always a range.
    variance: 'learnedRange',
    ...(noise_schedule && { schedule: noise_schedule }),
    ...(diffusion_steps !== undefined && { timestepCount: diffusion_steps }),
    ...(rescale_timesteps !== undefined && { rescalesTimesteps: rescale_timesteps }),
    ...(large_size !== undefined && { imageSize: large_size as number }),
    ...(lowResFactor !== undefined && { lowResFactor }),
  }
}
