import { type FileHandle, open } from 'node:fs/promises'
import { promisify } from 'node:util'
import { inflateRaw } from 'node:zlib'
import { DataError } from '../errors.ts'
import { crc32 } from './crc32.ts'
import { readFully } from './read-binary.ts'

/** One file inside a zip file. */
interface ZipEntry {
  readonly name: string
  readonly method: number
  readonly crc: number
  readonly packedSize: number
  readonly size: number
  readonly headerOffset: number
}

/** A zip file that is open for reading. */
export interface ZipFile {
  readonly names: readonly string[]
  /** The unpacked bytes of an entry; length and CRC are checked. */
  read(name: string): Promise<Uint8Array>
  /** Where an entry lies in the file when it is stored as it is, undefined when it is compressed; its CRC is not checked. */
  stored(name: string): Promise<{ readonly begin: number; readonly size: number } | undefined>
  /** Bytes of the file itself. */
  bytes(begin: number, length: number): Promise<Buffer>
  close(): Promise<void>
}

/**
 * Opens a zip file (stored or deflated entries, also zip64), as numpy's `savez` writes them.
 *
 * @throws DataError that says what was expected and where
 */
export async function openZip(call: string, file: string): Promise<ZipFile> {
  const handle = await open(file).catch((cause: NodeJS.ErrnoException) => {
    throw new DataError(`${call}: expected file to be readable, got ${cause.code} for ${file}`, file, {
      cause,
    })
  })
  const fail = (what: string, got: string | number) =>
    new DataError(`${call}: expected ${file} ${what}, got ${got}`, file)
  try {
    const entries = new Map((await readDirectory(handle, fail)).map((entry) => [entry.name, entry]))
    return {
      names: [...entries.keys()],
      read: (name) => readEntry(handle, entries.get(name)!, fail),
      stored: async (name) => {
        const entry = entries.get(name)!
        if (entry.method !== 0) return undefined
        return { begin: await contentOf(handle, entry, fail), size: entry.size }
      },
      bytes: (begin, length) => readAt(handle, begin, length, fail),
      close: () => handle.close(),
    }
  } catch (error) {
    await handle.close()
    throw error instanceof RangeError ? fail('to have a whole zip directory', 'a damaged one') : error
  }
}

type Fail = (what: string, got: string | number) => DataError

async function readDirectory(handle: FileHandle, fail: Fail): Promise<ZipEntry[]> {
  const { size } = await handle.stat()
  const tailSize = Math.min(size, 22 + 65535 + 20)
  const tail = await readAt(handle, size - tailSize, tailSize, fail)
  const end = tail.lastIndexOf(Buffer.from('PK\x05\x06', 'latin1'))
  if (end === -1)
    throw fail(
      'to end with a zip directory',
      `${size} bytes without one; the file is cut short or no zip file`,
    )
  let count = tail.readUInt16LE(end + 10)
  let length = tail.readUInt32LE(end + 12)
  let begin = tail.readUInt32LE(end + 16)
  if (end >= 20 && tail.readUInt32LE(end - 20) === 0x07064b50) {
    const record = await readAt(handle, Number(tail.readBigUInt64LE(end - 12)), 56, fail)
    count = Number(record.readBigUInt64LE(32))
    length = Number(record.readBigUInt64LE(40))
    begin = Number(record.readBigUInt64LE(48))
  }
  if (begin + length > size) throw fail(`to hold its zip directory at byte ${begin}`, `${size} bytes`)
  const directory = await readAt(handle, begin, length, fail)
  const entries: ZipEntry[] = []
  for (let at = 0, i = 0; i < count; i++) {
    if (directory.readUInt32LE(at) !== 0x02014b50)
      throw fail('to have a whole zip directory', 'a damaged one')
    const nameLength = directory.readUInt16LE(at + 28)
    const extraLength = directory.readUInt16LE(at + 30)
    const commentLength = directory.readUInt16LE(at + 32)
    const extra = directory.subarray(at + 46 + nameLength, at + 46 + nameLength + extraLength)
    const wide = zip64Values(extra)
    const value = (offset: number) => {
      const narrow = directory.readUInt32LE(at + offset)
      return narrow === 0xffffffff && wide.length > 0 ? wide.shift()! : narrow
    }
    const size = value(24) // the order of the zip64 values: size, packed size, offset
    const packedSize = value(20)
    entries.push({
      name: directory.toString('utf8', at + 46, at + 46 + nameLength),
      method: directory.readUInt16LE(at + 10),
      crc: directory.readUInt32LE(at + 16),
      packedSize,
      size,
      headerOffset: value(42),
    })
    at += 46 + nameLength + extraLength + commentLength
  }
  return entries
}

function zip64Values(extra: Buffer): number[] {
  for (let at = 0; at + 4 <= extra.length; at += 4 + extra.readUInt16LE(at + 2)) {
    if (extra.readUInt16LE(at) !== 1) continue
    const count = extra.readUInt16LE(at + 2) >> 3
    return Array.from({ length: count }, (_, i) => Number(extra.readBigUInt64LE(at + 4 + 8 * i)))
  }
  return []
}

async function readEntry(handle: FileHandle, entry: ZipEntry, fail: Fail): Promise<Uint8Array> {
  const { name, method, packedSize, size } = entry
  const begin = await contentOf(handle, entry, fail)
  let bytes: Uint8Array = await readAt(handle, begin, packedSize, fail)
  if (method === 8) {
    try {
      bytes = await promisify(inflateRaw)(bytes, { maxOutputLength: Math.max(size, 1) })
    } catch (cause) {
      throw fail(`to hold a whole ${name}`, `"${(cause as Error).message}"`)
    }
  } else if (method !== 0) throw fail(`to hold ${name} stored or deflated`, `compression method ${method}`)
  if (bytes.length !== size) throw fail(`to hold ${size} bytes of ${name}`, `${bytes.length}`)
  if (crc32(bytes) !== entry.crc) throw fail(`to hold ${name} unchanged`, 'another CRC; the file is damaged')
  return bytes
}

/** Where the content of an entry begins. */
async function contentOf(handle: FileHandle, { name, headerOffset }: ZipEntry, fail: Fail): Promise<number> {
  const header = await readAt(handle, headerOffset, 30, fail)
  if (header.readUInt32LE(0) !== 0x04034b50)
    throw fail(`to hold ${name} at byte ${headerOffset}`, 'no zip header there')
  return headerOffset + 30 + header.readUInt16LE(26) + header.readUInt16LE(28)
}

async function readAt(handle: FileHandle, position: number, length: number, fail: Fail): Promise<Buffer> {
  const { size } = await handle.stat()
  if (position < 0 || position + length > size) {
    throw fail(`to be at least ${position + length} bytes long`, `${size}; the file is cut short`)
  }
  const out = Buffer.allocUnsafe(length)
  const bytesRead = await readFully(handle, out, position)
  if (bytesRead < length)
    throw fail(`to hold byte ${position + bytesRead}`, 'its end; the file was cut short meanwhile')
  return out
}
