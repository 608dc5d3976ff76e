import { checkInteger } from '../check.ts'
import type { ImageBatch } from '../tensor.ts'

/** The images [begin, end) of a batch, with their classes and low-resolution companions; data are shared, not copied. */
export function imagesBetween(images: ImageBatch, begin: number, end: number): ImageBatch {
  const call = 'imagesBetween'
  checkInteger(call, 'begin', begin, 0, images.shape[0])
  checkInteger(call, 'end', end, begin + 1, images.shape[0])
  const cut = ({ data, shape: [n, c, h, w] }: Pick<ImageBatch, 'data' | 'shape'>) => {
    const size = data.length / n
    return { data: data.subarray(begin * size, end * size), shape: [end - begin, c, h, w] as const }
  }
  const { labels, lowRes } = images
  return {
    ...cut(images),
    ...(labels && { labels: labels.subarray(begin, end) }),
    ...(lowRes && { lowRes: cut(lowRes) }),
  }
}
