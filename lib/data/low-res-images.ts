import { readFile, stat } from 'node:fs/promises'
import { basename, extname, join } from 'node:path'
import { DataError } from '../errors.ts'
import type { ImageBatch, ImageShape } from '../tensor.ts'
import { centerCrop } from './center-crop.ts'
import { decodeImage, loadSharp, toChannels, toPlanes } from './decode.ts'
import { IMAGE_EXTENSIONS, listImages } from './list-images.ts'
import { openDataset } from './open.ts'
import { lowResTwin } from './super-resolution.ts'

/** What `lowResImages` reads. */
export interface LowResOptions {
  readonly channels: number
  /** [height, width] of the images that the network makes. */
  readonly size: readonly [height: number, width: number]
  /** How many times smaller the low-resolution images are; without it all images are taken as they are. */
  readonly factor?: number | undefined
  /** At most so many images, from the first on. */
  readonly count: number
}

/** Images to make larger. */
export interface LowResImages {
  /** [N, C, h, w] */
  readonly lowRes: NonNullable<ImageBatch['lowRes']>
  /** The images of which `lowRes` was made, [N, C, H, W], where it was. */
  readonly original?: ImageBatch
  /** [N] classes, where the source has them. */
  readonly labels?: Int32Array
  /** Images of the source in all. */
  readonly available: number
}

const CALL = 'lowResImages'

interface Picture {
  readonly data: Uint8Array
  readonly height: number
  readonly width: number
}

/**
 * Reads images for super-resolution from one picture, a folder of pictures, a .npz file or any other data set that
 * `openDataset` knows. An image of the low-resolution size is taken as it is; a larger one is treated as in training:
 * cropped to the size that the network makes (pictures only), then shrunk by area.
 *
 * @throws DataError for images that do not decode, are too small, or differ in kind
 * @example
 * const { lowRes } = await lowResImages('small', { channels: 3, size: [64, 64], factor: 4, count: 16 })
 */
export async function lowResImages(source: string, options: LowResOptions): Promise<LowResImages> {
  const { channels, size, factor, count } = options
  const { pictures, labels, available } = await read(source, channels, count, (picture) =>
    factor === undefined || isLow(picture) ? picture : cropped(picture),
  )
  function isLow({ height, width }: Picture): boolean {
    return factor !== undefined && height === size[0] / factor && width === size[1] / factor
  }
  function cropped(picture: Picture & { readonly file: string }): Picture {
    const { height, width, file } = picture
    if (height < size[0] || width < size[1]) throw wrongSize(file, picture)
    const pixels = centerCrop({ data: picture.data, height, width, channels }, size)
    return { ...pixels, data: pixels.data }
  }
  function wrongSize(name: string, { height, width }: Picture): DataError {
    const low = factor === undefined ? '' : `${size[0] / factor} x ${size[1] / factor}, or `
    const what = `${low}${size[0]} x ${size[1]} to be shrunk first`
    return new DataError(`${CALL}: expected ${name} to be ${what}, got ${height} x ${width}`, name)
  }

  const [first] = pictures as [Picture]
  const other = pictures.findIndex(({ height, width }) => height !== first.height || width !== first.width)
  if (other !== -1) {
    const shown = ({ height, width }: Picture) => `${height} x ${width}`
    throw new DataError(
      `${CALL}: expected the images of ${source} to be all small or all large, got image 0 with ${shown(first)} and image ${other} with ${shown(pictures[other] as Picture)}`,
      source,
    )
  }
  const shape: ImageShape = [pictures.length, channels, first.height, first.width]
  const data = new Uint8Array(shape[0] * shape[1] * shape[2] * shape[3])
  for (const [i, picture] of pictures.entries()) data.set(picture.data, i * picture.data.length)
  const batch = { data, shape }
  const rest = { ...(labels && { labels }), available }
  if (factor === undefined || isLow(first)) return { lowRes: batch, ...rest }
  if (first.height !== size[0] || first.width !== size[1]) throw wrongSize(source, first)
  return { lowRes: lowResTwin(batch, factor), original: batch, ...rest }
}

/** Pictures as [C, H, W]; `prepare` sees those of files as [H, W, C] first, because only they may be cropped. */
async function read(
  source: string,
  channels: number,
  count: number,
  prepare: (picture: Picture & { readonly file: string }) => Picture,
): Promise<{ pictures: Picture[]; labels?: Int32Array; available: number }> {
  const files = await pictureFiles(source)
  if (files) {
    const sharp = await loadSharp(CALL)
    const pictures: Picture[] = []
    for (const file of files.slice(0, count)) {
      const decoded = await readFile(file)
        .then((bytes) => decodeImage(bytes, sharp))
        .catch((cause: Error) => {
          const reason = String(cause.message).split('\n')[0]
          throw new DataError(
            `${CALL}: expected ${file} to be a picture that decodes, got "${reason}"`,
            file,
            {
              cause,
            },
          )
        })
      const keepsAlpha = channels === 2 || channels === 4
      const picture = prepare({ ...toChannels(decoded, channels, keepsAlpha ? 'keep' : 'drop'), file })
      pictures.push({ ...picture, data: toPlanes({ ...picture, channels }) })
    }
    return { pictures, available: files.length }
  }
  const dataset = await openDataset(source)
  if (dataset.channels !== channels) {
    throw new DataError(
      `${CALL}: expected ${source} to have ${channels} channels, as the network, got ${dataset.channels}`,
      source,
    )
  }
  const { height, width, length } = dataset
  const indices = Array.from({ length: Math.min(count, length) }, (_, i) => i)
  const images = await Promise.all(indices.map((index) => dataset.image(index)))
  const { label } = dataset
  return {
    pictures: images.map((data) => ({ data, height, width })),
    ...(label && { labels: Int32Array.from(indices, (index) => label(index)) }),
    available: length,
  }
}

/** The picture, or the pictures of the folder; undefined when the source is neither. */
async function pictureFiles(source: string): Promise<string[] | undefined> {
  const status = await stat(source).catch(() => undefined)
  if (status?.isFile()) {
    const extension = extname(basename(source)).slice(1).toLowerCase()
    return (IMAGE_EXTENSIONS as readonly string[]).includes(extension) ? [source] : undefined
  }
  if (!status?.isDirectory()) return undefined
  const files = (await listImages(CALL, source)).map(({ path }) => join(source, path))
  return files.length > 0 ? files : undefined
}
