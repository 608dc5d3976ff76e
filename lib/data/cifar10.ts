import { readdir, stat } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import { checkKnownOptions, checkOneOf } from '../check.ts'
import { DataError } from '../errors.ts'
import { type ImageDataset, inMemory } from './dataset.ts'
import { readBinary } from './read-binary.ts'

/** CIFAR-10's classes in the order of their labels. */
export const CIFAR10_CLASSES = 'airplane automobile bird cat deer dog frog horse ship truck'.split(' ')

const RECORD = 1 + 3 * 32 * 32 // label, then red, green and blue planes
const WHOLE = 60_000 * RECORD // all of CIFAR-10: no gzip file of it is larger

/** Options of `cifar10`. */
export interface Cifar10Options {
  /** `train`: data_batch_1 to 5 (default), `test`: test_batch. Only for a folder. */
  split?: 'train' | 'test'
}

/**
 * CIFAR-10, binary version (Krizhevsky 2009; no licence is stated by its authors): 32x32 RGB, ten classes.
 *
 * @param source - the folder with data_batch_1.bin ..., the one above it, or one .bin file
 * @throws DataError that says where a file is wrong, what was expected and what was found
 */
export async function cifar10(source: string, options: Cifar10Options = {}): Promise<ImageDataset> {
  checkKnownOptions('cifar10', options, ['split'])
  const { split = 'train' } = options
  checkOneOf('cifar10', 'split', split, ['train', 'test'] as const)
  const files = await filesOf(source, split)
  const parts = await Promise.all(files.map(readBatch))
  const count = parts.reduce((sum, part) => sum + part.length / RECORD, 0)
  const data = new Uint8Array(count * (RECORD - 1))
  const labels = new Uint8Array(count)
  let index = 0
  for (const part of parts) {
    for (let begin = 0; begin < part.length; begin += RECORD, index++) {
      labels[index] = part[begin]!
      data.set(part.subarray(begin + 1, begin + RECORD), index * (RECORD - 1))
    }
  }
  return inMemory({ data, shape: [count, 3, 32, 32], labels, classNames: CIFAR10_CLASSES, name: source })
}

async function filesOf(source: string, split: 'train' | 'test'): Promise<string[]> {
  const status = await stat(source).catch((cause: NodeJS.ErrnoException) => {
    throw new DataError(`cifar10: expected source to be readable, got ${cause.code} for ${source}`, source, {
      cause,
    })
  })
  if (!status.isDirectory()) return [source]
  const wanted = split === 'train' ? /^data_batch_\d+\.bin$/ : /^test_batch\.bin$/
  for (const folder of [source, join(source, 'cifar-10-batches-bin')]) {
    const names = (await readdir(folder).catch(() => [])).filter((name) => wanted.test(name)).sort()
    if (names.length > 0) return names.map((name) => join(folder, name))
  }
  const what = split === 'train' ? 'data_batch_1.bin to data_batch_5.bin' : 'test_batch.bin'
  throw new DataError(`cifar10: expected ${source} to hold ${what}, got none of them`, source)
}

async function readBatch(file: string): Promise<Uint8Array> {
  const bytes = await readBinary('cifar10', file, () => WHOLE)
  const name = join(basename(dirname(file)), basename(file))
  if (bytes.length === 0 || bytes.length % RECORD !== 0) {
    const rest = `${bytes.length} bytes (${Math.floor(bytes.length / RECORD)} records and ${bytes.length % RECORD} bytes)`
    throw new DataError(
      `cifar10: expected ${name} to hold whole records of ${RECORD} bytes, got ${rest}`,
      file,
    )
  }
  for (let begin = 0; begin < bytes.length; begin += RECORD) {
    if (bytes[begin]! > 9) {
      const where = `record ${begin / RECORD} of ${name} (byte ${begin})`
      throw new DataError(
        `cifar10: expected ${where} to start with a label in [0, 9], got ${bytes[begin]}`,
        file,
      )
    }
  }
  return bytes
}
