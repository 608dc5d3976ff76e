import { argumentError, checkInteger, checkKnownOptions, checkOneOf } from '../check.ts'
import { DataError } from '../errors.ts'
import type { RandomStream } from '../random.ts'
import type { Size } from './center-crop.ts'
import type { ImageDataset } from './dataset.ts'
import type { AlphaMode } from './decode.ts'
import { cacheFile, openCache, writeCache } from './decoded-cache.ts'
import { FileSource } from './file-source.ts'
import { type ImageFile, type LabelMode, labelFiles, listImages } from './list-images.ts'

/** How the pictures of a folder become images of one shape. */
export interface ImageFolderOptions {
  /** Size of the images: a number for square ones, or [height, width]. */
  size: number | Size
  /** 1 grey, 2 grey and alpha, 3 RGB (default), 4 RGB and alpha. */
  channels?: 1 | 2 | 3 | 4
  /** What becomes of alpha. Default `keep` with 2 or 4 channels, else `drop` (colour under transparency shows). */
  alpha?: AlphaMode
  /** Which part is taken; `random` is guided-diffusion's random crop, keyed by step and sample. Default `center`. */
  crop?: 'center' | 'random'
  /** Where classes come from. Default `none`. */
  labels?: LabelMode
  /** A file that does not decode, or is too thin to crop, is an error (default), or is left out and listed in `skipped`. */
  badFiles?: 'error' | 'skip'
  /** `decode` (default) decodes every file at the start and keeps what fits; `none` finds bad files when they are met. */
  check?: 'decode' | 'none'
  /** The fewest images that will do. Default 1. */
  minimumCount?: number
  /** Memory for decoded images, in bytes. Default 1 GiB. */
  cacheBytes?: number
  /** Folder for a file of decoded images, used again while files and options are the same; only with `crop: 'center'`. */
  cacheDir?: string
  /** Files decoded at the same time. Default 4. */
  concurrency?: number
  /** Told while files are decoded at the start. */
  onProgress?: (done: number, total: number) => void
  /** Ends the decoding at the start, with its reason as the error. */
  signal?: AbortSignal
}

/** The images of a folder; `skipped` says which files were left out and why. */
export interface ImageFolder extends ImageDataset {
  /** Path of each image relative to the folder. */
  readonly files: readonly string[]
  image(index: number, random?: RandomStream): Promise<Uint8Array>
  readonly skipped: readonly { readonly file: string; readonly reason: string }[]
}

const CALL = 'imageFolder'
const OPTIONS =
  'size channels alpha crop labels badFiles check minimumCount cacheBytes cacheDir concurrency onProgress signal'.split(
    ' ',
  )

/**
 * The pictures of a folder and its subfolders (PNG, JPEG, WebP, GIF, AVIF), cropped and resized exactly as
 * guided-diffusion does with Pillow. Decoded images are kept in memory up to `cacheBytes`.
 *
 * @throws DataError that names the folder or file: none found, too few, not decodable, without a class
 * @example
 * const dataset = await imageFolder('flowers', { size: 64, labels: 'folder', badFiles: 'skip' })
 */
export async function imageFolder(folder: string, options: ImageFolderOptions): Promise<ImageFolder> {
  const settings = resolve(folder, options)
  const { size, channels, crop, badFiles, minimumCount, cacheDir } = settings
  const listed = await listImages(CALL, folder)
  checkCount(folder, listed.length, minimumCount, '')

  const imageBytes = channels * size[0] * size[1]
  const cacheKey = { files: listed, size, channels, alpha: settings.alpha, badFiles }
  const cachePath = cacheDir && cacheFile(cacheDir, folder, cacheKey)
  const source = new FileSource(folder, cachePath ? { ...settings, cacheBytes: 0 } : settings)

  let kept: readonly ImageFile[] = listed
  let skipped: ImageFolder['skipped'] = []
  let image: ImageDataset['image'] | undefined
  if (cachePath) {
    const entry =
      (await openCache(cachePath, imageBytes, settings.cacheBytes)) ??
      (await writeCache(cachePath, imageBytes, settings.cacheBytes, listed, (write) =>
        source.readAll(listed, write),
      ))
    const byPath = new Map(listed.map((file) => [file.path, file]))
    kept = entry.files.map((path) => byPath.get(path)!)
    skipped = entry.skipped
    image = entry.image
  } else if (settings.check === 'decode') {
    const result = await source.readAll(listed)
    kept = result.files.map((i) => listed[i]!)
    skipped = result.skipped
  }
  checkCount(folder, kept.length, minimumCount, skipped.length ? ` (${skipped.length} skipped)` : '')

  const files = kept.map(({ path }) => path)
  const classes = settings.labels === 'none' ? undefined : labelFiles(CALL, folder, files, settings.labels)
  return {
    name: folder,
    length: files.length,
    channels,
    height: size[0],
    width: size[1],
    files,
    skipped,
    image: async (index, random) => {
      checkInteger('dataset.image', 'index', index, 0, files.length - 1)
      if (image) return image(index)
      return source.read(files[index]!, crop === 'random' ? random : undefined)
    },
    ...(classes && { classNames: classes.classNames, label: (index: number) => classes.labels[index]! }),
  }
}

function resolve(folder: string, options: ImageFolderOptions) {
  if (typeof folder !== 'string' || folder === '') {
    throw argumentError(CALL, 'folder', 'the path of a folder', folder, { kind: 'type' })
  }
  checkKnownOptions(CALL, options, OPTIONS)
  const size: Size = typeof options.size === 'number' ? [options.size, options.size] : options.size
  if (!Array.isArray(size) || size.length !== 2) {
    throw argumentError(CALL, 'size', 'a number of pixels or [height, width]', options.size, { kind: 'type' })
  }
  for (const side of size as Size) checkInteger(CALL, 'size', side, 1, 16384)
  const { channels = 3, crop = 'center', labels = 'none', badFiles = 'error', check = 'decode' } = options
  checkInteger(CALL, 'channels', channels, 1, 4)
  const keepsAlpha = channels === 2 || channels === 4
  const {
    alpha = keepsAlpha ? 'keep' : 'drop',
    minimumCount = 1,
    cacheBytes = 2 ** 30,
    concurrency = 4,
  } = options
  checkOneOf(CALL, 'alpha', alpha, ['drop', 'white', 'black', 'keep'] as const)
  if ((alpha === 'keep') !== keepsAlpha) {
    const words = keepsAlpha ? 'keep' : 'drop, white or black'
    throw argumentError(CALL, 'alpha', `${words} with ${channels} channels`, alpha)
  }
  checkOneOf(CALL, 'crop', crop, ['center', 'random'] as const)
  checkOneOf(CALL, 'labels', labels, ['none', 'folder', 'prefix'] as const)
  checkOneOf(CALL, 'badFiles', badFiles, ['error', 'skip'] as const)
  checkOneOf(CALL, 'check', check, ['decode', 'none'] as const)
  checkInteger(CALL, 'minimumCount', minimumCount, 1)
  checkInteger(CALL, 'cacheBytes', cacheBytes, 0)
  checkInteger(CALL, 'concurrency', concurrency, 1, 64)
  const { cacheDir, onProgress, signal } = options
  if (cacheDir !== undefined && crop === 'random') {
    throw argumentError(CALL, 'cacheDir', 'absent with crop random, whose images differ every time', cacheDir)
  }
  return {
    size,
    channels,
    alpha,
    crop,
    labels,
    badFiles,
    check,
    minimumCount,
    cacheBytes,
    concurrency,
    cacheDir,
    onProgress,
    signal,
  }
}

const SHOWN_SKIPPED = 3

/** @internal One line about the files that a folder, or a view of it, was opened without; undefined where there are none. */
export function skippedFiles({ skipped = [] }: ImageDataset): string | undefined {
  if (skipped.length === 0) return undefined
  const shown = skipped
    .slice(0, SHOWN_SKIPPED)
    .map(({ file, reason }) => `${file} (${reason.split('\n')[0]})`)
    .join(', ')
  const more = skipped.length > SHOWN_SKIPPED ? ', …' : ''
  return `${skipped.length} ${skipped.length === 1 ? 'file is' : 'files are'} left out: ${shown}${more}`
}

function checkCount(folder: string, count: number, minimum: number, note: string): void {
  if (count >= minimum) return
  const what = minimum === 1 ? 'hold at least 1 image' : `hold at least ${minimum} images`
  const kinds = 'PNG, JPEG, WebP, GIF or AVIF'
  throw new DataError(
    `${CALL}: expected ${folder} to ${what} (${kinds}), got ${count || 'none'}${note}`,
    folder,
  )
}
