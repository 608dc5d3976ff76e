import { argumentError } from '../check.ts'
import { toUint8 } from '../data/to-uint8.ts'
import type { ImageBatch } from '../tensor.ts'

/**
 * Puts batches of the same pictures at different stages beside one another: image 0 of each, then image 1 of each, …, for
 * `imageGrid` with a multiple of `batches.length` columns. Smaller ones are enlarged to the size of the largest, pixel by
 * pixel.
 *
 * @param batches - each [N, C, h, w], uint8 or float32 in [-1, 1]; sizes divide the largest
 * @returns uint8, [N * batches.length, C, H, W]
 * @throws RangeError when their numbers, channels or sizes do not fit
 */
export function sideBySide(batches: readonly ImageBatch[]): ImageBatch {
  const height = Math.max(...batches.map(({ shape }) => shape[2]))
  const width = Math.max(...batches.map(({ shape }) => shape[3]))
  const [count, channels] = (batches[0] as ImageBatch).shape
  const size = channels * height * width
  const data = new Uint8Array(count * batches.length * size)
  for (const [column, batch] of batches.entries()) {
    const [n, c, h, w] = batch.shape
    if (n !== count || c !== channels || height % h !== 0 || width % w !== 0) {
      const what = `[${count}, ${channels}, h, w] with h a divisor of ${height} and w of ${width}`
      throw argumentError('sideBySide', `batches[${column}].shape`, what, batch.shape)
    }
    const bytes = batch.data instanceof Uint8Array ? batch.data : toUint8(batch.data)
    for (let plane = 0; plane < n * c; plane++) {
      const image = Math.floor(plane / c)
      const target = (image * batches.length + column) * size + (plane % c) * height * width
      for (let y = 0; y < height; y++) {
        const row = plane * h * w + Math.floor((y * h) / height) * w
        for (let x = 0; x < width; x++) {
          data[target + y * width + x] = bytes[row + Math.floor((x * w) / width)] as number
        }
      }
    }
  }
  return { data, shape: [count * batches.length, channels, height, width] }
}
