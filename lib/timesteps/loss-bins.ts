import { argumentError, checkTimesteps } from '../check.ts'
import type { JsonValue, StepLosses } from './sampler.ts'

/** Running moments of the losses of groups of timesteps. */
export interface LossBins {
  readonly binCount: number
  /** Bin of each timestep, shape [T], from 0, none of them empty. */
  readonly binOf: Int32Array
  /** Losses seen, shape [bins]. */
  readonly counts: Float64Array
  /** Moving average of the loss and of its square, shape [bins]. */
  readonly mean: Float64Array
  readonly meanSquare: Float64Array
  /** Learns losses; those that are not finite are left out. */
  observe(losses: Pick<StepLosses, 't' | 'loss'>): void
  state(): JsonValue
  restore(state: JsonValue): void
}

/**
 * Bins with averages that begin as plain means and forget with `decay` a loss later on (math.md, eq. 96).
 *
 * @param binOf - bin of each timestep; numbers without timesteps are closed up
 * @param decay - in [0, 1)
 */
export function lossBins(call: string, binOf: Int32Array, decay: number): LossBins {
  const used = [...new Set(binOf)].sort((a, b) => a - b)
  const numbers = new Map(used.map((bin, k) => [bin, k]))
  const closed = binOf.map((bin) => numbers.get(bin) as number)
  const binCount = used.length
  const fields = {
    counts: new Float64Array(binCount),
    mean: new Float64Array(binCount),
    meanSquare: new Float64Array(binCount),
  }
  const { counts, mean, meanSquare } = fields
  return {
    binCount,
    binOf: closed,
    ...fields,
    observe({ t, loss }) {
      checkTimesteps(`${call}.observe`, t, closed.length, loss.length)
      for (const [i, value] of loss.entries()) {
        if (!Number.isFinite(value)) continue
        const k = closed[t[i]!]!
        counts[k]!++
        const rate = Math.max(1 - decay, 1 / counts[k]!)
        mean[k]! += rate * (value - mean[k]!)
        meanSquare[k]! += rate * (value * value - meanSquare[k]!)
      }
    },
    state: () => ({ counts: [...counts], mean: [...mean], meanSquare: [...meanSquare] }),
    restore(state) {
      for (const [key, values] of Object.entries(fields))
        values.set(numbersOf(`${call}.restore`, state, key, binCount))
    },
  }
}

/** Bins that grow with the square of t, so that those of little noise, where eps losses change fastest, are of few timesteps. */
export function quadraticBins(timestepCount: number, binCount: number): Int32Array {
  return Int32Array.from({ length: timestepCount }, (_, t) =>
    Math.floor(binCount * Math.sqrt(t / timestepCount)),
  )
}

/** A list of numbers in a state that was saved; throws when it belongs to other options. */
export function numbersOf(call: string, state: JsonValue, key: string, count: number): number[] {
  const values = (state as Record<string, unknown> | null)?.[key]
  if (Array.isArray(values) && values.length === count && values.every(Number.isFinite)) return values
  throw argumentError(
    call,
    `state.${key}`,
    `${count} numbers, of a sampler with the same options`,
    values ?? state,
  )
}
