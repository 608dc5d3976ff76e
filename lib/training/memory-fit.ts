import { estimateMemory, type MemoryEstimate } from '../analysis/memory-estimate.ts'
import type { UNetOptions } from '../model/unet.ts'
import type { RunConfig } from './run-config.ts'

/** What node and LibTorch take beside tensors, in bytes. */
export const PROCESS_BYTES = 350 * 2 ** 20

/** Options of a run that decide how much memory a step takes. */
type StepOptions = Pick<RunConfig, 'batchSize' | 'microBatch' | 'precision' | 'emaRates'>

/** The estimate for a training step of a run. */
export function stepMemory(
  network: UNetOptions,
  size: readonly [height: number, width: number],
  { batchSize, microBatch, precision, emaRates }: StepOptions,
): MemoryEstimate {
  const batch = Math.min(microBatch || batchSize, batchSize)
  return estimateMemory(network, { size, batch, precision, averageCount: emaRates.length })
}

/**
 * What to say where a step takes more memory than is free, with what would fit; undefined where it fits. Of fp16, and of LibTorch's
 * kernels, the estimate knows too little: they take more.
 *
 * @param freeBytes - before the network was made
 */
export function memoryWarning(
  network: UNetOptions,
  size: readonly [height: number, width: number],
  config: StepOptions,
  freeBytes: number,
): string | undefined {
  const needs = (options: UNetOptions, microBatch: number): number =>
    stepMemory(options, size, { ...config, microBatch }).totalBytes + PROCESS_BYTES
  const needed = needs(network, config.microBatch)
  if (needed <= freeBytes) return undefined
  const batch = Math.min(config.microBatch || config.batchSize, config.batchSize)
  const smaller = Array.from({ length: Math.ceil(Math.log2(batch)) }, (_, k) => 2 ** k).reverse()
  let advice = 'not even one image at once would fit: take smaller images or a smaller network'
  for (const options of network.recompute ? [network] : [network, { ...network, recompute: true }]) {
    const fitting = [batch, ...smaller].find((microBatch) => needs(options, microBatch) <= freeBytes)
    if (fitting === undefined) continue
    const ways = [
      ...(fitting < batch ? [`microBatch ${fitting}`] : []),
      ...(options === network ? [] : ['recompute']),
    ]
    advice = `${ways.join(' and ')} takes about ${gigabytes(needs(options, fitting))}`
    break
  }
  return `a step needs about ${gigabytes(needed)} of memory and ${gigabytes(freeBytes)} are free, so that the system may kill the process; ${advice}`
}

/** Bytes in words. */
export const gigabytes = (bytes: number): string => `${(bytes / 2 ** 30).toFixed(1)} GiB`
