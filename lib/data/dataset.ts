import { argumentError, checkInteger } from '../check.ts'
import { keyedRandom, type RandomStream } from '../random.ts'

/** Images of one shape, reached by index; every data source of the library is one of these. */
export interface ImageDataset {
  /** Where the images come from, for messages and logs. */
  readonly name: string
  /** The number of images, at least 1. */
  readonly length: number
  /** 1 grey, 2 grey and alpha, 3 RGB, 4 RGB and alpha. */
  readonly channels: number
  readonly height: number
  readonly width: number
  /** Names of the classes; index = label. */
  readonly classNames?: readonly string[]
  /** Files of the source that were left out, and why. */
  readonly skipped?: readonly { readonly file: string; readonly reason: string }[]
  /** Set by `withLowRes`: how many times smaller the low-resolution twin is in each direction. */
  readonly lowResFactor?: number
  /**
   * One image, uint8, [C, H, W]. The caller must not write into it.
   *
   * @param random - numbers for a random crop, where the data set makes one; without them the crop is central
   */
  image(index: number, random?: RandomStream): Promise<Uint8Array> | Uint8Array
  /** The class of an image, in [0, classNames.length); absent when the data have no classes. */
  label?(index: number): number
}

/** Images held in memory; `data` is [N, C, H, W], uint8. */
export interface MemoryImages {
  readonly data: Uint8Array
  readonly shape: readonly [n: number, c: number, h: number, w: number]
  readonly labels?: ArrayLike<number>
  readonly classNames?: readonly string[]
  readonly name?: string
}

/**
 * A data set over an array that is already in memory; the array is used, not copied.
 *
 * @throws RangeError when data or labels do not fit the shape
 */
export function inMemory(images: MemoryImages): ImageDataset {
  const { data, labels, classNames, name = 'images in memory' } = images
  if (!(data instanceof Uint8Array)) {
    throw argumentError('inMemory', 'data', 'a Uint8Array (0..255)', data, { kind: 'type' })
  }
  const [length, channels, height, width] = images.shape
  checkInteger('inMemory', 'shape (N)', length, 1)
  checkInteger('inMemory', 'shape (C)', channels, 1, 4)
  checkInteger('inMemory', 'shape (H)', height, 1)
  checkInteger('inMemory', 'shape (W)', width, 1)
  const size = channels * height * width
  if (data.length !== length * size) {
    throw argumentError(
      'inMemory',
      'data',
      `${length * size} values for shape [${images.shape.join(', ')}]`,
      data,
    )
  }
  if (labels && labels.length !== length) {
    throw argumentError('inMemory', 'labels', `${length} labels, one an image`, labels)
  }
  return {
    name,
    length,
    channels,
    height,
    width,
    ...(classNames && { classNames }),
    image(index) {
      checkInteger('dataset.image', 'index', index, 0, length - 1)
      return data.subarray(index * size, (index + 1) * size)
    },
    ...(labels && { label: (index: number) => labels[index]! }),
  }
}

/** A view of some images of a data set, in the order of `indices`. */
export function subset(dataset: ImageDataset, indices: ArrayLike<number>, name?: string): ImageDataset {
  const chosen = Array.from(indices)
  if (chosen.length === 0) throw argumentError('subset', 'indices', 'at least one index', chosen)
  for (const [i, index] of chosen.entries()) {
    checkInteger('subset', `indices[${i}]`, index, 0, dataset.length - 1)
  }
  return {
    ...description(dataset),
    name: name ?? `${chosen.length} of ${dataset.name}`,
    length: chosen.length,
    image(index, random) {
      checkInteger('dataset.image', 'index', index, 0, chosen.length - 1)
      return dataset.image(chosen[index]!, random)
    },
    ...(dataset.label && { label: (index: number) => dataset.label!(chosen[index]!) }),
  }
}

/**
 * Sets images aside that training never sees. Which ones depends only on the seed and the length.
 *
 * @param amount - a number of images, or a fraction below 1
 */
export function holdOut(
  dataset: ImageDataset,
  amount: number,
  seed: number,
): { train: ImageDataset; heldOut: ImageDataset } {
  const count = amount > 0 && amount < 1 ? Math.round(amount * dataset.length) : amount
  if (!Number.isInteger(count) || count < 1 || count >= dataset.length) {
    const what = `a fraction in (0, 1) or a count in [1, ${dataset.length - 1}], so that both parts have images`
    throw argumentError('holdOut', 'amount', what, amount)
  }
  const order = Uint32Array.from({ length: dataset.length }, (_, i) => i)
  const stream = keyedRandom(seed, 'shuffle').at(0, 1) // sample 0 is the order of the epochs
  for (let i = 0; i < count; i++) {
    const j = stream.integer(i, order.length)
    const kept = order[i]!
    order[i] = order[j]!
    order[j] = kept
  }
  return {
    train: subset(dataset, order.slice(count).sort(), `${dataset.name} without ${count} held out`),
    heldOut: subset(dataset, order.slice(0, count).sort(), `${count} held out of ${dataset.name}`),
  }
}

/** A view with a border of zeros around each image, so that its size fits a network's down-sampling. */
export function padded(dataset: ImageDataset, height: number, width: number): ImageDataset {
  checkInteger('padded', 'height', height, dataset.height)
  checkInteger('padded', 'width', width, dataset.width)
  const top = Math.floor((height - dataset.height) / 2)
  const left = Math.floor((width - dataset.width) / 2)
  const pad = (image: Uint8Array): Uint8Array => {
    const out = new Uint8Array(dataset.channels * height * width)
    for (let row = 0; row < dataset.channels * dataset.height; row++) {
      const channel = Math.floor(row / dataset.height)
      const y = row - channel * dataset.height
      const source = image.subarray(row * dataset.width, (row + 1) * dataset.width)
      out.set(source, (channel * height + top + y) * width + left)
    }
    return out
  }
  return {
    ...description(dataset),
    height,
    width,
    image(index, random) {
      const image = dataset.image(index, random)
      return image instanceof Uint8Array ? pad(image) : image.then(pad)
    },
    ...(dataset.label && { label: (index: number) => dataset.label!(index) }),
  }
}

/** What a view has in common with the data set that it looks at. */
export function description(dataset: ImageDataset): Omit<ImageDataset, 'image' | 'label'> {
  const { name, length, channels, height, width, classNames, skipped, lowResFactor } = dataset
  return {
    name,
    length,
    channels,
    height,
    width,
    ...(classNames && { classNames }),
    ...(skipped && { skipped }),
    ...(lowResFactor !== undefined && { lowResFactor }),
  }
}
