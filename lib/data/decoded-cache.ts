// A file of decoded images, so that a second run does not decode again. Layout: magic, the images (raw uint8
// [N, C, H, W]), JSON { files, skipped }, the length of that JSON (uint32, little-endian).

import { createHash, randomUUID } from 'node:crypto'
import { open, readFile, rename, rm } from 'node:fs/promises'
import { basename, dirname, join, resolve } from 'node:path'
import { DataError } from '../errors.ts'
import { makeFolder } from '../folder.ts'
import type { ImageFile } from './list-images.ts'
import { readFully } from './read-binary.ts'

const MAGIC = Buffer.from('trislot images 1\n', 'latin1')

/** What must be the same for decoded images to be used again. */
export interface CacheKey {
  readonly files: readonly ImageFile[]
  readonly [option: string]: unknown
}

/** Decoded images of a folder. */
export interface DecodedImages {
  readonly files: readonly string[]
  readonly skipped: readonly { readonly file: string; readonly reason: string }[]
  image(index: number): Promise<Uint8Array> | Uint8Array
}

/** Name of the cache file for a folder: changes with file names, sizes, times of change and options. */
export function cacheFile(cacheDir: string, folder: string, key: CacheKey): string {
  const hash = createHash('sha256')
    .update(MAGIC)
    .update(JSON.stringify([resolve(folder), key]))
    .digest('hex')
  return join(cacheDir, `${basename(resolve(folder))}-${hash.slice(0, 16)}.u8`)
}

/**
 * Opens a cache file; undefined when there is none or it is not whole.
 *
 * @param imageBytes - bytes of one image
 * @param memoryBytes - a file that fits is held in memory, a larger one is read image by image
 */
export async function openCache(
  path: string,
  imageBytes: number,
  memoryBytes: number,
): Promise<DecodedImages | undefined> {
  const handle = await open(path).catch(() => undefined)
  if (!handle) return undefined
  try {
    const { size } = await handle.stat()
    if (size < MAGIC.length + 4) return undefined
    const magic = Buffer.alloc(MAGIC.length)
    const tail = Buffer.alloc(4)
    await readFully(handle, magic, 0)
    await readFully(handle, tail, size - 4)
    const jsonBegin = size - 4 - tail.readUInt32LE()
    if (!magic.equals(MAGIC) || jsonBegin < MAGIC.length) return undefined
    const json = Buffer.alloc(size - 4 - jsonBegin)
    await readFully(handle, json, jsonBegin)
    const { files, skipped } = JSON.parse(json.toString('utf8')) as Pick<DecodedImages, 'files' | 'skipped'>
    const begin = MAGIC.length
    if (jsonBegin !== begin + files.length * imageBytes) return undefined
    if (size <= Math.min(memoryBytes, 2 ** 31 - 1)) {
      const data = (await readFile(path)).subarray(begin)
      return {
        files,
        skipped,
        image: (i) => new Uint8Array(data.subarray(i * imageBytes, (i + 1) * imageBytes)),
      }
    }
    return { files, skipped, image: (i) => readSlice(path, begin + i * imageBytes, imageBytes) }
  } catch {
    return undefined // unreadable: it is made again
  } finally {
    await handle.close()
  }
}

/**
 * Writes a cache file whole or not at all (a temporary sibling, synchronised, renamed) and opens it.
 *
 * @param decode - calls `write` with each good image in order, and says which files those were
 */
export async function writeCache(
  path: string,
  imageBytes: number,
  memoryBytes: number,
  files: readonly ImageFile[],
  decode: (
    write: (image: Uint8Array) => Promise<void>,
  ) => Promise<{ files: readonly number[]; skipped: DecodedImages['skipped'] }>,
): Promise<DecodedImages> {
  const temporary = `${path}.${randomUUID()}.tmp`
  try {
    await makeFolder(dirname(path))
    const handle = await open(temporary, 'wx')
    try {
      await handle.appendFile(MAGIC) // unlike `write`, never a part
      const result = await decode(async (image) => {
        await handle.appendFile(image)
      })
      const kept = result.files.map((i) => files[i]!.path)
      const json = Buffer.from(JSON.stringify({ files: kept, skipped: result.skipped }))
      const tail = Buffer.alloc(4)
      tail.writeUInt32LE(json.length)
      await handle.appendFile(Buffer.concat([json, tail]))
      await handle.sync()
    } finally {
      await handle.close()
    }
    await rename(temporary, path)
  } catch (cause) {
    await rm(temporary, { force: true }).catch(() => {})
    const { code, syscall } = cause as NodeJS.ErrnoException
    if (cause instanceof DataError || syscall === undefined) throw cause
    throw new DataError(`imageFolder: expected cacheDir to be writable, got ${code} for ${path}`, path, {
      cause,
    })
  }
  const opened = await openCache(path, imageBytes, memoryBytes)
  if (!opened)
    throw new DataError(`imageFolder: expected the cache file just written to open, got ${path}`, path)
  return opened
}

async function readSlice(path: string, position: number, length: number): Promise<Uint8Array> {
  const handle = await open(path)
  try {
    const image = new Uint8Array(length)
    const bytesRead = await readFully(handle, image, position)
    if (bytesRead !== length) {
      throw new DataError(
        `imageFolder: expected ${length} bytes at ${position} of ${path}, got ${bytesRead}`,
        path,
      )
    }
    return image
  } finally {
    await handle.close()
  }
}
