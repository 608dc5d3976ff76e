import { readFile } from 'node:fs/promises'
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
  const classes = await categories(packageDir, pictures.files)
  return { ...pictures, name: 'emoji', ...classes }
}

/** The package's categories (Food & Drink, Flags, …) as classes; variants of a picture have its category. */
async function categories(
  packageDir: string,
  files: readonly string[],
): Promise<Pick<ImageDataset, 'classNames' | 'label'>> {
  interface Entry {
    readonly image: string
    readonly category: string
    readonly skin_variations?: Readonly<Record<string, { readonly image: string }>>
  }
  const file = join(packageDir, 'emoji.json')
  const entries = await readFile(file, 'utf8')
    .then((text) => JSON.parse(text) as readonly Entry[])
    .catch((cause: Error) => {
      throw new DataError(`emojiPictures: expected ${file} to be readable JSON, got ${cause.message}`, file, {
        cause,
      })
    })
  const categoryOf = new Map<string, string>()
  for (const { image, category, skin_variations: variants = {} } of entries) {
    for (const name of [image, ...Object.values(variants).map((variant) => variant.image)]) {
      categoryOf.set(name, category)
    }
  }
  const named = files.map((name) => categoryOf.get(name) ?? 'Component')
  const classNames = [...new Set(named)].sort()
  const labels = named.map((name) => classNames.indexOf(name))
  return { classNames, label: (index) => labels[index] as number }
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
