// A checkpoint is a folder, written beside its final name, made durable, and only then renamed: it is there whole or
// not at all, and a failed save leaves the ones before it alone.
import { createHash, randomUUID } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { open, readdir, readFile, rename, rm, stat } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import { argumentError, checkInteger, isObject, show } from '../check.ts'
import { type Device, runtimeInfo } from '../device.ts'
import { CheckpointError } from '../errors.ts'
import { isFolder, makeFolder, writeDurably } from '../folder.ts'
import { HeadStatistics } from '../mixing/head-statistics.ts'
import type { HeadPolicy } from '../mixing/policy.ts'
import { UNet, type UNetConfig } from '../model/unet.ts'
import { NoiseSchedule } from '../schedule/noise-schedule.ts'
import { packageVersion } from '../setup/paths.ts'
import type { JsonValue, TimestepSampler } from '../timesteps/sampler.ts'
import { Trainer, type TrainerConfig } from './trainer.ts'

/** Version of the layout below; another one is refused. */
const FORMAT = 1
/** @internal What a checkpoint is described in. */
export const STATE_FILE = 'state.json'
const STEP_FOLDER = /^step-(\d{8,})$/
/** A file that is not there, or not where a file can be. Whatever else stops a read may pass: too many open files, rights, a disk. */
const ABSENT = ['ENOENT', 'ENOTDIR', 'EISDIR', 'ENAMETOOLONG', 'ERR_INVALID_ARG_VALUE']

/** A file of a checkpoint. */
export interface CheckpointFile {
  readonly name: string
  readonly bytes: number
  readonly sha256: string
}

/** What state.json of a checkpoint holds; the tensors lie beside it in safetensors files. */
export interface CheckpointState<Network = UNetConfig, Training = TrainerConfig> {
  readonly format: number
  /** What kind of network it is; absent for a UNet. */
  readonly kind?: 'classifier'
  /** Steps done, which is also the number of the next one. */
  readonly step: number
  readonly imagesSeen: number
  readonly network: Network
  readonly schedule: {
    readonly name: string
    readonly timestepCount: number
    readonly zeroTerminalSnr: boolean
    /** [T], exact; they decide when a named schedule should ever differ. */
    readonly betas: readonly number[]
    /** Where a respaced process was trained: its timesteps among the original's. */
    readonly timestepMap?: readonly number[]
  }
  readonly trainer: Training
  /** What the timestep sampler has learned; null for samplers that learn nothing. */
  readonly sampler: { readonly name: string; readonly state: JsonValue } | null
  /** What the policy of the heads has learned, and the statistics that it keeps; absent without one. */
  readonly mixing?: { readonly name: string; readonly state: JsonValue }
  /** Steps skipped in a row until then; absent for none. */
  readonly skips?: number
  /** Whatever the caller wants to find again. */
  readonly extra: JsonValue
  readonly versions: { readonly trislot: string; readonly libtorch: string; readonly node: string }
  /** Threads of LibTorch: results differ in their last bits from one count to another. */
  readonly threads: number
  readonly files: readonly CheckpointFile[]
}

/** What is kept beside the weights. */
export interface SaveOptions {
  /** Its name and state are kept with the weights. */
  readonly sampler?: TimestepSampler
  /** Its name and state, with statistics of the heads (`withStatistics`), are kept too. */
  readonly mixing?: HeadPolicy
  readonly imagesSeen?: number
  /** JSON of your own, found again as `state.extra`. */
  readonly extra?: JsonValue
  /** Checkpoints to keep, the new one among them; 0, all of them, by default. */
  readonly keep?: number
}

/**
 * Saves a trainer as `<run>/checkpoints/step-00001000`: weights, averages, optimizer, sampler, configuration, versions.
 *
 * The files are written into a temporary sibling, flushed to the disk with state.json last, and renamed, so that the
 * checkpoint is there whole or not at all. Left-over temporaries of a killed process are removed.
 *
 * @param run - the folder of the run; made when it is not there
 * @returns the checkpoint's folder
 * @throws CheckpointError when the folder cannot be written or the disk is full; older checkpoints are untouched then
 */
export async function saveCheckpoint(
  trainer: Trainer,
  run: string,
  options: SaveOptions = {},
): Promise<string> {
  const call = 'saveCheckpoint'
  const { unet } = trainer
  if (!unet.config) throw argumentError(call, 'trainer.unet', 'made by UNet.create', unet, { kind: 'type' })
  return writeCheckpoint(call, trainer, run, { network: unet.config, trainer: trainer.config }, options)
}

/** @internal Writes the checkpoint of any trainer; `what` says which network it is and how it is trained. */
export async function writeCheckpoint(
  call: string,
  trainer: {
    readonly step: number
    readonly skips: number
    readonly schedule: NoiseSchedule
    saveTensors(folder: string): Promise<void>
  },
  run: string,
  what: Pick<CheckpointState<object, object>, 'kind' | 'network' | 'trainer'>,
  options: SaveOptions,
): Promise<string> {
  const { sampler, mixing, imagesSeen = 0, extra = null, keep = 0 } = options
  checkInteger(call, 'keep', keep, 0)
  checkInteger(call, 'imagesSeen', imagesSeen, 0)
  const { step, skips, schedule } = trainer
  const folder = join(run, 'checkpoints', `step-${String(step).padStart(8, '0')}`)
  const partial = join(run, 'checkpoints', `.partial-${basename(folder)}-${randomUUID()}`)
  try {
    await removePartials(run)
    const isNew = !(await stat(dirname(folder)).catch(() => undefined))
    await makeFolder(partial)
    await trainer.saveTensors(partial)
    const info = await runtimeInfo()
    const state: CheckpointState<object, object> = {
      format: FORMAT,
      step,
      imagesSeen,
      ...what,
      schedule: describeSchedule(schedule),
      sampler: sampler ? { name: sampler.name, state: sampler.state?.() ?? null } : null,
      ...(mixing && { mixing: { name: mixing.name, state: mixing.state?.() ?? null } }),
      ...(skips > 0 && { skips }),
      extra,
      versions: {
        trislot: packageVersion(),
        libtorch: info.libtorch ?? 'unknown',
        node: process.version,
      },
      threads: Number(info.threads),
      files: await describeFiles(partial),
    }
    await writeDurably(join(partial, STATE_FILE), `${JSON.stringify(state, undefined, 2)}\n`)
    await syncFolder(partial)
    await putInPlace(partial, folder)
    await syncFolder(dirname(folder))
    if (isNew) await syncFolder(run) // which has checkpoints/ now
  } catch (cause) {
    await rm(partial, { recursive: true, force: true }).catch(() => {})
    const { message } = cause as Error
    throw new CheckpointError(
      `${call}: expected ${folder} to be written, got ${message}; the checkpoints before it are untouched`,
      folder,
      {},
      { cause },
    )
  }
  if (keep > 0) await removeOldest(run, folder, keep)
  return folder
}

/** The checkpoints of a run, by step, ascending; whether they can be read is not looked at. */
export async function listCheckpoints(run: string): Promise<string[]> {
  const folder = join(run, 'checkpoints')
  const names = await readdir(folder).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return []
    throw new CheckpointError(`listCheckpoints: expected ${folder} to be a folder, got ${error.code}`, folder)
  })
  const steps = names.flatMap((name) => STEP_FOLDER.exec(name)?.[1] ?? [])
  return steps.sort((a, b) => Number(a) - Number(b)).map((step) => join(folder, `step-${step}`))
}

/**
 * The newest checkpoint of a run that is whole; every byte of it is checked.
 *
 * @param options.onUnreadable - told of each newer one that is passed over, and why
 * @returns undefined when the run has no checkpoint at all
 * @throws CheckpointError when there are checkpoints and none is whole, or when one cannot be looked at now, such as for
 * too many open files or missing rights
 */
export async function latestCheckpoint(
  run: string,
  options: { readonly onUnreadable?: (folder: string, error: CheckpointError) => void } = {},
): Promise<string | undefined> {
  const folders = await listCheckpoints(run)
  let last: CheckpointError | undefined
  for (const folder of folders.reverse()) {
    try {
      await readCheckpoint(folder)
      return folder
    } catch (error) {
      if (!(error instanceof CheckpointError) || mayPass(error.cause)) throw error
      last = error
      options.onUnreadable?.(folder, error)
    }
  }
  if (!last) return undefined
  throw new CheckpointError(
    `latestCheckpoint: expected one of ${folders.length} checkpoints in ${run} to be readable, got none; ${last.message}`,
    run,
    {},
    { cause: last },
  )
}

/**
 * Reads state.json of a checkpoint and checks size and sha256 of every file it lists.
 *
 * @throws CheckpointError that lists everything that is wrong
 */
export async function readCheckpoint(folder: string): Promise<CheckpointState> {
  const call = 'readCheckpoint'
  const file = join(folder, STATE_FILE)
  const text = await readFile(file, 'utf8').catch((cause: NodeJS.ErrnoException) => {
    throw new CheckpointError(
      `${call}: expected ${file} to be readable, got ${cause.code}${cause.code === 'ENOENT' ? '; a checkpoint is a folder in checkpoints/ of a run' : ''}`,
      file,
      {},
      { cause },
    )
  })
  let state: CheckpointState
  try {
    state = JSON.parse(text) as CheckpointState
  } catch (cause) {
    throw new CheckpointError(
      `${call}: expected ${file} to be JSON, got ${(cause as Error).message}`,
      file,
      {},
      { cause },
    )
  }
  if (state?.format !== FORMAT) {
    throw new CheckpointError(
      `${call}: expected ${file} to have format ${FORMAT}, got ${show(state?.format)}`,
      file,
    )
  }
  const wanted = [
    'step',
    'imagesSeen',
    'network',
    'schedule',
    'trainer',
    'files',
    'threads',
    'versions',
  ] as const
  const absent = wanted.filter((key) => state[key] === undefined || state[key] === null)
  if (absent.length > 0) {
    throw new CheckpointError(`${call}: expected ${file} to hold ${absent.join(', ')}, got none`, file, {
      missing: absent,
    })
  }
  const malformed = malformedParts(state)
  if (malformed.length > 0) {
    throw new CheckpointError(`${call}: expected ${file} to hold ${malformed.join('; ')}`, file)
  }
  const isListed = (entry: { readonly name?: unknown } | null) => typeof entry?.name === 'string'
  if (!Array.isArray(state.files) || !state.files.every(isListed)) {
    throw new CheckpointError(
      `${call}: expected files of ${file} to be a list of files with their names, got ${show(state.files)}`,
      file,
    )
  }
  const problems = (await Promise.all(state.files.map((entry) => problemOf(folder, entry)))).flat()
  if (problems.length > 0) {
    throw new CheckpointError(
      `${call}: expected ${folder} to hold the files that its state.json lists, got ${problems.join(', ')}`,
      folder,
    )
  }
  return state
}

/** What of state.json is of another kind than it should be, in words. */
function malformedParts(state: CheckpointState): string[] {
  const { kind, network, trainer, schedule, versions, step, imagesSeen, threads, skips = 0 } = state
  const unlike = (what: string, isRight: (value: unknown) => boolean, parts: Record<string, unknown>) =>
    Object.entries(parts).flatMap(([name, part]) =>
      isRight(part) ? [] : [`${name} as ${what}, got ${show(part)}`],
    )
  return [
    ...unlike('an object', isObject, { network, trainer, schedule, versions }),
    ...unlike('an integer >= 0', isCount, { step, imagesSeen, threads, skips }),
    ...unlike('a list of numbers', isNumbers, {
      'schedule.betas': schedule.betas,
      ...(kind === undefined && { 'trainer.emaRates': trainer.emaRates }),
    }),
  ]
}

function isCount(value: unknown): boolean {
  return Number.isSafeInteger(value) && (value as number) >= 0
}

function isNumbers(value: unknown): boolean {
  return Array.isArray(value) && value.every((number) => typeof number === 'number')
}

/** `readCheckpoint` for callers that need a UNet. */
async function readUNetCheckpoint(call: string, folder: string): Promise<CheckpointState> {
  const state = await readCheckpoint(folder)
  if (state.kind === undefined) return state
  throw new CheckpointError(
    `${call}: expected ${folder} to hold a UNet, got a ${state.kind}`,
    join(folder, STATE_FILE),
  )
}

/** A training state that can go on. */
export interface LoadedCheckpoint {
  readonly unet: UNet
  readonly schedule: NoiseSchedule
  readonly trainer: Trainer
  readonly state: CheckpointState
}

/**
 * Builds network, schedule and trainer of a checkpoint and fills them. Pass `state.sampler.state` to your sampler's `restore`.
 *
 * @throws CheckpointError for a damaged checkpoint or tensors that do not fit
 *
 * @example
 * const { trainer, unet } = await loadCheckpoint('runs/digits/checkpoints/step-00001000')
 */
export async function loadCheckpoint(
  folder: string,
  { device = 'cpu' }: { readonly device?: Device } = {},
): Promise<LoadedCheckpoint> {
  const state = await readUNetCheckpoint('loadCheckpoint', folder)
  const schedule = scheduleOf(state)
  const unet = await UNet.create(state.network, { seed: state.trainer.seed, device })
  const trainer = await Trainer.create(unet, schedule, state.trainer)
  await trainer.loadTensors(folder, state.skips)
  return { unet, schedule, trainer, state }
}

/** Puts a checkpoint into a trainer, and into a sampler and a policy of the heads, of the same configuration. */
export async function restoreCheckpoint(
  folder: string,
  trainer: Trainer,
  sampler?: TimestepSampler,
  mixing?: HeadPolicy,
): Promise<CheckpointState> {
  const state = await readCheckpoint(folder)
  const pairs = [
    ['sampler', sampler, state.sampler],
    ['policy of the heads', mixing, state.mixing],
  ] as const
  for (const [what, given, stored] of pairs) {
    if (!given || !stored || stored.name === given.name) continue
    throw new CheckpointError(
      `restoreCheckpoint: expected a ${what} named ${stored.name}, which ${folder} was trained with, got ${given.name}`,
      folder,
    )
  }
  await trainer.loadTensors(folder, state.skips)
  for (const [, given, stored] of pairs) if (given?.restore && stored) given.restore(stored.state)
  return state
}

/** The statistics of its heads that a run has kept in a checkpoint, if it has several heads. */
export function headStatisticsOf({ mixing }: Pick<CheckpointState, 'mixing'>): HeadStatistics | undefined {
  const { statistics } = (mixing?.state ?? {}) as { statistics?: JsonValue }
  return statistics === undefined ? undefined : HeadStatistics.from(statistics, 'headStatisticsOf')
}

/** Which weights of a checkpoint are wanted: the first average, the weights themselves, or the average of a rate. */
export type WeightsChoice = 'ema' | 'raw' | number

/**
 * Builds the network of a checkpoint for sampling or measuring, without optimizer.
 * `weights` is `ema` by default, which is `raw` where no average was kept.
 *
 * @throws CheckpointError for a damaged checkpoint; RangeError for an average that it does not have
 */
export async function loadForSampling(
  folder: string,
  { weights = 'ema', device = 'cpu' }: { readonly weights?: WeightsChoice; readonly device?: Device } = {},
): Promise<{ unet: UNet; schedule: NoiseSchedule; state: CheckpointState }> {
  const state = await readUNetCheckpoint('loadForSampling', folder)
  const { emaRates } = state.trainer
  const rate = weights === 'ema' ? emaRates[0] : weights === 'raw' ? undefined : weights
  if (rate !== undefined && !emaRates.includes(rate)) {
    const what = `raw, ema or an average that was kept (${emaRates.join(', ') || 'none'})`
    throw argumentError('loadForSampling', 'weights', what, weights)
  }
  const file = rate === undefined ? 'model.safetensors' : emaFile(state, rate)
  const unet = await UNet.create(state.network, { device })
  await unet.loadWeights(join(folder, file))
  return { unet, schedule: scheduleOf(state), state }
}

/**
 * The file of weights that a path means: the path itself, or of a checkpoint's folder the first moving average, or the weights
 * where no average was kept.
 *
 * @throws CheckpointError for a folder that is no whole checkpoint
 */
export async function weightsFile(path: string): Promise<string> {
  if (!(await isFolder(path))) return path // if it is nothing, reading it says why
  const checkpoint = (await latestCheckpoint(path)) ?? path
  const state = await readCheckpoint(checkpoint)
  const [rate] = state.kind === 'classifier' ? [] : state.trainer.emaRates // classifiers keep no average
  return join(checkpoint, rate === undefined ? 'model.safetensors' : emaFile(state, rate))
}

/** The file of an average; its name carries the rate. */
function emaFile(state: CheckpointState, rate: number): string {
  const found = state.files.find(({ name }) => Number(/^ema-(.+)\.safetensors$/.exec(name)?.[1]) === rate)
  if (!found) {
    throw new CheckpointError(
      `loadForSampling: expected a file of the average ${rate}, got none`,
      `ema-${rate}`,
    )
  }
  return found.name
}

/** @internal A schedule as a checkpoint holds it. */
export function describeSchedule({ options, tables }: NoiseSchedule): CheckpointState['schedule'] {
  const timestepMap = Array.from(tables.timestepMap)
  const isRespaced =
    timestepMap.length !== options.timestepCount || timestepMap.some((timestep, k) => timestep !== k)
  return { ...options, betas: Array.from(tables.beta), ...(isRespaced && { timestepMap }) }
}

/** @internal The stored schedule; its betas decide, so that a checkpoint means the same for good. */
export function scheduleOf(state: Pick<CheckpointState, 'schedule'>): NoiseSchedule {
  const { betas, timestepMap, ...options } = state.schedule
  return NoiseSchedule.restored(
    options as NoiseSchedule['options'],
    Float64Array.from(betas),
    timestepMap && Float64Array.from(timestepMap),
  )
}

async function describeFiles(folder: string): Promise<CheckpointFile[]> {
  const names = (await readdir(folder)).sort()
  return Promise.all(
    names.map(async (name) => {
      const path = join(folder, name)
      return { name, bytes: (await stat(path)).size, sha256: await sha256(path) }
    }),
  )
}

async function problemOf(
  folder: string,
  { name, bytes, sha256: expected }: CheckpointFile,
): Promise<string[]> {
  const path = join(folder, basename(name))
  try {
    const { size } = await stat(path)
    if (size !== bytes) return [`${name} with ${size} bytes instead of ${bytes}`]
    return (await sha256(path)) === expected ? [] : [`${name} with another sha256`]
  } catch (cause) {
    const { code } = cause as NodeJS.ErrnoException
    if (mayPass(cause)) {
      throw new CheckpointError(
        `readCheckpoint: expected ${path} to be readable, got ${code}`,
        path,
        {},
        { cause },
      )
    }
    return [code === 'ENOENT' ? `${name} missing` : `${name} unreadable (${code})`]
  }
}

/** Whether an error of the file system says nothing of what the file holds. */
function mayPass(error: unknown): boolean {
  const { code } = (error ?? {}) as NodeJS.ErrnoException
  return code !== undefined && !ABSENT.includes(code)
}

/** Of a file's bytes, in hex. */
export async function sha256(path: string): Promise<string> {
  const hash = createHash('sha256')
  for await (const chunk of createReadStream(path, { highWaterMark: 2 ** 20 })) hash.update(chunk as Buffer)
  return hash.digest('hex')
}

/** Replaces a checkpoint of the same step, if there is one, when the new one is complete. */
async function putInPlace(partial: string, folder: string): Promise<void> {
  const before = `${partial}-replaced`
  const hadOne = await rename(folder, before).then(
    () => true,
    (error: NodeJS.ErrnoException) => {
      if (error.code === 'ENOENT') return false
      throw error
    },
  )
  try {
    await rename(partial, folder)
  } catch (error) {
    if (hadOne) await rename(before, folder)
    throw error
  }
  if (hadOne) await rm(before, { recursive: true, force: true })
}

/** Removes what killed saves have left. */
export async function removePartials(run: string): Promise<void> {
  const folder = join(run, 'checkpoints')
  const names: string[] = await readdir(folder).catch(() => [])
  for (const name of names) {
    if (!name.startsWith('.partial-')) continue
    const step = /^\.partial-(step-\d+)-.*-replaced$/.exec(name)?.[1]
    const isOnlyCopy = step !== undefined && !names.includes(step)
    if (isOnlyCopy) await rename(join(folder, name), join(folder, step))
    else await rm(join(folder, name), { recursive: true, force: true })
  }
}

async function removeOldest(run: string, newest: string, keep: number): Promise<void> {
  const others = (await listCheckpoints(run)).filter((folder) => folder !== newest)
  const surplus = others.length - (keep - 1)
  for (const folder of others.slice(0, Math.max(0, surplus)))
    await rm(folder, { recursive: true, force: true }).catch(() => {}) // someone reads it: the next save tries again
}

/** Makes renames in a folder durable, where the filesystem can; Windows cannot open folders and does not need it. */
async function syncFolder(folder: string): Promise<void> {
  if (process.platform === 'win32') return
  try {
    const handle = await open(folder, 'r')
    try {
      await handle.sync()
    } finally {
      await handle.close()
    }
  } catch (error) {
    // As native code does: some filesystems cannot sync folders; a folder may be writable and not readable.
    if (!['EINVAL', 'EACCES'].includes((error as NodeJS.ErrnoException).code ?? '')) throw error
  }
}
