import { basename, dirname, join } from 'node:path'
import { checkInteger, checkKnownOptions } from '../check.ts'
import { DataError } from '../errors.ts'
import { exists } from '../folder.ts'
import { type ImageDataset, inMemory } from './dataset.ts'
import { readBinary } from './read-binary.ts'

/** Options of `idx`. */
export interface IdxOptions {
  /** The file of labels; by default the one whose name has `labels-idx1` for `images-idx3`, when it is there. */
  labels?: string
  /** Use only the first images. */
  count?: number
}

/**
 * Images in MNIST's IDX format (grey, uint8), plain or gzip: `train-images-idx3-ubyte.gz` and the like.
 * Big-endian magic 0x00000803, N, H, W, then N * H * W bytes; labels 0x00000801, N, then N bytes.
 *
 * @throws DataError that says where the file is wrong, what was expected and what was found
 */
export async function idx(file: string, options: IdxOptions = {}): Promise<ImageDataset> {
  checkKnownOptions('idx', options, ['labels', 'count'])
  const images = await readIdx(file, 3)
  const [total, height, width] = images.shape as [number, number, number]
  const { count = total } = options
  checkInteger('idx', 'count', count, 1, total)
  const labelsFile = options.labels ?? (await siblingLabels(file))
  const labels = labelsFile === undefined ? undefined : await readIdx(labelsFile, 1)
  if (labels && labels.shape[0] !== total) {
    const counts = `${total} labels for the images in ${file}, got ${labels.shape[0]}`
    throw new DataError(`idx: expected ${labelsFile} to hold ${counts}`, labelsFile)
  }
  const classCount = labels ? labels.data.reduce((max, label) => Math.max(max, label), 0) + 1 : 0
  return inMemory({
    data: images.data.subarray(0, count * height * width),
    shape: [count, 1, height, width],
    name: file,
    ...(labels && {
      labels: labels.data.subarray(0, count),
      classNames: Array.from({ length: classCount }, (_, label) => String(label)),
    }),
  })
}

async function readIdx(file: string, rank: 1 | 3): Promise<{ data: Uint8Array; shape: number[] }> {
  const headerSize = 4 + 4 * rank
  const fail = (what: string, got: string) => new DataError(`idx: expected ${file} ${what}, got ${got}`, file)
  const shapeOf = (head: Buffer): number[] => {
    if (head.length < headerSize)
      throw fail(`to start with a header of ${headerSize} bytes`, `${head.length} bytes`)
    const magic = head.readUInt32BE(0)
    if (magic !== 0x800 + rank) {
      const kind = rank === 3 ? 'images (uint8, 3 dimensions)' : 'labels (uint8, 1 dimension)'
      throw fail(
        `to start with 0x0000080${rank}, the magic of IDX ${kind}`,
        `0x${magic.toString(16).padStart(8, '0')}`,
      )
    }
    const shape = Array.from({ length: rank }, (_, i) => head.readUInt32BE(4 + 4 * i))
    if (shape.includes(0)) throw fail('to hold at least one image', `shape [${shape.join(', ')}]`)
    return shape
  }
  const sizeOf = (shape: number[]) => shape.reduce((product, side) => product * side, 1)
  const bytes = await readBinary('idx', file, (head) => headerSize + sizeOf(shapeOf(head)))
  const shape = shapeOf(bytes)
  const size = sizeOf(shape)
  if (bytes.length !== headerSize + size) {
    throw fail(
      `to hold ${headerSize} + ${size} bytes for shape [${shape.join(', ')}]`,
      `${bytes.length} bytes`,
    )
  }
  return { data: new Uint8Array(bytes.buffer, bytes.byteOffset + headerSize, size), shape }
}

async function siblingLabels(file: string): Promise<string | undefined> {
  const name = basename(file)
  const sibling = name.replace('images-idx3', 'labels-idx1').replace('images.idx3', 'labels.idx1')
  if (sibling === name) return undefined
  const path = join(dirname(file), sibling)
  return (await exists(path)) ? path : undefined
}
