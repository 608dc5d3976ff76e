import { writeFile } from 'node:fs/promises'
import { deflateSync } from 'node:zlib'
import { argumentError, checkInteger } from '../check.ts'
import { crc32 } from '../data/crc32.ts'
import type { Pixels } from '../data/pillow-resize.ts'

export { toUint8 } from '../data/to-uint8.ts'

const COLOUR_TYPES = [0, 4, 2, 6] // grey, grey and alpha, RGB, RGB and alpha
const SIGNATURE = Uint8Array.of(0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a)
const SUB = 1 // the filter that stores each byte less its left neighbour

/**
 * Encodes 8-bit pixels as PNG (W3C PNG, 8 bits a channel, not interlaced).
 *
 * @param picture - [H, W, channels], channels 1 grey, 2 grey and alpha, 3 RGB, 4 RGB and alpha
 */
export function encodePng({ data, width, height, channels }: Pixels): Uint8Array {
  checkInteger('encodePng', 'width', width, 1)
  checkInteger('encodePng', 'height', height, 1)
  checkInteger('encodePng', 'channels', channels, 1, 4)
  if (data.length !== width * height * channels) {
    const what = `${width * height * channels} values for ${height} x ${width} pixels of ${channels} channels`
    throw argumentError('encodePng', 'data', what, data)
  }
  const rowSize = width * channels
  const rows = new Uint8Array(height * (1 + rowSize))
  for (let y = 0; y < height; y++) {
    const target = y * (1 + rowSize) + 1
    const source = y * rowSize
    rows[target - 1] = SUB
    for (let i = 0; i < rowSize; i++) {
      rows[target + i] = data[source + i]! - (i < channels ? 0 : data[source + i - channels]!)
    }
  }
  const header = Buffer.alloc(13)
  header.writeUInt32BE(width, 0)
  header.writeUInt32BE(height, 4)
  header.set([8, COLOUR_TYPES[channels - 1]!, 0, 0, 0], 8)
  return Buffer.concat([
    SIGNATURE,
    chunk('IHDR', header),
    chunk('IDAT', deflateSync(rows)),
    chunk('IEND', new Uint8Array(0)),
  ])
}

/** Writes pixels to a PNG file. */
export async function writePng(file: string, picture: Pixels): Promise<void> {
  await writeFile(file, encodePng(picture))
}

function chunk(type: string, content: Uint8Array): Uint8Array {
  const out = Buffer.alloc(12 + content.length)
  out.writeUInt32BE(content.length, 0)
  out.write(type, 4, 'latin1')
  out.set(content, 8)
  out.writeUInt32BE(crc32(out.subarray(4, 8 + content.length)), 8 + content.length)
  return out
}
