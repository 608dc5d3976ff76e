import { DataError } from '../errors.ts'
import type { Pixels } from './pillow-resize.ts'

/** What `import('sharp')` gives, in both builds. */
export type Sharp = typeof import('sharp', { with: { 'resolution-mode': 'import' }})['default']

/** What becomes of the alpha channel: forgotten, blended with white or black, or kept as the last channel. */
export type AlphaMode = 'drop' | 'white' | 'black' | 'keep'

let loaded: Promise<Sharp> | undefined

/**
 * The package sharp, loaded when the first image is decoded.
 *
 * @throws DataError that says how to install it
 */
export function loadSharp(call: string): Promise<Sharp> {
  loaded ??= import('sharp').then((module) => module.default)
  return loaded.catch((cause: unknown) => {
    loaded = undefined
    throw sharpMissing(call, cause)
  })
}

/** The error for a package sharp that is missing or does not load. */
export function sharpMissing(call: string, cause: unknown): DataError {
  const reason = String((cause as Error)?.message ?? cause).split('\n')[0]
  return new DataError(
    `${call}: expected the package sharp, which decodes images, to load, got "${reason}"; npm install sharp`,
    undefined,
    { cause },
  )
}

/**
 * Decodes PNG, JPEG, WebP, GIF (first frame) or AVIF to 8 bits a channel, turned upright by its EXIF orientation.
 * Colour profiles and gamma are not applied, as in Pillow; 16-bit values keep their upper 8 bits;
 * CMYK becomes RGB by the decoder's own rule, which is not Pillow's.
 *
 * @param bytes - the whole file
 * @returns [H, W, channels] as the file has them (1 to 4)
 * @throws Error of the decoder; the caller names the file
 */
export async function decodeImage(bytes: Uint8Array, sharp: Sharp): Promise<Pixels> {
  const { data, info } = await sharp(bytes, { failOn: 'error', autoOrient: true, ignoreIcc: true })
    .raw({ depth: 'uchar' })
    .toBuffer({ resolveWithObject: true })
  return {
    data: new Uint8Array(data.buffer, data.byteOffset, data.byteLength),
    width: info.width,
    height: info.height,
    channels: info.channels,
  }
}

/**
 * Brings an image to the wanted channels. Grey is Pillow's luma `(19595 R + 38470 G + 7471 B + 32768) >> 16`; a missing
 * alpha is opaque.
 *
 * @param channels - 1 grey, 2 grey and alpha, 3 RGB, 4 RGB and alpha
 */
export function toChannels(image: Pixels, channels: number, alphaMode: AlphaMode): Pixels {
  const { data, width, height, channels: from } = image
  const fromAlpha = from === 2 || from === 4
  if (from === channels && !fromAlpha) return image
  const toAlpha = channels === 2 || channels === 4
  const background = alphaMode === 'white' ? 255 : 0
  const blends = fromAlpha && (alphaMode === 'white' || alphaMode === 'black')
  const out = new Uint8Array(width * height * channels)
  for (let pixel = 0; pixel < width * height; pixel++) {
    const source = pixel * from
    const target = pixel * channels
    const alpha = fromAlpha ? data[source + from - 1]! : 255
    let red = data[source]!
    let green = from >= 3 ? data[source + 1]! : red
    let blue = from >= 3 ? data[source + 2]! : red
    if (blends && alpha < 255) {
      red = blend(red, alpha, background)
      green = blend(green, alpha, background)
      blue = blend(blue, alpha, background)
    }
    if (channels >= 3) {
      out[target] = red
      out[target + 1] = green
      out[target + 2] = blue
    } else {
      out[target] = from >= 3 ? (19595 * red + 38470 * green + 7471 * blue + 32768) >> 16 : red
    }
    if (toAlpha) out[target + channels - 1] = blends ? 255 : alpha
  }
  return { data: out, width, height, channels }
}

function blend(value: number, alpha: number, background: number): number {
  return Math.round((value * alpha + background * (255 - alpha)) / 255)
}

/** [H, W, C] to [C, H, W]. */
export function toPlanes({ data, width, height, channels }: Pixels): Uint8Array {
  if (channels === 1) return data
  const area = width * height
  const out = new Uint8Array(data.length)
  for (let pixel = 0; pixel < area; pixel++) {
    for (let c = 0; c < channels; c++) out[c * area + pixel] = data[pixel * channels + c]!
  }
  return out
}
