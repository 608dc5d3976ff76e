import { checkImages, type ImageBatch } from '../tensor.ts'

/**
 * Variance of the pixels of some images in [-1, 1] around the mean image: what a Gaussian model has to be given to be
 * compared with a network on these images.
 */
export function pixelVariance(images: ImageBatch): number {
  checkImages('pixelVariance', 'images', images)
  const [count] = images.shape
  const size = images.data.length / count
  const isBytes = images.data instanceof Uint8Array
  let total = 0
  for (let pixel = 0; pixel < size; pixel++) {
    let [sum, squares] = [0, 0]
    for (let i = 0; i < count; i++) {
      const raw = images.data[i * size + pixel]!
      const value = isBytes ? raw / 127.5 - 1 : raw
      sum += value
      squares += value * value
    }
    total += squares / count - (sum / count) ** 2
  }
  return (total / size) * (count > 1 ? count / (count - 1) : 1)
}
