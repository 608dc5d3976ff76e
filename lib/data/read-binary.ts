import { type FileHandle, readFile } from 'node:fs/promises'
import { createGunzip } from 'node:zlib'
import { DataError } from '../errors.ts'

/** The most bytes a read asks for. */
const CHUNK = 2 ** 24

/**
 * A whole file, unpacked when it is gzip; every failure names the file.
 *
 * @param mostBytes - the most bytes that a gzip file may unpack to, told by its first 16 KiB (less only of a smaller file)
 */
export async function readBinary(
  call: string,
  file: string,
  mostBytes: (head: Buffer) => number,
): Promise<Buffer> {
  let bytes: Buffer
  try {
    bytes = await readFile(file)
  } catch (cause) {
    const { code } = cause as NodeJS.ErrnoException
    throw new DataError(`${call}: expected file to be readable, got ${code} for ${file}`, file, { cause })
  }
  if (bytes[0] !== 0x1f || bytes[1] !== 0x8b) return bytes
  const chunks: Buffer[] = []
  let length = 0
  let most: number | undefined
  try {
    const unpacked = createGunzip({ chunkSize: 2 ** 14 })
    unpacked.end(bytes)
    for await (const chunk of unpacked as AsyncIterable<Buffer>) {
      chunks.push(chunk)
      length += chunk.length
      most ??= mostBytes(chunk)
      if (length > most) {
        throw new DataError(`${call}: expected ${file} to unpack to at most ${most} bytes, got more`, file)
      }
    }
    return Buffer.concat(chunks, length)
  } catch (cause) {
    if (cause instanceof DataError) throw cause
    const reason = (cause as Error).message
    throw new DataError(`${call}: expected ${file} to be a whole gzip file, got "${reason}"`, file, { cause })
  }
}

/** Fills `out` from a place in a file; a read may give less than it is asked for. Returns fewer bytes only at the file's end. */
export async function readFully(
  handle: Pick<FileHandle, 'read'>,
  out: Uint8Array,
  position: number,
): Promise<number> {
  let at = 0
  while (at < out.length) {
    const { bytesRead } = await handle.read(out, at, Math.min(CHUNK, out.length - at), position + at)
    if (bytesRead === 0) break
    at += bytesRead
  }
  return at
}
