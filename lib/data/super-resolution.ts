import { argumentError, checkInteger } from '../check.ts'
import type { ImageBatch, ImageShape } from '../tensor.ts'
import { description, type ImageDataset } from './dataset.ts'

/**
 * The same data set, whose batches also carry `lowRes`, the low-resolution twin of each (flipped, cropped) image.
 *
 * @param factor - how many times smaller, in each direction; divides height and width
 */
export function withLowRes(dataset: ImageDataset, factor: number): ImageDataset {
  checkFactor('withLowRes', dataset.height, dataset.width, factor)
  return {
    ...description(dataset),
    lowResFactor: factor,
    image: (index, random) => dataset.image(index, random),
    ...(dataset.label && { label: (index: number) => dataset.label!(index) }),
  }
}

/**
 * Area interpolation of the normalised image: the mean of each factor x factor block of `x / 127.5 - 1`.
 * It is what guided-diffusion's super_res_train feeds as `low_res` (`F.interpolate(mode='area')`).
 *
 * @param images - uint8 in 0..255 or float32 in [-1, 1], [N, C, H, W]
 * @returns float32 in [-1, 1], [N, C, H / factor, W / factor]
 */
export function lowResTwin(
  images: Pick<ImageBatch, 'data' | 'shape'>,
  factor: number,
): { data: Float32Array; shape: ImageShape } {
  const [n, c, h, w] = images.shape
  checkFactor('lowResTwin', h, w, factor)
  const [height, width] = [h / factor, w / factor]
  const { data } = images
  const area = factor * factor
  const isUint8 = data instanceof Uint8Array
  const out = new Float32Array(n * c * height * width)
  let position = 0
  for (let plane = 0; plane < n * c; plane++) {
    for (let y = 0; y < height; y++) {
      for (let x = 0; x < width; x++) {
        const corner = plane * h * w + y * factor * w + x * factor
        let sum = 0
        for (let row = 0; row < factor; row++) {
          for (let column = 0; column < factor; column++) sum += data[corner + row * w + column]!
        }
        out[position++] = isUint8 ? sum / (area * 127.5) - 1 : sum / area
      }
    }
  }
  return { data: out, shape: [n, c, height, width] }
}

function checkFactor(call: string, height: number, width: number, factor: number): void {
  checkInteger(call, 'factor', factor, 2)
  if (height % factor !== 0 || width % factor !== 0) {
    throw argumentError(call, 'factor', `a divisor of height (${height}) and width (${width})`, factor)
  }
}
