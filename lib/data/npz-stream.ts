import { randomUUID } from 'node:crypto'
import { type FileHandle, open, rename, rm } from 'node:fs/promises'
import { DataError } from '../errors.ts'
import { crc32 } from './crc32.ts'
import { type NpyType, npyHeader } from './npy.ts'

/** An array whose values come in pieces. */
export interface NpyStream {
  readonly type: NpyType
  readonly shape: readonly number[]
  /** The values in C order, little-endian; together exactly what `shape` and `type` need. */
  readonly chunks: Iterable<Uint8Array> | AsyncIterable<Uint8Array>
}

interface Entry {
  readonly name: Buffer
  readonly offset: number
  readonly size: number
  readonly crc: number
}

const LIMIT_32 = 0xffffffff
const DATE_1980 = 0x0021 // the same in every file, so that the same arrays give the same bytes

/**
 * Writes named arrays as `np.savez` does (stored, not compressed; zip64 where it is needed), whole or not at all, holding
 * one piece at a time in memory.
 *
 * @throws DataError when the file cannot be written; errors of the pieces' source go through
 */
export async function writeNpzStream(file: string, arrays: Record<string, NpyStream>): Promise<void> {
  const temporary = `${file}.${randomUUID()}.tmp`
  try {
    const handle = await writable(open(temporary, 'wx'), file)
    try {
      const entries: Entry[] = []
      let offset = 0
      for (const [name, array] of Object.entries(arrays)) {
        const entry = await writeEntry(handle, file, `${name}.npy`, array, offset)
        entries.push(entry)
        offset += localHeader(entry).length + entry.size
      }
      await writable(writeAll(handle, directory(entries, offset), offset), file)
      await writable(handle.sync(), file)
    } finally {
      await handle.close()
    }
    await writable(rename(temporary, file), file)
  } catch (error) {
    await rm(temporary, { force: true }).catch(() => {})
    throw error
  }
}

async function writeEntry(
  handle: FileHandle,
  file: string,
  name: string,
  { type, shape, chunks }: NpyStream,
  offset: number,
): Promise<Entry> {
  const header = npyHeader(type, shape)
  const count = shape.reduce((product, side) => product * side, 1)
  const size = header.length + count * Number(type.at(-1))
  const entry = { name: Buffer.from(name, 'utf8'), offset, size, crc: 0 }
  const begin = offset + localHeader(entry).length
  await writable(writeAll(handle, header, begin), file)
  let crc = crc32(header)
  let done = header.length
  for await (const chunk of chunks) {
    if (done + chunk.length > size) throw wrongSize(name, size, done + chunk.length)
    await writable(writeAll(handle, chunk, begin + done), file)
    crc = crc32(chunk, crc)
    done += chunk.length
  }
  if (done !== size) throw wrongSize(name, size, done)
  await writable(writeAll(handle, localHeader({ ...entry, crc }), offset), file)
  return { ...entry, crc }
}

function wrongSize(name: string, size: number, got: number): RangeError {
  return new RangeError(`writeNpzStream: expected ${name} to have ${size} bytes, got ${got}`)
}

/** Zip's header in front of an entry. */
function localHeader({ name, size, crc }: Entry): Buffer {
  const extra = size >= LIMIT_32 ? wide(size, size) : Buffer.alloc(0)
  const out = Buffer.alloc(30)
  out.writeUInt32LE(0x04034b50, 0)
  common(out, 4, size, crc, name.length, extra.length)
  return Buffer.concat([out, name, extra])
}

function directory(entries: readonly Entry[], begin: number): Buffer {
  const parts = entries.map(({ name, offset, size, crc }) => {
    const values = [...(size >= LIMIT_32 ? [size, size] : []), ...(offset >= LIMIT_32 ? [offset] : [])]
    const extra = values.length > 0 ? wide(...values) : Buffer.alloc(0)
    const out = Buffer.alloc(46)
    out.writeUInt32LE(0x02014b50, 0)
    out.writeUInt16LE(45, 4) // made by zip 4.5
    common(out, 6, size, crc, name.length, extra.length)
    out.writeUInt32LE(Math.min(offset, LIMIT_32), 42)
    return Buffer.concat([out, name, extra])
  })
  const list = Buffer.concat(parts)
  const end = Buffer.alloc(22)
  end.writeUInt32LE(0x06054b50, 0)
  end.writeUInt16LE(entries.length, 8)
  end.writeUInt16LE(entries.length, 10)
  end.writeUInt32LE(list.length, 12)
  end.writeUInt32LE(Math.min(begin, LIMIT_32), 16)
  if (begin < LIMIT_32) return Buffer.concat([list, end])
  const record = Buffer.alloc(56)
  record.writeUInt32LE(0x06064b50, 0)
  record.writeBigUInt64LE(44n, 4)
  record.writeUInt16LE(45, 12)
  record.writeUInt16LE(45, 14)
  record.writeBigUInt64LE(BigInt(entries.length), 24)
  record.writeBigUInt64LE(BigInt(entries.length), 32)
  record.writeBigUInt64LE(BigInt(list.length), 40)
  record.writeBigUInt64LE(BigInt(begin), 48)
  const locator = Buffer.alloc(20)
  locator.writeUInt32LE(0x07064b50, 0)
  locator.writeBigUInt64LE(BigInt(begin + list.length), 8)
  locator.writeUInt32LE(1, 16)
  return Buffer.concat([list, record, locator, end])
}

/** Version, flags, method, time, date, CRC, sizes and lengths: the same fields in both kinds of header. */
function common(out: Buffer, at: number, size: number, crc: number, name: number, extra: number): void {
  out.writeUInt16LE(extra > 0 ? 45 : 20, at)
  out.writeUInt16LE(DATE_1980, at + 8)
  out.writeUInt32LE(crc, at + 10)
  out.writeUInt32LE(Math.min(size, LIMIT_32), at + 14)
  out.writeUInt32LE(Math.min(size, LIMIT_32), at + 18)
  out.writeUInt16LE(name, at + 22)
  out.writeUInt16LE(extra, at + 24)
}

/** The zip64 extra field. */
function wide(...values: number[]): Buffer {
  const out = Buffer.alloc(4 + 8 * values.length)
  out.writeUInt16LE(1, 0)
  out.writeUInt16LE(8 * values.length, 2)
  for (const [i, value] of values.entries()) out.writeBigUInt64LE(BigInt(value), 4 + 8 * i)
  return out
}

async function writeAll(handle: FileHandle, bytes: Uint8Array, position: number): Promise<void> {
  for (let at = 0; at < bytes.length; ) {
    const { bytesWritten } = await handle.write(bytes, at, bytes.length - at, position + at)
    at += bytesWritten
  }
}

async function writable<T>(work: Promise<T>, file: string): Promise<T> {
  try {
    return await work
  } catch (cause) {
    const { code, message } = cause as NodeJS.ErrnoException
    throw new DataError(`writeNpz: expected ${file} to be writable, got ${code ?? message}`, file, { cause })
  }
}
