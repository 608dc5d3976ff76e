import { argumentError, checkInteger, checkOneOf } from './check.ts'
import { type Kernels, type MemoryCount, native, type Precision } from './native.ts'

export type { Kernels, MemoryCount } from './native.ts'

/** Kernels by name. */
export const KERNELS = ['fast', 'plain'] as const satisfies readonly Kernels[]

/** Number formats of the forward pass. */
export const PRECISIONS = ['fp32', 'bf16', 'fp16'] as const satisfies readonly Precision[]

/** `cpu`, `cuda`, or `cuda:1` and so on. */
export type Device = 'cpu' | 'cuda' | `cuda:${number}`

/** @internal A `Device`. */
export const DEVICE = /^(cpu|cuda(:\d+)?)$/

/** @internal Refuses what is no name of a device; `meta`, of tensors without values, is the library's own. */
export function checkDeviceName(call: string, device: unknown): asserts device is Device {
  if (typeof device === 'string' && (DEVICE.test(device) || device === 'meta')) return
  const kind = typeof device === 'string' ? 'range' : 'type'
  throw argumentError(call, 'device', 'cpu, cuda or cuda:N', device, { kind })
}

/**
 * Sets how many threads LibTorch uses for one operation. Results differ in their last bits from one count to another,
 * so a run keeps the count that it began with.
 */
export async function setThreads(count: number): Promise<void> {
  checkInteger('setThreads', 'count', count, 1, 1024)
  await native().threadsSet(count)
}

/**
 * Chooses the kernels of this process: `fast`, trislot's own, which are used on CPUs for images of two dimensions in
 * float32 and bfloat16 (the default), or `plain`, LibTorch's, which check them. Results differ in their last bits. The
 * environment variable TRISLOT_KERNELS=plain chooses before a script begins; `runtimeInfo().kernels` says what holds.
 *
 * @throws RangeError for another word
 */
export async function setKernels(kernels: Kernels): Promise<void> {
  checkOneOf('setKernels', 'kernels', kernels, KERNELS)
  await native().kernelsChoose(kernels)
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
  checkDeviceName('checkDevice', device)
  await native().deviceCheck(device)
}
