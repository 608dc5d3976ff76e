import { setImmediate as pause } from 'node:timers/promises'
import type { RandomStream } from '../random.ts'

/** Swaps between two visits to the event loop: a few milliseconds. */
const CHUNK = 8192

/**
 * The indices 0..length-1 in random order (Fisher-Yates, from the end), without holding the event loop for long.
 *
 * @returns [length]; a function of the stream alone
 */
export async function shuffledIndices(length: number, stream: RandomStream): Promise<Uint32Array> {
  const order = Uint32Array.from({ length }, (_, i) => i)
  for (let i = length - 1; i > 0; i--) {
    const j = stream.integer(0, i + 1)
    const moved = order[i]!
    order[i] = order[j]!
    order[j] = moved
    if (i % CHUNK === 0) await pause()
  }
  return order
}
