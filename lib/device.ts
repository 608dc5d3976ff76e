import { checkInteger } from './check.ts'
import { type MemoryCount, native } from './native.ts'

export type { MemoryCount } from './native.ts'

/** `cpu`, `cuda`, or `cuda:1` and so on. */
export type Device = 'cpu' | 'cuda' | `cuda:${number}`

/**
 * Sets how many threads LibTorch uses for one operation. Results differ in their last bits from one count to another,
 * so a run keeps the count that it began with.
 */
export async function setThreads(count: number): Promise<void> {
  checkInteger('setThreads', 'count', count, 1, 1024)
  await native().threadsSet(count)
}

/** Versions, libraries, threads and CUDA as the native core sees them. */
export async function runtimeInfo(): Promise<Record<string, string>> {
  return native().runtimeInfo()
}

/** Tensors and bytes that the native core holds now. */
export function memoryCount(): MemoryCount {
  return native().memoryCount()
}

/** Counts the next peak of `memoryCount().peakBytes` from what is alive now. */
export async function resetPeakMemory(): Promise<void> {
  await native().memoryResetPeak()
}

/** Throws what is missing (driver, CUDA LibTorch or device) when `device` cannot be used. */
export async function checkDevice(device: Device): Promise<void> {
  await native().deviceCheck(device)
}
