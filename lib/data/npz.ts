import { join } from 'node:path'
import { checkInteger, checkKnownOptions, checkOneOf } from '../check.ts'
import { DataError } from '../errors.ts'
import type { ImageBatch } from '../tensor.ts'
import { type ImageDataset, inMemory } from './dataset.ts'
import { bytesOf, type NpyArray, npyType, readNpy, readNpyHeader } from './npy.ts'
import { writeNpzStream } from './npz-stream.ts'
import { toUint8 } from './to-uint8.ts'
import { openZip } from './zip.ts'

/** Larger labels are identifiers or times: nobody has so many classes, and their names would fill the memory. */
const MOST_CLASSES = 1_000_000

/** Options of `npz`. */
export interface NpzOptions {
  /** Order of the axes of `arr_0`; `auto` (default) takes the last axis for channels when it is 1 to 4, else the second. */
  layout?: 'auto' | 'NHWC' | 'NCHW'
  /** What floating-point values mean. Default `[-1, 1]`. Images become uint8, rounded. */
  floatRange?: '[-1, 1]' | '[0, 1]' | '[0, 255]'
}

/**
 * Images from a .npz file as numpy and guided-diffusion write them: `arr_0` images (uint8 or floating point),
 * `arr_1`, if there, the integer labels.
 *
 * @throws DataError for damaged or truncated files, object arrays, other shapes, values out of range
 */
export async function npz(file: string, options: NpzOptions = {}): Promise<ImageDataset> {
  checkKnownOptions('npz', options, ['layout', 'floatRange'])
  const { layout = 'auto', floatRange = '[-1, 1]' } = options
  checkOneOf('npz', 'layout', layout, ['auto', 'NHWC', 'NCHW'] as const)
  checkOneOf('npz', 'floatRange', floatRange, ['[-1, 1]', '[0, 1]', '[0, 255]'] as const)
  const arrays = await readNpz(file, ['arr_0', 'arr_1'])
  const images = arrays.get('arr_0')!
  const fail = (what: string, got: string) =>
    new DataError(`npz: expected ${what} in ${file}, got ${got}`, file)
  const shown = `(${images.shape.join(', ')})`
  const [n, a, b, c] = images.shape as [number, number, number, number]
  if (images.shape.length !== 4 || n * a * b * c === 0) {
    throw fail('arr_0 to have the shape (N, H, W, C) or (N, C, H, W)', shown)
  }
  const isNhwc = layout === 'NHWC' || (layout === 'auto' && c <= 4)
  const [channels, height, width] = isNhwc ? [c, a, b] : [a, b, c]
  if (channels > 4)
    throw fail(`arr_0 to have 1 to 4 channels${layout === 'auto' ? '' : ` as ${layout}`}`, shown)
  const values = toBytes(images.data, floatRange, fail)
  const labels = arrays.get('arr_1')
  if (labels && (labels.shape.length !== 1 || labels.shape[0] !== n)) {
    throw fail(`arr_1 to have the shape (${n}), one label an image`, `(${labels.shape.join(', ')})`)
  }
  const given = labels && Array.from(labels.data as ArrayLike<number | bigint>, Number)
  const wrong =
    given?.findIndex((label) => !(Number.isInteger(label) && label >= 0 && label < MOST_CLASSES)) ?? -1
  if (wrong !== -1) {
    throw fail(
      `arr_1[${wrong}] to be a label, a whole number in [0, ${MOST_CLASSES - 1}]`,
      String(given![wrong]),
    )
  }
  const numbers = given && Int32Array.from(given)
  const classCount = numbers ? numbers.reduce((max, label) => Math.max(max, label), 0) + 1 : 0
  return inMemory({
    data: isNhwc ? nhwcToNchw(values, n, height * width, channels) : values,
    shape: [n, channels, height, width],
    name: file,
    ...(numbers && {
      labels: numbers,
      classNames: Array.from({ length: classCount }, (_, label) => String(label)),
    }),
  })
}

/** Images of an open file. */
export interface NpzOnDisk extends ImageDataset {
  /** Closes the file; images cannot be read any more. */
  close(): Promise<void>
}

/**
 * The images of a .npz file, read from the file one by one: for files larger than memory. `arr_0` is uint8 [N, H, W, C], as
 * guided-diffusion's samples and reference batches. A compressed file is read whole; the checksum of a stored one is not
 * compared.
 *
 * @throws DataError as `npz`
 */
export async function npzOnDisk(file: string): Promise<NpzOnDisk> {
  const call = 'npzOnDisk'
  const zip = await openZip(call, file)
  try {
    const name = 'arr_0.npy'
    if (!zip.names.includes(name)) {
      throw new DataError(
        `${call}: expected ${file} to hold arr_0, got ${zip.names.join(', ') || 'nothing'}`,
        file,
      )
    }
    const place = await zip.stored(name)
    if (!place) {
      await zip.close()
      return { ...(await npz(file)), close: async () => {} }
    }
    const head = await zip.bytes(place.begin, Math.min(place.size, 4096))
    const { type, shape, length } = readNpyHeader(call, `arr_0 of ${file}`, head)
    const [n, height, width, channels] = shape as [number, number, number, number]
    const size = height * width * channels
    if (type !== '|u1' || shape.length !== 4 || !(channels >= 1 && channels <= 4) || n * size === 0) {
      const got = `${type} (${shape.join(', ')})`
      throw new DataError(`${call}: expected arr_0 of ${file} to be uint8 (N, H, W, C), got ${got}`, file)
    }
    if (place.size !== length + n * size) {
      const what = `arr_0 of ${file} to hold ${n * size} bytes for shape (${shape.join(', ')})`
      throw new DataError(`${call}: expected ${what}, got ${place.size - length}`, file)
    }
    return {
      name: file,
      length: n,
      channels,
      height,
      width,
      async image(index) {
        checkInteger('dataset.image', 'index', index, 0, n - 1)
        const bytes = await zip.bytes(place.begin + length + index * size, size)
        return nhwcToNchw(bytes, 1, height * width, channels)
      },
      close: () => zip.close(),
    }
  } catch (error) {
    await zip.close()
    throw error
  }
}

/** The arrays of a .npz file by name; the first of `wanted` must be there. */
export async function readNpz(file: string, wanted: readonly string[]): Promise<Map<string, NpyArray>> {
  const zip = await openZip('npz', file)
  try {
    const names = zip.names.filter((name) => name.endsWith('.npy')).map((name) => name.slice(0, -4))
    if (!names.includes(wanted[0]!)) {
      throw new DataError(
        `npz: expected ${file} to hold ${wanted[0]}, got ${names.join(', ') || 'no .npy file'}`,
        file,
      )
    }
    const arrays = new Map<string, NpyArray>()
    for (const name of wanted.filter((name) => names.includes(name))) {
      arrays.set(name, readNpy('npz', `${name} of ${file}`, await zip.read(`${name}.npy`)))
    }
    return arrays
  } finally {
    await zip.close()
  }
}

/**
 * Writes samples as guided-diffusion does: `samples_{N}x{H}x{W}x{C}.npz` with `arr_0` uint8 [N, H, W, C] and, with
 * labels, `arr_1` int64 [N]. Float images become uint8 by truncation. The file appears whole or not at all.
 *
 * @returns the path of the file
 */
export async function writeSamplesNpz(folder: string, images: ImageBatch): Promise<string> {
  const [n, c, h, w] = images.shape
  const bytes = images.data instanceof Uint8Array ? images.data : toUint8(images.data)
  const arrays: Record<string, NpyArray> = {
    arr_0: { data: nchwToNhwc(bytes, n, h * w, c), shape: [n, h, w, c] },
    ...(images.labels && { arr_1: { data: BigInt64Array.from(images.labels, BigInt), shape: [n] } }),
  }
  const file = join(folder, `samples_${n}x${h}x${w}x${c}.npz`)
  await writeNpz(file, arrays)
  return file
}

/** Writes named arrays as `np.savez` does (stored, not compressed), whole or not at all. */
export async function writeNpz(file: string, arrays: Record<string, NpyArray>): Promise<void> {
  const streams = Object.entries(arrays).map(([name, { data, shape }]) => {
    return [name, { type: npyType(data), shape, chunks: [bytesOf(data)] }] as const
  })
  await writeNpzStream(file, Object.fromEntries(streams))
}

function toBytes(
  data: NpyArray['data'],
  range: NonNullable<NpzOptions['floatRange']>,
  fail: (what: string, got: string) => DataError,
): Uint8Array {
  if (data instanceof Uint8Array) return data
  if (!(data instanceof Float32Array || data instanceof Float64Array)) {
    throw fail('arr_0 to hold uint8, float32 or float64', data.constructor.name)
  }
  const [low, high] = JSON.parse(range) as [number, number]
  const out = new Uint8Array(data.length)
  for (let i = 0; i < data.length; i++) {
    const value = data[i]!
    if (!(value >= low && value <= high)) {
      throw fail(`value ${i} of arr_0 to be in ${range} (option floatRange)`, String(value))
    }
    out[i] = Math.round(((value - low) / (high - low)) * 255)
  }
  return out
}

/** [N, area, C] to [N, C, area]. */
function nhwcToNchw(data: Uint8Array, n: number, area: number, channels: number): Uint8Array {
  if (channels === 1) return data
  const out = new Uint8Array(data.length)
  let source = 0
  for (let i = 0; i < n; i++) {
    for (let pixel = 0; pixel < area; pixel++) {
      for (let c = 0; c < channels; c++) out[(i * channels + c) * area + pixel] = data[source++]!
    }
  }
  return out
}

/** [N, C, area] to [N, area, C]. */
export function nchwToNhwc(data: Uint8Array, n: number, area: number, channels: number): Uint8Array {
  if (channels === 1) return data
  const out = new Uint8Array(data.length)
  let target = 0
  for (let i = 0; i < n; i++) {
    for (let pixel = 0; pixel < area; pixel++) {
      for (let c = 0; c < channels; c++) out[target++] = data[(i * channels + c) * area + pixel]!
    }
  }
  return out
}
