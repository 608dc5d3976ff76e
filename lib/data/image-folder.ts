import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setImmediate as pause } from 'node:timers/promises'
import { argumentError, checkInteger, checkKnownOptions, checkOneOf } from '../check.ts'
import { DataError } from '../errors.ts'
import type { RandomStream } from '../random.ts'
import { centerCropSliced, halveForRandomCrop, randomCropSliced, type Size } from './center-crop.ts'
import type { ImageDataset } from './dataset.ts'
import { type AlphaMode, decodeImage, loadSharp, toChannels, toPlanes } from './decode.ts'
import { cacheFile, openCache, writeCache } from './decoded-cache.ts'
import { type ImageFile, type LabelMode, labelFiles, listImages } from './list-images.ts'
import type { Pixels, Sliced } from './pillow-resize.ts'

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
  /** A file that does not decode is an error (default), or is left out and listed in `skipped`. */
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
}

/** The images of a folder; `skipped` says which files were left out and why. */
export interface ImageFolder extends ImageDataset {
  /** Path of each image relative to the folder. */
  readonly files: readonly string[]
  readonly skipped: readonly { readonly file: string; readonly reason: string }[]
}

const CALL = 'imageFolder'
const OPTIONS =
  'size channels alpha crop labels badFiles check minimumCount cacheBytes cacheDir concurrency onProgress'.split(
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

type Settings = ReturnType<typeof resolve>

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
  const { cacheDir, onProgress } = options
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
  }
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

/** Reads files into cropped images, a few at a time, and keeps what fits into the memory it may use. */
class FileSource {
  private readonly memory = new Map<string, Pixels | Uint8Array>()
  private freeBytes: number
  private running = 0
  private readonly waiting: (() => void)[] = []

  constructor(
    private readonly folder: string,
    private readonly settings: Settings,
  ) {
    this.freeBytes = settings.cacheBytes
  }

  /** One image, [C, H, W]; a random crop when `random` is given. */
  async read(path: string, random?: RandomStream): Promise<Uint8Array> {
    const { crop, size } = this.settings
    const known = this.memory.get(path)
    if (known instanceof Uint8Array) return known
    const pixels = known ?? (await this.decode(path))
    const image = toPlanes(
      await inSlices(random ? randomCropSliced(pixels, size, random) : centerCropSliced(pixels, size)),
    )
    if (!known) this.keep(path, crop === 'random' ? pixels : image)
    return image
  }

  /** Every image once, in order of the list; bad files are an error or skipped, by option. */
  async readAll(
    files: readonly ImageFile[],
    write?: (image: Uint8Array) => Promise<void>,
  ): Promise<{ files: number[]; skipped: { file: string; reason: string }[] }> {
    const { badFiles, concurrency, onProgress } = this.settings
    const kept: number[] = []
    const skipped: { file: string; reason: string }[] = []
    const ahead: Promise<Uint8Array | DataError>[] = []
    let started = 0
    for (const [i, { path }] of files.entries()) {
      for (; started < files.length && ahead.length < 2 * concurrency; started++) {
        ahead.push(this.read(files[started]!.path).catch((error: DataError) => error))
      }
      const image = await ahead.shift()!
      if (image instanceof Uint8Array) {
        kept.push(i)
        await write?.(image)
      } else if (badFiles === 'error' || !(image instanceof DataError) || !image.file) throw image
      else skipped.push({ file: path, reason: (image.cause as Error).message })
      onProgress?.(i + 1, files.length)
    }
    return { files: kept, skipped }
  }

  private async decode(path: string): Promise<Pixels> {
    const sharp = await loadSharp(CALL)
    if (this.running >= this.settings.concurrency) {
      await new Promise<void>((resolve) => this.waiting.push(resolve)) // the place is handed over, `running` stays
    } else this.running++
    const file = join(this.folder, path)
    try {
      const { channels, alpha, crop, size } = this.settings
      const pixels = toChannels(await decodeImage(await readFile(file), sharp), channels, alpha)
      return crop === 'random' ? await inSlices(halveForRandomCrop(pixels, size)) : pixels
    } catch (cause) {
      const reason = String((cause as Error).message).split('\n')[0]
      throw new DataError(`${CALL}: expected ${file} to be a picture that decodes, got "${reason}"`, file, {
        cause,
      })
    } finally {
      const next = this.waiting.shift()
      if (next) next()
      else this.running--
    }
  }

  /** Kept until the memory is spent and never evicted: with a new order every epoch, older is not less useful. */
  private keep(path: string, image: Pixels | Uint8Array): void {
    const bytes = image instanceof Uint8Array ? image.byteLength : image.data.byteLength
    if (this.memory.has(path) || bytes > this.freeBytes) return
    this.freeBytes -= bytes
    this.memory.set(path, image)
  }
}

/** Runs sliced work with visits to the event loop between the slices. */
async function inSlices<T>(work: Sliced<T>): Promise<T> {
  for (;;) {
    const result = work.next()
    if (result.done) return result.value
    await pause()
  }
}
