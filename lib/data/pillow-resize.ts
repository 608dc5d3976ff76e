// Pillow's Image.resize for 8-bit images, bit for bit (checked against Pillow 12.0; Pillow 13 swaps the passes
// for tall images, which moves some values by a few levels): a horizontal pass rounded to
// 8 bits, then a vertical one, with 22-bit fixed-point weights; a pass whose size does not change is skipped.

/** An 8-bit image as decoders give it: rows of pixels, channels interleaved ([H, W, C]). */
export interface Pixels {
  readonly data: Uint8Array
  readonly width: number
  readonly height: number
  readonly channels: number
}

/** A piece of work cut into slices of a few milliseconds; it pauses at every yield. */
export type Sliced<T> = Generator<void, T, void>

/** Pillow's filters: BOX averages, BICUBIC is Keys' kernel with a = -0.5. */
export type PillowFilter = 'box' | 'bicubic'

const PRECISION_BITS = 22 // 32 - 8 - 2
const HALF = 2 ** (PRECISION_BITS - 1)

/** Multiplications between two pauses. */
const SLICE = 1_000_000

const FILTERS: Record<PillowFilter, { support: number; weight(u: number): number }> = {
  box: { support: 0.5, weight: (u) => (u > -0.5 && u <= 0.5 ? 1 : 0) },
  bicubic: {
    support: 2,
    weight(u) {
      const a = -0.5
      const x = Math.abs(u)
      if (x < 1) return ((a + 2) * x - (a + 3)) * x * x + 1
      return x < 2 ? (((x - 5) * x + 8) * x - 4) * a : 0
    },
  },
}

/** Resizes as Pillow does. Alpha is a channel like the others here; see `resizeWithAlpha` for Pillow's own treatment. */
export function pillowResize(image: Pixels, width: number, height: number, filter: PillowFilter): Pixels {
  return finish(pillowResizeSliced(image, width, height, filter))
}

/** `pillowResize` in slices. */
export function* pillowResizeSliced(
  image: Pixels,
  width: number,
  height: number,
  filter: PillowFilter,
): Sliced<Pixels> {
  let result = image
  if (width !== image.width) result = yield* horizontalPass(result, width, filter)
  if (height !== image.height) result = yield* verticalPass(result, height, filter)
  return result
}

/** `pillowResizeSliced` for images with alpha (2 or 4 channels): Pillow multiplies by alpha, resizes, and divides. */
export function* resizeWithAlpha(
  image: Pixels,
  width: number,
  height: number,
  filter: PillowFilter,
): Sliced<Pixels> {
  if (width === image.width && height === image.height) return image
  return divideByAlpha(yield* pillowResizeSliced(multiplyByAlpha(image), width, height, filter))
}

/** Runs sliced work to its end at once. */
export function finish<T>(work: Sliced<T>): T {
  for (;;) {
    const result = work.next()
    if (result.done) return result.value
  }
}

/** For each output position: the first input, the number of inputs, and their weights times 2^22. */
function weights(inputSize: number, outputSize: number, filter: PillowFilter) {
  const { support: radius, weight } = FILTERS[filter]
  const scale = inputSize / outputSize
  const filterScale = Math.max(scale, 1)
  const support = radius * filterScale
  const inverse = 1 / filterScale
  const stride = Math.ceil(support) * 2 + 1
  const first = new Int32Array(outputSize)
  const count = new Int32Array(outputSize)
  const table = new Int32Array(outputSize * stride)
  for (let x = 0; x < outputSize; x++) {
    const center = (x + 0.5) * scale
    const begin = Math.max(Math.trunc(center - support + 0.5), 0)
    const end = Math.min(Math.trunc(center + support + 0.5), inputSize)
    const raw = Array.from({ length: end - begin }, (_, j) => weight((j + begin - center + 0.5) * inverse))
    const sum = raw.reduce((total, value) => total + value, 0)
    first[x] = begin
    count[x] = end - begin
    for (const [j, value] of raw.entries()) {
      const normalised = sum === 0 ? value : value / sum
      table[x * stride + j] = Math.trunc((normalised < 0 ? -0.5 : 0.5) + normalised * 2 ** PRECISION_BITS)
    }
  }
  return { first, count, table, stride }
}

function* horizontalPass(image: Pixels, width: number, filter: PillowFilter): Sliced<Pixels> {
  const { data, height, channels } = image
  const { first, count, table, stride } = weights(image.width, width, filter)
  const out = new Uint8ClampedArray(width * height * channels)
  let work = 0
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const source = (y * image.width + first[x]!) * channels
      for (let c = 0; c < channels; c++) {
        let sum = HALF
        for (let j = 0; j < count[x]!; j++) sum += data[source + j * channels + c]! * table[x * stride + j]!
        out[(y * width + x) * channels + c] = sum >> PRECISION_BITS
      }
    }
    work += width * channels * stride
    if (work > SLICE) {
      work = 0
      yield
    }
  }
  return { data: new Uint8Array(out.buffer), width, height, channels }
}

function* verticalPass(image: Pixels, height: number, filter: PillowFilter): Sliced<Pixels> {
  const { data, width, channels } = image
  const { first, count, table, stride } = weights(image.height, height, filter)
  const rowSize = width * channels
  const out = new Uint8ClampedArray(height * rowSize)
  let work = 0
  for (let y = 0; y < height; y++) {
    for (let i = 0; i < rowSize; i++) {
      let sum = HALF
      for (let j = 0; j < count[y]!; j++) sum += data[(first[y]! + j) * rowSize + i]! * table[y * stride + j]!
      out[y * rowSize + i] = sum >> PRECISION_BITS
    }
    work += rowSize * stride
    if (work > SLICE) {
      work = 0
      yield
    }
  }
  return { data: new Uint8Array(out.buffer), width, height, channels }
}

/** Pillow's RGBA -> RGBa: colour times alpha over 255, rounded. */
function multiplyByAlpha(image: Pixels): Pixels {
  const { channels } = image
  const data = image.data.slice()
  for (let pixel = 0; pixel < data.length; pixel += channels) {
    const alpha = data[pixel + channels - 1]!
    for (let c = pixel; c < pixel + channels - 1; c++) {
      const product = data[c]! * alpha + 128
      data[c] = ((product >> 8) + product) >> 8
    }
  }
  return { ...image, data }
}

/** Pillow's RGBa -> RGBA: colour over alpha, truncated; as it is where alpha is 0 or 255. */
function divideByAlpha(image: Pixels): Pixels {
  const { channels } = image
  const data = image.data.slice()
  for (let pixel = 0; pixel < data.length; pixel += channels) {
    const alpha = data[pixel + channels - 1]!
    if (alpha === 0 || alpha === 255) continue
    for (let c = pixel; c < pixel + channels - 1; c++) {
      data[c] = Math.min(255, Math.trunc((255 * data[c]!) / alpha))
    }
  }
  return { ...image, data }
}
