// Features of a small classifier that a study trains itself, once: what stands between the last block and the classes.
import { createHash } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { atMostEvery } from '../at-most-every.ts'
import { readTensors, writeTensors } from '../checkpoint-file.ts'
import { imagesInOrder } from '../data/batches.ts'
import { holdOut, type ImageDataset } from '../data/dataset.ts'
import { DeviceTensor } from '../device-tensor.ts'
import { makeFolder, writeDurably } from '../folder.ts'
import { Classifier, type ClassifierConfig } from '../model/classifier.ts'
import { loadClassifierCheckpoint } from '../training/classifier-checkpoint.ts'
import { runClassifier } from '../training/classifier-run.ts'
import type { RunConfig } from '../training/run-config.ts'
import { settingsHash } from './study-file.ts'

const HELD_OUT = 512
const LAST_LAYER = 'out.2.c_proj'

/** What features.json holds. */
export interface FeatureDescription {
  readonly network: ClassifierConfig
  /** Of the weights that give features. */
  readonly sha256: string
  readonly classNames: readonly string[]
  /** Share of held-out images whose class the classifier finds. */
  readonly accuracy: number
  readonly steps: number
}

/** What decides a classifier of samples beside its steps: the options of the images and their labels. */
export function featureSource(
  config: Pick<RunConfig, 'data' | 'size' | 'channels' | 'crop' | 'badFiles' | 'classes'>,
) {
  const { data, size, channels, crop, badFiles, classes } = config
  const labels = classes === 'folder' || classes === 'prefix' ? classes : undefined
  return { data, size, channels, crop, badFiles, classes: labels }
}

/** A frozen network that turns images into features [N, D]. */
export interface FeatureClassifier {
  readonly description: FeatureDescription
  features(images: ImageDataset, signal?: AbortSignal): Promise<DeviceTensor>
  dispose(): void
}

/**
 * The study's classifier of these images, trained on their labels when it is not there yet: clean images, four residual
 * blocks, 64 features.
 *
 * @returns undefined where the images have no classes, or a shape that the classifier does not take
 */
export async function featureClassifier(
  out: string,
  config: RunConfig,
  dataset: ImageDataset,
  options: {
    readonly steps: number
    readonly signal?: AbortSignal | undefined
    readonly log?: (line: string) => void
  },
): Promise<FeatureClassifier | undefined> {
  if (!dataset.label || !dataset.classNames) return undefined
  const { steps, signal, log = () => {} } = options
  const { height, width } = dataset
  if (height !== width || height % 4 !== 0) {
    log(
      `warning: samples of ${width}x${height} have no Frechet and kernel distances: their classifier needs square images of a multiple of 4 pixels`,
    )
    return undefined
  }
  const source = featureSource(config)
  const folder = join(out, 'features', settingsHash({ ...source, steps }))
  const weights = join(folder, 'features.safetensors')
  const known = await describedIn(folder)
  if (known) return opened(known, weights)
  await makeFolder(folder)
  log(`training the classifier of samples, ${steps} steps`)
  // It takes half an hour on large images.
  const onReport = atMostEvery(30_000, ({ step, total }: { readonly step: number; readonly total: number }) =>
    log(`the classifier of samples: step ${step} of ${total}`),
  )
  const { checkpoint, wasStopped } = await runClassifier(
    {
      ...{ ...source, steps, heldOut: Math.min(HELD_OUT, dataset.length >> 2) },
      ...{ modelChannels: 32, channelMult: [1, 2, 2], resBlockCount: 1, pool: 'attention', headChannels: 32 },
      ...{ noised: false, batchSize: 32, lr: 1e-3, lrSchedule: 'cosine', weightDecay: 0.05, flip: false },
      ...{ evalEvery: 0, keep: 1, run: join(folder, 'run') },
    },
    { log, onReport, ...(signal && { signal }) },
  )
  if (wasStopped || checkpoint === undefined) throw new Error('stopped while the classifier was trained')
  const { classifier, schedule, trainer } = await loadClassifierCheckpoint(checkpoint)
  try {
    const held = holdOut(dataset, Math.min(HELD_OUT, dataset.length >> 2), 0).heldOut
    const accuracy = await accuracyOn(classifier, held)
    // What attention pools, read through the same network: the layer that makes classes of it becomes the identity.
    const { tensors } = await readTensors(join(checkpoint, 'model.safetensors'))
    const last = tensors.get(`${LAST_LAYER}.weight`)
    if (!last)
      throw new Error(`featureClassifier: expected ${checkpoint} to have ${LAST_LAYER}.weight, got none`)
    const width = last.shape[1] as number
    const identity = new Float32Array(width * width)
    for (let i = 0; i < width; i++) identity[i * width + i] = 1
    tensors.set(`${LAST_LAYER}.weight`, {
      dtype: 'float32',
      data: identity,
      shape: [width, width, ...last.shape.slice(2)],
    })
    tensors.set(`${LAST_LAYER}.bias`, { dtype: 'float32', data: new Float32Array(width), shape: [width] })
    await writeTensors(weights, tensors)
    const description: FeatureDescription = {
      network: { ...classifier.config, classCount: width },
      sha256: createHash('sha256')
        .update(await readFile(weights))
        .digest('hex'),
      classNames: dataset.classNames,
      ...{ accuracy, steps },
    }
    await writeDurably(join(folder, 'features.json'), `${JSON.stringify(description, undefined, 2)}\n`)
    log(`the classifier of samples finds ${(100 * accuracy).toFixed(1)} % of ${held.length} held-out classes`)
    return await opened(description, weights)
  } finally {
    trainer.dispose()
    classifier.dispose()
    schedule.dispose()
  }
}

async function describedIn(folder: string): Promise<FeatureDescription | undefined> {
  try {
    return JSON.parse(await readFile(join(folder, 'features.json'), 'utf8')) as FeatureDescription
  } catch {
    return undefined
  }
}

async function opened(description: FeatureDescription, weights: string): Promise<FeatureClassifier> {
  const network = await Classifier.create(description.network)
  await network.loadWeights(weights)
  return {
    description,
    async features(images, signal) {
      const rows: Float32Array[] = []
      for await (const data of outputs(network, images, signal)) rows.push(data)
      const width = description.network.classCount
      const all = new Float32Array(images.length * width)
      rows.reduce((at, row) => {
        all.set(row, at)
        return at + row.length
      }, 0)
      return DeviceTensor.from({ data: all, shape: [images.length, width] })
    },
    dispose: () => network.dispose(),
  }
}

async function accuracyOn(classifier: Classifier, images: ImageDataset): Promise<number> {
  const { classCount } = classifier.config
  let right = 0
  let index = 0
  for await (const logits of outputs(classifier, images)) {
    for (let at = 0; at < logits.length; at += classCount, index++) {
      const row = logits.subarray(at, at + classCount)
      if (row.indexOf(Math.max(...row)) === images.label?.(index)) right++
    }
  }
  return right / images.length
}

/** Outputs of a classifier for clean images, 64 at a time. */
async function* outputs(
  classifier: Classifier,
  images: ImageDataset,
  signal?: AbortSignal,
): AsyncGenerator<Float32Array> {
  for (let first = 0; first < images.length; first += 64) {
    signal?.throwIfAborted()
    const n = Math.min(64, images.length - first)
    const { data, shape } = await imagesInOrder(images, first, n)
    const t = { data: new Float32Array(n), shape: [n] }
    yield (await classifier.forward({ x: { data, shape }, t })).data as Float32Array
  }
}
