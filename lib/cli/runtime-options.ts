// Options that every command has that computes.
import type { z } from 'zod'
import { KERNELS, setKernels, setThreads } from '../device.ts'
import { integer, oneOf } from '../options.ts'

const about = <T extends z.ZodType>(description: string, schema: T): T => schema.meta({ description }) as T

/** The options; a command spreads them into its own. */
export const RUNTIME_SHAPE = {
  threads: about('threads of LibTorch', integer(1, 1024).optional()),
  kernels: about('on the CPU: trislot’s own (fast), or LibTorch’s (plain)', oneOf(KERNELS).optional()),
} satisfies Record<string, z.ZodType>

/** Their values. */
export type RuntimeValues = z.output<z.ZodObject<typeof RUNTIME_SHAPE>>

/** Sets what is given. */
export async function applyRuntime({ threads, kernels }: RuntimeValues): Promise<void> {
  if (threads !== undefined) await setThreads(threads)
  if (kernels !== undefined) await setKernels(kernels)
}
