import { readFile } from 'node:fs/promises'
import { promisify } from 'node:util'
import { gunzip } from 'node:zlib'
import { DataError } from '../errors.ts'

/** A whole file, unpacked when it is gzip; every failure names the file. */
export async function readBinary(call: string, file: string): Promise<Buffer> {
  let bytes: Buffer
  try {
    bytes = await readFile(file)
  } catch (cause) {
    const { code } = cause as NodeJS.ErrnoException
    throw new DataError(`${call}: expected file to be readable, got ${code} for ${file}`, file, { cause })
  }
  if (bytes[0] !== 0x1f || bytes[1] !== 0x8b) return bytes
  try {
    return await promisify(gunzip)(bytes)
  } catch (cause) {
    const reason = (cause as Error).message
    throw new DataError(`${call}: expected ${file} to be a whole gzip file, got "${reason}"`, file, { cause })
  }
}
