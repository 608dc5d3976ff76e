import { checkInteger } from '../check.ts'
import type { ImageDataset } from '../data/dataset.ts'
import { DeviceTensor } from '../device-tensor.ts'
import { native } from '../native.ts'
import type { ImageBatch } from '../tensor.ts'

/** Every image once, in order; `done` counts them. */
export async function* readBatches(
  dataset: ImageDataset,
  batchSize: number,
  signal?: AbortSignal,
): AsyncGenerator<{ readonly images: ImageBatch; readonly done: number }> {
  checkInteger('readBatches', 'batchSize', batchSize, 1)
  const { length, channels, height, width } = dataset
  const size = channels * height * width
  for (let first = 0; first < length; first += batchSize) {
    signal?.throwIfAborted()
    const n = Math.min(batchSize, length - first)
    const data = new Uint8Array(n * size)
    for (let i = 0; i < n; i++) data.set(await dataset.image(first + i), i * size)
    yield { images: { data, shape: [n, channels, height, width] }, done: first + n }
  }
}

/** Tensors one below the other; they are disposed of. */
export async function concatenated(parts: readonly DeviceTensor[]): Promise<DeviceTensor> {
  const whole = await native().tensorConcatenate(parts.map(({ handle }) => handle))
  for (const part of parts) part.dispose()
  return new DeviceTensor(whole)
}
