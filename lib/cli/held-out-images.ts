import { argumentError } from '../check.ts'
import { batches } from '../data/batches.ts'
import type { ImageDataset } from '../data/dataset.ts'
import { withLowRes } from '../data/super-resolution.ts'
import type { HeadDecider } from '../mixing/policy.ts'
import type { ImageBatch } from '../tensor.ts'
import { runMixing } from '../training/mixing-options.ts'
import { openImages, splitImages } from '../training/run.ts'
import type { RunConfig } from '../training/run-config.ts'
import type { TrainerOptions } from '../training/trainer.ts'
import type { ImagesToMeasure, SamplingNetwork } from './network-for-sampling.ts'
import { UsageError } from './usage.ts'

/** The images that a network is measured on, and those that it is trained on. */
export interface MeasuredImages {
  readonly heldOut: ImageDataset
  readonly train: ImageDataset
  /** Whether the two have no image in common. */
  readonly isHeldOut: boolean
}

/** Opens the images that a network is measured on, with low-resolution twins where it makes images larger. */
export async function openMeasuredImages(config: ImagesToMeasure): Promise<ImageDataset> {
  const dataset = await openImages(config)
  if (config.lowRes === undefined) return dataset
  const { call, factor } = config.lowRes
  const { name, height, width } = dataset
  if (height % factor !== 0 || width % factor !== 0) {
    const what = `a divisor of height (${height}) and width (${width}) of ${name}`
    throw new UsageError(argumentError(call, '--low-res-factor', what, factor).message)
  }
  return withLowRes(dataset, factor)
}

/**
 * Splits the images of a run as the run does; where nothing was held out, both parts are all of them.
 *
 * @throws RangeError where some were and the images are not as many as they were then: others would be taken for them
 */
export async function measuredImages(config: ImagesToMeasure): Promise<MeasuredImages> {
  const dataset = await openMeasuredImages(config)
  const { call, path, images } = config.saved ?? {}
  if (config.heldOut !== undefined && images?.count !== undefined && images.count !== dataset.length) {
    throw new RangeError(
      `${call}: expected data to hold ${images.count} images, as when ${path} was saved, got ${dataset.length} of ${dataset.name}; which of them were held out cannot be told any more: make it what it was, or name images that were not trained by --data`,
    )
  }
  const { train, heldOut } = splitImages(dataset, config, call)
  return { train, heldOut: heldOut ?? dataset, isHeldOut: heldOut !== undefined }
}

/**
 * Some images in an order of the seed, none twice, with labels where the network takes them.
 *
 * @param say - is told where there are fewer than `count`
 */
export async function firstBatch(
  dataset: ImageDataset,
  count: number,
  seed: number,
  withLabels: boolean,
  say: (line: string) => void,
): Promise<ImageBatch> {
  const batchSize = Math.min(count, dataset.length)
  if (batchSize < count) say(`there are ${batchSize} images, fewer than --count ${count}`)
  const source = batches(dataset, { batchSize, seed, withLabels, prefetch: 0 })
  const { value } = await source.next()
  return value
}

/** How a network is trained as far as its losses are concerned. */
export function trainingOf({ state, variance, rescalesTimesteps }: SamplingNetwork): TrainerOptions {
  return { ...state?.trainer, variance, rescalesTimesteps }
}

/** What the strategy of several heads that trained a network says of them at its last step; nothing where none did. */
export function decideOf({ state, unet, schedule }: SamplingNetwork): HeadDecider | undefined {
  const config = (state?.extra as { run?: RunConfig } | null | undefined)?.run
  if (!state?.mixing || config?.mix === undefined) return undefined
  const policy = runMixing(config, unet.layout.heads, schedule)?.policy
  policy?.restore?.(state.mixing.state)
  return policy && ((t) => policy.decide(t, state.step))
}

/** What to say where the images were not kept out of training. */
export const NOT_HELD_OUT =
  'Nothing is known to be held out of these images: the network may have been trained on them.'
