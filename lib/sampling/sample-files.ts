// Many images in files: drawn in shards, so that a killed process loses at most one of them and memory holds one at a time.
import { createReadStream } from 'node:fs'
import { readFile, rm, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { isDeepStrictEqual } from 'node:util'
import { argumentError, checkInteger, show } from '../check.ts'
import { bytesOf } from '../data/npy.ts'
import { nchwToNhwc } from '../data/npz.ts'
import { type NpyStream, writeNpzStream } from '../data/npz-stream.ts'
import { toUint8 } from '../data/to-uint8.ts'
import { DataError } from '../errors.ts'
import { makeFolder, writeDurably } from '../folder.ts'
import { onePicture } from '../report/grid.ts'
import { encodePng } from '../report/png.ts'
import type { ImageBatch } from '../tensor.ts'
import type { JsonValue } from '../timesteps/sampler.ts'

/** Options of `drawSamplesNpz` and `drawSamplesPng`. */
export interface SampleFilesOptions {
  /** Where the files go; made when it is not there. */
  readonly folder: string
  readonly count: number
  readonly image: readonly [channels: number, height: number, width: number]
  /** Images of one shard: what is lost at most when the process is killed. */
  readonly shardSize: number
  /** Everything that decides what image k is: a later call with the same settings goes on, with others it is refused. */
  readonly settings: Readonly<Record<string, JsonValue>>
  /** Draws images `first` to `first + count - 1`. */
  readonly draw: (first: number, count: number) => Promise<ImageBatch>
  /** Class of image k, for `arr_1`. */
  readonly classOf?: ((k: number) => number) | undefined
  /** Called when a shard is there, also one from before: images in files, and how many of them were drawn now. */
  readonly onShard?: (done: number, drawnNow: number) => void
}

/**
 * Draws images into `samples_{N}x{H}x{W}x{C}.npz` as guided-diffusion writes it, in shards that survive the process.
 *
 * While it works, `samples_….parts/` holds the shards (uint8 [n, H, W, C]) and `samples_….json` the settings, which stays.
 * A call with the same settings takes the shards that are there and draws the rest, so that the file is, byte for byte,
 * that of a call that was never stopped; when the file is there already, nothing is drawn.
 *
 * @returns the path of the file
 * @throws DataError when the folder holds samples of other settings, or cannot be written
 */
export async function drawSamplesNpz(options: SampleFilesOptions): Promise<string> {
  const call = 'drawSamplesNpz'
  const { folder, count, image, shardSize, draw, classOf, onShard } = options
  checkInteger(call, 'count', count, 1)
  checkInteger(call, 'shardSize', shardSize, 1)
  const [channels, height, width] = image
  const base = join(folder, `samples_${count}x${height}x${width}x${channels}`)
  const file = `${base}.npz`
  const parts = `${base}.parts`
  const settings = { ...options.settings, count, image, shardSize }
  await claim(call, `${base}.json`, settings, folder, async () => {
    if (await isFile(file)) throw foreign(call, file)
    await rm(parts, { recursive: true, force: true }) // of settings that nobody knows any more
  })
  if (await isFile(file)) {
    await rm(parts, { recursive: true, force: true })
    onShard?.(count, 0)
    return file
  }
  await makeFolder(parts)
  const size = channels * height * width
  const files: string[] = []
  let drawn = 0
  for (let first = 0; first < count; first += shardSize) {
    const n = Math.min(shardSize, count - first)
    const part = join(parts, `${String(first).padStart(8, '0')}.bin`)
    if (!(await isFile(part, n * size))) {
      await writeWhole(part, toNhwc(call, await draw(first, n), [n, ...image]))
      drawn += n
    }
    files.push(part)
    onShard?.(first + n, drawn)
  }
  const arrays: Record<string, NpyStream> = {
    arr_0: { type: '|u1', shape: [count, height, width, channels], chunks: contents(files) },
  }
  if (classOf) {
    const labels = BigInt64Array.from({ length: count }, (_, k) => BigInt(classOf(k)))
    arrays.arr_1 = { type: '<i8', shape: [count], chunks: [bytesOf(labels)] }
  }
  await writeNpzStream(file, arrays)
  await rm(parts, { recursive: true, force: true })
  return file
}

/**
 * Draws images into `00000.png`, `00001.png`, … with the settings in `samples.json`, and goes on like `drawSamplesNpz`: a
 * shard whose pictures are all there is not drawn again.
 *
 * @returns the folder
 * @throws DataError as `drawSamplesNpz`
 */
export async function drawSamplesPng(options: SampleFilesOptions): Promise<string> {
  const call = 'drawSamplesPng'
  const { folder, count, image, shardSize, draw, onShard } = options
  checkInteger(call, 'count', count, 1)
  checkInteger(call, 'shardSize', shardSize, 1)
  const pictures = Array.from({ length: count }, (_, k) => join(folder, `${String(k).padStart(5, '0')}.png`))
  const settings = { ...options.settings, count, image, shardSize }
  await claim(call, join(folder, 'samples.json'), settings, folder, async () => {
    for (const file of pictures) if (await isFile(file)) throw foreign(call, file)
  })
  let drawn = 0
  for (let first = 0; first < count; first += shardSize) {
    const n = Math.min(shardSize, count - first)
    const files = pictures.slice(first, first + n)
    if (!(await Promise.all(files.map((file) => isFile(file)))).every(Boolean)) {
      const images = await draw(first, n)
      for (const [i, file] of files.entries()) await writeWhole(file, encodePng(onePicture(images, i)))
      drawn += n
    }
    onShard?.(first + n, drawn)
  }
  return folder
}

/** Compares the settings with those that are there; where none are, writes them after `beforeNew`. */
async function claim(
  call: string,
  file: string,
  settings: Readonly<Record<string, JsonValue>>,
  folder: string,
  beforeNew: () => Promise<void>,
): Promise<void> {
  await makeFolder(folder)
  const text = await readFile(file, 'utf8').catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return undefined
    throw new DataError(`${call}: expected ${file} to be readable, got ${error.code}`, file, { cause: error })
  })
  if (text === undefined) {
    await beforeNew()
    await writeWhole(file, Buffer.from(`${JSON.stringify(settings, undefined, 2)}\n`))
    return
  }
  let there: Record<string, JsonValue>
  try {
    there = JSON.parse(text)
  } catch (cause) {
    throw new DataError(`${call}: expected ${file} to be JSON, got ${(cause as Error).message}`, file, {
      cause,
    })
  }
  const wanted = JSON.parse(JSON.stringify(settings)) as Record<string, JsonValue>
  const others = [...new Set([...Object.keys(there), ...Object.keys(wanted)])].filter(
    (key) => !isDeepStrictEqual(there[key], wanted[key]),
  )
  if (others.length === 0) return
  const list = others.map((key) => `${key} ${show(wanted[key])} instead of ${show(there[key])}`)
  throw new DataError(
    `${call}: expected the settings of the samples in ${folder}, got ${list.join(', ')}; ` +
      `give the same again, choose another folder, or remove ${file} and what it belongs to`,
    file,
  )
}

function foreign(call: string, file: string): DataError {
  return new DataError(
    `${call}: expected ${file} to be absent or made by this command, got a file without its settings; choose another folder`,
    file,
  )
}

function toNhwc(call: string, { data, shape }: ImageBatch, expected: readonly number[]): Uint8Array {
  if (!isDeepStrictEqual(shape, expected)) {
    throw argumentError(call, 'draw', `a function that gives images [${expected.join(', ')}]`, shape)
  }
  const [n, c, h, w] = shape
  return nchwToNhwc(data instanceof Uint8Array ? data : toUint8(data), n, h * w, c)
}

async function* contents(files: readonly string[]): AsyncIterable<Uint8Array> {
  for (const file of files) {
    for await (const chunk of createReadStream(file, { highWaterMark: 2 ** 20 })) yield chunk as Buffer
  }
}

/** Under another name first, so that a file with its own name is whole. */
async function writeWhole(file: string, content: Uint8Array): Promise<void> {
  try {
    await writeDurably(file, content, `${file}.tmp`)
  } catch (cause) {
    const { code, message } = cause as NodeJS.ErrnoException
    throw new DataError(`drawSamplesNpz: expected ${file} to be writable, got ${code ?? message}`, file, {
      cause,
    })
  }
}

async function isFile(file: string, size?: number): Promise<boolean> {
  const found = await stat(file).catch(() => undefined)
  return found !== undefined && (size === undefined || found.size === size)
}
