import { checkInteger } from '../check.ts'
import type { Pixels } from '../data/pillow-resize.ts'
import { toUint8 } from '../data/to-uint8.ts'
import { checkImages, type ImageBatch } from '../tensor.ts'

/** How a grid looks. */
export interface GridOptions {
  /** Pictures in a row. Default: as square as possible. */
  columns?: number
  /** Pixels between pictures, before enlargement. Default 2. */
  gap?: number
  /** Each pixel becomes scale x scale. Default 1. */
  scale?: number
  /** Grey level of the gaps, 0 to 255. Default 255. */
  background?: number
}

/**
 * Lays a batch out as one picture, row by row.
 *
 * @param images - uint8 or float32 in [-1, 1] (truncated as guided-diffusion saves samples), [N, C, H, W], C 1 to 4
 * @returns [H, W, C] for `writePng`
 */
export function imageGrid(images: ImageBatch, options: GridOptions = {}): Pixels {
  checkImages('imageGrid', 'images', images)
  const [n, channels, h, w] = images.shape
  checkInteger('imageGrid', 'images.shape (C)', channels, 1, 4)
  const { columns = Math.ceil(Math.sqrt(n)), gap = 2, scale = 1, background = 255 } = options
  checkInteger('imageGrid', 'columns', columns, 1)
  checkInteger('imageGrid', 'gap', gap, 0)
  checkInteger('imageGrid', 'scale', scale, 1, 64)
  checkInteger('imageGrid', 'background', background, 0, 255)
  const rows = Math.ceil(n / columns)
  const width = (gap + columns * (w + gap)) * scale
  const height = (gap + rows * (h + gap)) * scale
  const bytes = images.data instanceof Uint8Array ? images.data : toUint8(images.data)
  const out = new Uint8Array(width * height * channels).fill(background)
  for (let i = 0; i < n; i++) {
    const top = (gap + Math.floor(i / columns) * (h + gap)) * scale
    const left = (gap + (i % columns) * (w + gap)) * scale
    for (let y = 0; y < h * scale; y++) {
      const sourceRow = Math.floor(y / scale) * w
      for (let x = 0; x < w * scale; x++) {
        const target = ((top + y) * width + left + x) * channels
        const source = i * channels * h * w + sourceRow + Math.floor(x / scale)
        for (let c = 0; c < channels; c++) out[target + c] = bytes[source + c * h * w]!
      }
    }
  }
  return { data: out, width, height, channels }
}

/** One image of a batch as pixels for `writePng`: [C, H, W] to [H, W, C]. */
export function onePicture(images: ImageBatch, index: number): Pixels {
  const [n, c, h, w] = images.shape
  checkInteger('onePicture', 'index', index, 0, n - 1)
  const data = images.data.slice(index * c * h * w, (index + 1) * c * h * w) as ImageBatch['data']
  return imageGrid({ data, shape: [1, c, h, w] }, { gap: 0 })
}
