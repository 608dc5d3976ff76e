import { createHash } from 'node:crypto'
import { readFile, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { isObject, show } from '../check.ts'
import type { Device } from '../device.ts'
import { CheckpointError, DataError } from '../errors.ts'
import { Classifier, type ClassifierConfig, type RawClassifierOptions } from '../model/classifier.ts'
import { CLASSIFIER_RECIPES } from '../model/recipes.ts'
import { NoiseSchedule, type NoiseScheduleOptions } from '../schedule/noise-schedule.ts'
import { publishedNetwork } from '../weights/describe.ts'
import { inspectWeights } from '../weights/inspect.ts'
import {
  type CheckpointState,
  describeSchedule,
  latestCheckpoint,
  readCheckpoint,
  type SaveOptions,
  scheduleOf,
  sha256,
  writeCheckpoint,
} from './checkpoint.ts'
import { ClassifierTrainer, type ClassifierTrainerConfig } from './classifier-trainer.ts'
import type { RunImages } from './run.ts'

/** What state.json of a classifier's checkpoint holds. */
export type ClassifierCheckpointState = CheckpointState<ClassifierConfig, ClassifierTrainerConfig>

/**
 * Saves a classifier in training as `<run>/checkpoints/step-00001000`, whole or not at all; see `saveCheckpoint`.
 *
 * @returns the checkpoint's folder
 * @throws CheckpointError when the folder cannot be written or the disk is full; older checkpoints are untouched then
 */
export async function saveClassifierCheckpoint(
  trainer: ClassifierTrainer,
  run: string,
  options: SaveOptions = {},
): Promise<string> {
  const what = { kind: 'classifier', network: trainer.classifier.config, trainer: trainer.config } as const
  return writeCheckpoint('saveClassifierCheckpoint', trainer, run, what, options)
}

/**
 * Builds classifier, schedule and trainer of a checkpoint and fills them.
 *
 * @throws CheckpointError for a damaged checkpoint, or one of another network
 */
export async function loadClassifierCheckpoint(
  folder: string,
  { device = 'cpu' }: { readonly device?: Device } = {},
): Promise<{
  readonly classifier: Classifier
  readonly schedule: NoiseSchedule
  readonly trainer: ClassifierTrainer
  readonly state: ClassifierCheckpointState
}> {
  const state = await readClassifierCheckpoint('loadClassifierCheckpoint', folder)
  const schedule = scheduleOf(state)
  const classifier = await Classifier.create(state.network, { seed: state.trainer.seed, device })
  const trainer = await ClassifierTrainer.create(classifier, schedule, state.trainer)
  await trainer.loadTensors(folder, state.skips)
  return { classifier, schedule, trainer, state }
}

/** A classifier, and what its checkpoint says of it. */
export interface OpenedClassifier {
  readonly classifier: Classifier
  /** The noise that it was trained with; unknown for a file of weights that is not a published one. */
  readonly schedule?: CheckpointState['schedule']
  readonly classNames?: readonly string[]
  /** A hash of its weights and options; reads the whole of a file of weights. */
  readonly identity: () => Promise<string>
}

/**
 * Opens a classifier for guidance: the newest checkpoint of a run, a checkpoint, or a file of weights, which is a published
 * one (`CLASSIFIER_RECIPES`, by name and size) or has guided-diffusion's options beside it.
 *
 * @param path - folder of a run or of a checkpoint, or a .safetensors or .pt file
 * @param config - for a file of weights: JSON with the constructor options, by default its name with .json; or the name of a
 * published classifier
 * @param onUnreadable - told of each newer checkpoint of a run that is passed over, and why
 * @throws CheckpointError, DataError for what cannot be read
 */
export async function openClassifier(
  path: string,
  config?: string,
  device: Device = 'cpu',
  onUnreadable?: (folder: string, error: CheckpointError) => void,
): Promise<OpenedClassifier> {
  const call = 'openClassifier'
  const status = await stat(path).catch(() => undefined)
  if (!status) throw new DataError(`${call}: expected ${path} to be a folder or a file, got none`, path)
  if (status.isDirectory()) {
    const folder = (await isFile(join(path, 'state.json')))
      ? path
      : await latestCheckpoint(path, { ...(onUnreadable && { onUnreadable }) })
    if (!folder) throw new CheckpointError(`${call}: expected a checkpoint in ${path}, got none`, path)
    const state = await readClassifierCheckpoint(call, folder)
    const classifier = await Classifier.create(state.network, { device })
    await classifier.loadWeights(join(folder, 'model.safetensors'))
    const images = (state.extra as { images?: RunImages } | null)?.images
    return {
      classifier,
      schedule: state.schedule,
      identity: async () => hashOf({ files: state.files }),
      ...(images?.classNames && { classNames: images.classNames }),
    }
  }
  const recipe = await publishedClassifier(path, config)
  const { network, schedule } = recipe
    ? CLASSIFIER_RECIPES[recipe]
    : { network: await readOptions(call, config ?? besideWeights(path)), schedule: undefined }
  const classifier = await Classifier.fromGuidedDiffusion(network, { device })
  await classifier.loadWeights(path)
  return {
    classifier,
    ...(schedule && { schedule: storedSchedule(schedule) }),
    identity: async () => hashOf({ file: await sha256(path), network }),
  }
}

/** The published classifier that `config` names, or without it a file's name and tensors. */
async function publishedClassifier(
  path: string,
  config: string | undefined,
): Promise<keyof typeof CLASSIFIER_RECIPES | undefined> {
  const isNamed = (name: string | undefined): name is keyof typeof CLASSIFIER_RECIPES =>
    name !== undefined && Object.hasOwn(CLASSIFIER_RECIPES, name)
  if (config !== undefined) return isNamed(config) ? config : undefined
  if (await isFile(besideWeights(path))) return undefined
  const name = await publishedNetwork(path, await inspectWeights(path))
  return isNamed(name) ? name : undefined
}

function besideWeights(path: string): string {
  return path.replace(/\.[^./\\]+$/, '.json')
}

async function isFile(path: string): Promise<boolean> {
  return stat(path).then(
    (status) => status.isFile(),
    () => false,
  )
}

function storedSchedule(options: NoiseScheduleOptions): CheckpointState['schedule'] {
  const schedule = NoiseSchedule.create(options)
  const stored = describeSchedule(schedule)
  schedule.dispose()
  return stored
}

/** @internal `readCheckpoint` for callers that need a classifier. */
export async function readClassifierCheckpoint(
  call: string,
  folder: string,
): Promise<ClassifierCheckpointState> {
  const state = (await readCheckpoint(folder)) as unknown as ClassifierCheckpointState
  if (state.kind === 'classifier') return state
  throw new CheckpointError(`${call}: expected ${folder} to hold a classifier, got a UNet`, folder)
}

/** Constructor options, alone or inside `{ "config": … }`. */
async function readOptions(call: string, file: string): Promise<RawClassifierOptions> {
  const content = await readFile(file, 'utf8').catch((cause: NodeJS.ErrnoException) => {
    throw new DataError(
      `${call}: expected ${file} to hold the classifier's options, got ${cause.code}`,
      file,
      { cause },
    )
  })
  let json: unknown
  try {
    json = JSON.parse(content)
  } catch (cause) {
    throw new DataError(`${call}: expected ${file} to be JSON, got ${(cause as Error).message}`, file, {
      cause,
    })
  }
  const options = isObject(json) && 'config' in json ? json.config : json
  if (!isObject(options)) {
    throw new DataError(
      `${call}: expected ${file} to hold the options of a classifier, got ${show(json)}`,
      file,
    )
  }
  return options as unknown as RawClassifierOptions
}

function hashOf(description: object): string {
  return createHash('sha256').update(JSON.stringify(description)).digest('hex')
}
