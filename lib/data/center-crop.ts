import type { RandomStream } from '../random.ts'
import {
  finish,
  type PillowFilter,
  type Pixels,
  pillowResizeSliced,
  resizeWithAlpha,
  type Sliced,
} from './pillow-resize.ts'

/** Pixels that covering a size may take in any case: 200 MB of RGB. A thin strip would take any amount. */
const MOST_PIXELS = 2 ** 26

/** Height and width of the wanted image. */
export type Size = readonly [height: number, width: number]

/**
 * guided-diffusion's `center_crop_arr`: BOX halving while the image is at least twice as large, BICUBIC to the size
 * that just covers, then the middle. Bit-exact for square sizes; other sizes follow the same rule with the larger
 * of the two scales.
 *
 * @returns [H, W, C] of the wanted size
 * @throws RangeError for a strip so thin that covering the size would take too much memory
 */
export function centerCrop(image: Pixels, size: Size): Pixels {
  return finish(centerCropSliced(image, size))
}

/** `centerCrop` in slices. */
export function* centerCropSliced(image: Pixels, size: Size): Sliced<Pixels> {
  const covering = yield* cover(image, size)
  return cut(
    covering,
    size,
    Math.floor((covering.height - size[0]) / 2),
    Math.floor((covering.width - size[1]) / 2),
  )
}

/**
 * guided-diffusion's `random_crop_arr`: resizes so that the short side is a whole number in
 * [ceil(size / maxFraction), ceil(size / minFraction)], then cuts at a random place. Size, top and left are drawn in
 * this order. (The original's generator is Python's; here the numbers are keyed by step and sample.)
 */
export function* randomCropSliced(
  image: Pixels,
  size: Size,
  random: RandomStream,
  fractions: { min?: number; max?: number } = {},
): Sliced<Pixels> {
  const { min = 0.8, max = 1 } = fractions
  const short = Math.min(...size)
  const smaller = random.integer(Math.ceil(short / max), Math.ceil(short / min) + 1)
  const covering = yield* cover(image, scaled(size, smaller))
  const top = random.integer(0, covering.height - size[0] + 1)
  const left = random.integer(0, covering.width - size[1] + 1)
  return cut(covering, size, top, left)
}

/** The halvings that every random crop of a size has in common, so that a cache can keep the smaller image. */
export function* halveForRandomCrop(image: Pixels, size: Size, minFraction = 0.8): Sliced<Pixels> {
  return yield* halve(image, scaled(size, Math.ceil(Math.min(...size) / minFraction)))
}

/** The size whose short side is `short`, of the same proportions (the long side rounded up). */
function scaled(size: Size, short: number): Size {
  const factor = short / Math.min(...size)
  return [Math.ceil(size[0] * factor), Math.ceil(size[1] * factor)]
}

/** BOX halving while both sides are at least twice as large as wanted. */
function* halve(image: Pixels, [height, width]: Size): Sliced<Pixels> {
  let result = image
  while (result.height >= 2 * height && result.width >= 2 * width) {
    result = yield* resize(result, Math.floor(result.width / 2), Math.floor(result.height / 2), 'box')
  }
  return result
}

/** The smallest resized image that covers the wanted size. */
function* cover(image: Pixels, size: Size): Sliced<Pixels> {
  const halved = yield* halve(image, size)
  const scale = Math.max(size[0] / halved.height, size[1] / halved.width)
  const [height, width] = [roundHalfToEven(halved.height * scale), roundHalfToEven(halved.width * scale)]
  const most = Math.max(MOST_PIXELS, image.height * image.width, 4 * size[0] * size[1])
  if (height * width > most) {
    const got = `${height}x${width} for one of ${image.height}x${image.width}`
    throw new RangeError(
      `crop: expected a picture that covers ${size.join('x')} in ${most} pixels, got ${got}`,
    )
  }
  return yield* resize(halved, width, height, 'bicubic')
}

function resize(image: Pixels, width: number, height: number, filter: PillowFilter): Sliced<Pixels> {
  const hasAlpha = image.channels === 2 || image.channels === 4
  return (hasAlpha ? resizeWithAlpha : pillowResizeSliced)(image, width, height, filter)
}

function cut(image: Pixels, [height, width]: Size, top: number, left: number): Pixels {
  const { channels } = image
  if (top === 0 && left === 0 && image.width === width && image.height === height) return image
  const data = new Uint8Array(height * width * channels)
  for (let y = 0; y < height; y++) {
    const begin = ((top + y) * image.width + left) * channels
    data.set(image.data.subarray(begin, begin + width * channels), y * width * channels)
  }
  return { data, width, height, channels }
}

/** Python's `round`. */
function roundHalfToEven(value: number): number {
  const below = Math.floor(value)
  const rest = value - below
  if (rest !== 0.5) return Math.round(value)
  return below % 2 === 0 ? below : below + 1
}
