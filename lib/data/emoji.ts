import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'
import { checkInteger, checkKnownOptions, checkOneOf } from '../check.ts'
import { DataError } from '../errors.ts'
import { packageRoot } from '../setup/paths.ts'
import type { ImageDataset } from './dataset.ts'
import { imageFolder } from './image-folder.ts'

/** Options of `emojiPictures`. */
export interface EmojiOptions {
  /** Height and width in pixels; the originals are 64x64. Default 64. */
  size?: number
  /** What shows through transparency. Default `white`. */
  background?: 'white' | 'black'
  /** The folder of the package emoji-datasource-google; by default it is looked for from the working folder. */
  packageDir?: string
}

/**
 * 3,786 real colour pictures, RGB, 64x64 unless resized: Noto Emoji by Google (Apache License 2.0) as packed in the
 * npm package `emoji-datasource-google` (C. Henderson, MIT licence), a development dependency that you install yourself.
 * Pictures are decoded when they are first asked for.
 *
 * @throws DataError that says how to install the package when it is missing
 */
export async function emojiPictures(options: EmojiOptions = {}): Promise<ImageDataset> {
  checkKnownOptions('emojiPictures', options, ['size', 'background', 'packageDir'])
  const { size = 64, background = 'white' } = options
  checkInteger('emojiPictures', 'size', size, 1, 64)
  checkOneOf('emojiPictures', 'background', background, ['white', 'black'] as const)
  const packageDir = options.packageDir ?? findPackage()
  const folder = packageDir && join(packageDir, 'img', 'google', '64')
  if (!folder) throw missing(undefined)
  const pictures = await imageFolder(folder, { size, alpha: background, check: 'none' }).catch(
    (error: unknown) => {
      throw error instanceof DataError && error.file === folder ? missing(error) : error
    },
  )
  return { ...pictures, name: 'emoji' }
}

function missing(cause: unknown): DataError {
  return new DataError(
    'emojiPictures: expected the package emoji-datasource-google to be installed, got none; npm install --save-dev emoji-datasource-google',
    undefined,
    { cause },
  )
}

function findPackage(): string | undefined {
  for (const from of [process.cwd(), packageRoot()]) {
    try {
      return dirname(
        createRequire(join(from, 'package.json')).resolve('emoji-datasource-google/package.json'),
      )
    } catch {}
  }
  return undefined
}
