import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setImmediate as pause } from 'node:timers/promises'
import { DataError } from '../errors.ts'
import type { RandomStream } from '../random.ts'
import { centerCropSliced, halveForRandomCrop, randomCropSliced, type Size } from './center-crop.ts'
import { type AlphaMode, decodeImage, loadSharp, toChannels, toPlanes } from './decode.ts'
import type { ImageFile } from './list-images.ts'
import type { Pixels, Sliced } from './pillow-resize.ts'

/** How files become images; `imageFolder` explains each. */
export interface SourceSettings {
  readonly size: Size
  readonly channels: number
  readonly alpha: AlphaMode
  readonly crop: 'center' | 'random'
  readonly badFiles: 'error' | 'skip'
  readonly cacheBytes: number
  readonly concurrency: number
  readonly onProgress: ((done: number, total: number) => void) | undefined
  readonly signal: AbortSignal | undefined
}

/** Reads files into cropped images, a few at a time, and keeps what fits into the memory it may use. */
export class FileSource {
  private readonly memory = new Map<string, Pixels | Uint8Array>()
  private freeBytes: number
  private running = 0
  private readonly waiting: (() => void)[] = []

  constructor(
    private readonly folder: string,
    private readonly settings: SourceSettings,
  ) {
    this.freeBytes = settings.cacheBytes
  }

  /** One image, [C, H, W]; a random crop when `random` is given. */
  async read(path: string, random?: RandomStream): Promise<Uint8Array> {
    const { crop, size } = this.settings
    const known = this.memory.get(path)
    if (known instanceof Uint8Array) return known
    const pixels = known ?? (await this.decode(path))
    const cropped = random ? randomCropSliced(pixels, size, random) : centerCropSliced(pixels, size)
    const image = await inSlices(cropped).then(toPlanes, (cause: Error) => {
      throw this.unfit(path, `that can be cropped to ${size.join('x')}`, cause)
    })
    if (!known) this.keep(path, crop === 'random' ? pixels : image)
    return image
  }

  /** Every image once, in order of the list; bad files are an error or skipped, by option. */
  async readAll(
    files: readonly ImageFile[],
    write?: (image: Uint8Array) => Promise<void>,
  ): Promise<{ files: number[]; skipped: { file: string; reason: string }[] }> {
    const { badFiles, concurrency, onProgress, signal } = this.settings
    const kept: number[] = []
    const skipped: { file: string; reason: string }[] = []
    const ahead: Promise<Uint8Array | DataError>[] = []
    let started = 0
    for (const [i, { path }] of files.entries()) {
      signal?.throwIfAborted()
      for (; started < files.length && ahead.length < 2 * concurrency; started++) {
        ahead.push(this.read(files[started]!.path).catch((error: DataError) => error))
      }
      const image = await ahead.shift()!
      if (image instanceof Uint8Array) {
        kept.push(i)
        await write?.(image)
      } else if (!(image instanceof DataError) || !image.file || isOfDisk(image)) throw image
      else if (badFiles === 'error') throw withWayOut(image)
      else skipped.push({ file: path, reason: (image.cause as Error).message })
      onProgress?.(i + 1, files.length)
    }
    return { files: kept, skipped }
  }

  private async decode(path: string): Promise<Pixels> {
    const sharp = await loadSharp('imageFolder')
    if (this.running >= this.settings.concurrency) {
      await new Promise<void>((resolve) => this.waiting.push(resolve)) // the place is handed over, `running` stays
    } else this.running++
    try {
      const { channels, alpha, crop, size } = this.settings
      const file = join(this.folder, path)
      const bytes = await readFile(file).catch((cause: NodeJS.ErrnoException) => {
        throw new DataError(`imageFolder: expected ${file} to be readable, got ${cause.code}`, file, {
          cause,
        })
      })
      try {
        const pixels = toChannels(await decodeImage(bytes, sharp), channels, alpha)
        return crop === 'random' ? await inSlices(halveForRandomCrop(pixels, size)) : pixels
      } catch (cause) {
        throw this.unfit(path, 'that decodes', cause as Error)
      }
    } finally {
      const next = this.waiting.shift()
      if (next) next()
      else this.running--
    }
  }

  private unfit(path: string, what: string, cause: Error): DataError {
    const file = join(this.folder, path)
    const reason = String(cause.message).split('\n')[0]
    return new DataError(`imageFolder: expected ${file} to be a picture ${what}, got "${reason}"`, file, {
      cause,
    })
  }

  /** Kept until the memory is spent and never evicted: with a new order every epoch, older is not less useful. */
  private keep(path: string, image: Pixels | Uint8Array): void {
    const bytes = image instanceof Uint8Array ? image.byteLength : image.data.byteLength
    if (this.memory.has(path) || bytes > this.freeBytes) return
    this.freeBytes -= bytes
    this.memory.set(path, image)
  }
}

/** Whether a file could not be read, whatever is in it: the next time it may be, so that it is never skipped. */
function isOfDisk({ cause }: DataError): boolean {
  return cause instanceof Error && 'syscall' in cause
}

/** Says how to go on without the file. */
function withWayOut({ message, file, cause }: DataError): DataError {
  return new DataError(`${message}; badFiles skip leaves such files out`, file, { cause })
}

/** Runs sliced work with visits to the event loop between the slices. */
async function inSlices<T>(work: Sliced<T>): Promise<T> {
  for (;;) {
    const result = work.next()
    if (result.done) return result.value
    await pause()
  }
}
