import { readdir, stat } from 'node:fs/promises'
import { basename, join } from 'node:path'
import { argumentError, checkKnownOptions, nearest } from '../check.ts'
import { DataError } from '../errors.ts'
import { type Cifar10Options, cifar10 } from './cifar10.ts'
import type { ImageDataset } from './dataset.ts'
import { type DigitsOptions, digits } from './digits.ts'
import { type EmojiOptions, emojiPictures } from './emoji.ts'
import { type IdxOptions, idx } from './idx.ts'
import { type ImageFolderOptions, imageFolder } from './image-folder.ts'
import { type NpzOptions, npz } from './npz.ts'

/** Options of `openDataset`: those of the source that is opened, others are refused by it. */
export type OpenOptions = DigitsOptions &
  Omit<EmojiOptions, 'size'> &
  Partial<ImageFolderOptions> &
  NpzOptions &
  Cifar10Options &
  Omit<IdxOptions, 'labels'>

const ACCEPTED = [
  'digits (comes with trislot)',
  'emoji (package emoji-datasource-google)',
  'a folder of images',
  'a .npz file',
  'a folder or .bin file of CIFAR-10',
  'an IDX file (…-idx3-ubyte, …-idx3-ubyte.gz)',
].join('; ')

/**
 * Opens images by one word: `digits`, `emoji`, a folder of pictures, a `.npz` file, CIFAR-10's binary folder or file,
 * or an IDX file.
 *
 * @param call - what messages of errors begin with
 * @param name - what they call the source
 * @throws DataError that lists what is accepted
 * @example
 * const dataset = await openDataset('flowers', { size: 64 })
 */
export async function openDataset(
  source: string,
  options: OpenOptions = {},
  call = 'openDataset',
  name = 'source',
): Promise<ImageDataset> {
  const unknown = (got: string) =>
    new DataError(`${call}: expected ${name} to be one of ${ACCEPTED}; got ${got}`, source)
  if (typeof source !== 'string' || source === '') {
    throw argumentError(call, name, `one of ${ACCEPTED}`, source, { kind: 'type' })
  }
  if (source === 'digits') return digits(options as DigitsOptions)
  if (source === 'emoji') return emojiPictures(options as EmojiOptions)
  const status = await stat(source).catch(() => undefined)
  if (!status) {
    const guess = nearest(source, ['digits', 'emoji'])
    const hint = guess ? ` (did you mean ${guess}?)` : ''
    throw unknown(`no such file or folder ${source}${hint}`)
  }
  if (status.isDirectory()) {
    if (await isCifarFolder(source)) return cifar10(source, options)
    if (options.size === undefined) {
      const hint = 'for example 64'
      throw argumentError('openDataset', 'size', 'given for a folder of images', options.size, {
        kind: 'type',
        hint,
      })
    }
    return imageFolder(source, options as ImageFolderOptions)
  }
  const file = basename(source).toLowerCase()
  if (file.endsWith('.npz')) return npz(source, options)
  if (file.endsWith('.bin')) return cifar10(source, options)
  if (/idx3|\.idx(\.gz)?$/.test(file)) {
    checkKnownOptions('openDataset', options, ['count'])
    return idx(source, options as IdxOptions)
  }
  throw unknown(`the file ${source}`)
}

/** @internal Whether `openDataset` takes it for a folder of pictures: a folder that is not CIFAR-10's. */
export async function isPictureFolder(source: string): Promise<boolean> {
  if (source === 'digits' || source === 'emoji') return false
  const status = await stat(source).catch(() => undefined)
  return status?.isDirectory() === true && !(await isCifarFolder(source))
}

async function isCifarFolder(folder: string): Promise<boolean> {
  for (const path of [folder, join(folder, 'cifar-10-batches-bin')]) {
    const names = await readdir(path).catch(() => [])
    if (names.some((name) => /^(data_batch_\d+|test_batch)\.bin$/.test(name))) return true
  }
  return false
}
