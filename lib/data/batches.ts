import { argumentError, checkInteger, checkKnownOptions } from '../check.ts'
import { DataError } from '../errors.ts'
import { keyedRandom, type Random } from '../random.ts'
import type { ImageBatch } from '../tensor.ts'
import type { ImageDataset } from './dataset.ts'
import { shuffledIndices } from './shuffle.ts'
import { lowResTwin } from './super-resolution.ts'

/** How batches are put together. */
export interface BatchOptions {
  /** Images in a batch; may exceed the data set, which then repeats within the batch. */
  batchSize: number
  /** Keys order, flips and random crops. */
  seed: number
  /** The step of the first batch; resuming at step k gives what the uninterrupted run would have seen. Default 0. */
  firstStep?: number
  /** Mirror each image left to right with probability one half. Default false. */
  flip?: boolean
  /** Put the classes of the images into `labels`. Default false. */
  withLabels?: boolean
  /** Batches made ahead, so that the network never waits. Default 3. */
  prefetch?: number
}

const OPTIONS = ['batchSize', 'seed', 'firstStep', 'flip', 'withLabels', 'prefetch']

/**
 * Batches without end, each epoch in a new order and every image exactly once an epoch.
 *
 * The batch of step k depends only on (dataset, seed, batchSize, k): image i is at position k * batchSize + i of
 * the sequence of shuffled epochs. Epochs follow one another without a gap, so no image is dropped.
 * An error of the data set surfaces at `next()` and ends the sequence; `return()` stops the work ahead.
 *
 * @example
 * for await (const images of batches(await digits(), { batchSize: 32, seed: 1 })) {
 *   await trainer.trainStep({ images, ...sampler.draw(32, trainer.step), lr: 1e-3 })
 * }
 */
export function batches(dataset: ImageDataset, options: BatchOptions): AsyncIterableIterator<ImageBatch> {
  checkKnownOptions('batches', options, OPTIONS)
  const { batchSize, seed, firstStep = 0, flip = false, withLabels = false, prefetch = 3 } = options
  checkInteger('batches', 'batchSize', batchSize, 1)
  checkInteger('batches', 'seed', seed, 0)
  checkInteger('batches', 'firstStep', firstStep, 0)
  checkInteger('batches', 'prefetch', prefetch, 0)
  checkInteger('batches', 'dataset.length', dataset.length, 1)
  if (withLabels && !dataset.label) {
    throw argumentError(
      'batches',
      'dataset',
      'a data set with labels, because withLabels is set',
      dataset.name,
    )
  }

  const orderOf = epochOrders(dataset.length, seed)
  const flips = flip ? keyedRandom(seed, 'flip') : undefined
  const crops = keyedRandom(seed, 'crop')
  const queue: Promise<ImageBatch>[] = []
  let step = firstStep
  let stopped = false

  async function make(step: number): Promise<ImageBatch> {
    const indices = await Promise.all(
      Array.from({ length: batchSize }, async (_, i) => {
        const position = step * batchSize + i
        const epoch = Math.floor(position / dataset.length)
        return (await orderOf(epoch))[position - epoch * dataset.length]!
      }),
    )
    if (stopped) throw new Error('batches: stopped') // nobody waits for it
    return assemble(dataset, indices, step, withLabels, crops, flips)
  }

  return {
    async next() {
      if (stopped) return { done: true, value: undefined }
      while (queue.length <= prefetch) {
        const batch = make(step++)
        batch.catch(() => {}) // reported by the next() that reaches it
        queue.push(batch)
      }
      try {
        const value = await queue.shift()!
        return stopped ? { done: true, value: undefined } : { done: false, value }
      } catch (error) {
        if (stopped) return { done: true, value: undefined }
        stopped = true
        queue.length = 0
        throw error
      }
    },
    async return() {
      stopped = true
      queue.length = 0
      return { done: true, value: undefined }
    },
    [Symbol.asyncIterator]() {
      return this
    },
  }
}

/** Images [first, first + count) of a data set in its own order, as they are: cropped centrally, not mirrored. */
export async function imagesInOrder(
  dataset: ImageDataset,
  first: number,
  count: number,
  withLabels = false,
): Promise<ImageBatch> {
  const call = 'imagesInOrder'
  checkInteger(call, 'first', first, 0, dataset.length - 1)
  checkInteger(call, 'count', count, 1, dataset.length - first)
  const indices = Array.from({ length: count }, (_, i) => first + i)
  return assemble(dataset, indices, 0, withLabels, undefined, undefined)
}

/** The order of each epoch; the last few are remembered, because batches ahead may be in the next epoch. */
function epochOrders(length: number, seed: number): (epoch: number) => Promise<Uint32Array> {
  const random = keyedRandom(seed, 'shuffle')
  const remembered = new Map<number, Promise<Uint32Array>>()
  return (epoch) => {
    let order = remembered.get(epoch)
    if (!order) {
      order = shuffledIndices(length, random.at(epoch))
      remembered.set(epoch, order)
      if (remembered.size > 4) remembered.delete(Math.min(...remembered.keys()))
    }
    return order
  }
}

async function assemble(
  dataset: ImageDataset,
  indices: readonly number[],
  step: number,
  withLabels: boolean,
  crops: Random | undefined,
  flips: Random | undefined,
): Promise<ImageBatch> {
  const { channels, height, width } = dataset
  const size = channels * height * width
  const shape = [indices.length, channels, height, width] as const
  const images = await Promise.all(
    indices.map((index, sample) => dataset.image(index, crops?.at(step, sample))),
  )
  const data = new Uint8Array(indices.length * size)
  for (const [sample, image] of images.entries()) {
    if (!(image instanceof Uint8Array) || image.length !== size) {
      const what = `batches: expected image ${indices[sample]} of ${dataset.name} to be a Uint8Array of ${size} values`
      throw new DataError(
        `${what} ([${channels}, ${height}, ${width}]), got ${image?.length ?? String(image)}`,
      )
    }
    const target = data.subarray(sample * size, (sample + 1) * size)
    target.set(image)
    if (flips && flips.at(step, sample).uniform() < 0.5) mirror(target, width)
  }
  const labels = withLabels ? Int32Array.from(indices, (index) => dataset.label!(index)) : undefined
  const lowRes = dataset.lowResFactor ? lowResTwin({ data, shape }, dataset.lowResFactor) : undefined
  return { data, shape, ...(labels && { labels }), ...(lowRes && { lowRes }) }
}

/** Mirrors every row of an image in place. */
function mirror(image: Uint8Array, width: number): void {
  for (let begin = 0; begin < image.length; begin += width) image.subarray(begin, begin + width).reverse()
}
