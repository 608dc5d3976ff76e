import { argumentError, checkInteger } from './check.ts'

/** Shape of a batch of images: examples, channels, height, width. Layout is always NCHW. */
export type ImageShape = readonly [n: number, c: number, h: number, w: number]

/**
 * A batch of images in host memory.
 *
 * `data` is uint8 in 0..255, or float32 in [-1, 1]; both are [N, C, H, W], row-major.
 */
export interface ImageBatch {
  readonly data: Uint8Array | Float32Array
  readonly shape: ImageShape
  /** Class of each image, shape [N]; only for class-conditional networks. */
  readonly labels?: Int32Array
  /** Low-resolution companions for super-resolution, [N, C, h, w], same kind of data. */
  readonly lowRes?: { readonly data: Uint8Array | Float32Array; readonly shape: ImageShape }
}

/** A tensor in host memory, as it is read from and written to safetensors files. */
export interface HostTensor {
  readonly dtype: 'float32' | 'float64' | 'int32' | 'int64' | 'uint8'
  readonly shape: readonly number[]
  readonly data: Float32Array | Float64Array | Int32Array | BigInt64Array | Uint8Array
}

/** The number of elements of a shape. */
export function elementCount(shape: readonly number[]): number {
  return shape.reduce((product, size) => product * size, 1)
}

/** Checks the sizes of a tensor. */
export function checkShape(call: string, name: string, shape: unknown): asserts shape is readonly number[] {
  if (!Array.isArray(shape)) throw argumentError(call, name, 'a list of sizes', shape, { kind: 'type' })
  for (const [i, size] of shape.entries()) checkInteger(call, `${name}[${i}]`, size, 1)
  if (elementCount(shape) > 2 ** 32) throw argumentError(call, name, 'a tensor of at most 2^32 values', shape)
}

/** Of values of float images; far above what normalised ones hold, and below 255. */
const LARGEST = 64

/** Checks shape and data of a batch; NaN, and values that were not scaled, are looked for in float data. */
export function checkImages(call: string, name: string, images: ImageBatch): void {
  if (images === null || typeof images !== 'object') {
    throw argumentError(call, name, 'a batch of images', images, { kind: 'type' })
  }
  const { data, shape } = images
  if (!(data instanceof Uint8Array) && !(data instanceof Float32Array)) {
    throw argumentError(call, `${name}.data`, 'a Uint8Array (0..255) or a Float32Array ([-1, 1])', data, {
      kind: 'type',
    })
  }
  if (!Array.isArray(shape) || shape.length !== 4) {
    throw argumentError(call, `${name}.shape`, '[N, C, H, W]', shape, { kind: 'type' })
  }
  const names = ['N', 'C', 'H', 'W']
  for (const [i, size] of (shape as readonly number[]).entries())
    checkInteger(call, `${name}.shape (${names[i]})`, size, 1)
  if (data.length !== elementCount(shape)) {
    throw argumentError(
      call,
      `${name}.data`,
      `${elementCount(shape)} values for shape [${shape.join(', ')}]`,
      data,
    )
  }
  if (data instanceof Float32Array) {
    for (let i = 0; i < data.length; i++) {
      const value = data[i] as number
      if (!Number.isFinite(value)) throw argumentError(call, `${name}.data[${i}]`, 'finite', value)
      if (Math.abs(value) > LARGEST) {
        const hint = 'scale the images, or give 0..255 as a Uint8Array, which is scaled to [-1, 1]'
        throw argumentError(call, `${name}.data[${i}]`, 'about in [-1, 1]', value, { hint })
      }
    }
  }
}
