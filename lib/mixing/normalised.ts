import { argumentError, checkNumber } from '../check.ts'
import { binOfTimestep } from './log-snr-bins.ts'
import { type MixContext, perHeadOf } from './mix-context.ts'
import type { HeadPolicy } from './policy.ts'

/** Images that an average needs to mean something; the average of one would make its own error 1. */
const LEAST_WEIGHT = 20

/** Options of `normalisedPolicy`. */
export interface NormalisedOptions {
  /** Images of a bin after which an error counts half in its average, from 20; 200 by default. */
  readonly halfLife?: number
}

/**
 * Divides each head's error, in its own unit, by its moving average at that noise level, with `loss.choose: 'mean'` and `loss.space:
 * 'own'` (math.md, eq. 79): every head and noise level has the same part of the loss. Where an average is of fewer than 20 images,
 * errors count as they are.
 */
export function normalisedPolicy(context: MixContext, options: NormalisedOptions = {}): HeadPolicy {
  const call = 'normalisedPolicy'
  const { halfLife = 200 } = options
  checkNumber(call, 'halfLife', halfLife, 20)
  const { heads, statistics } = context
  const { bins, binCount } = statistics
  const size = heads.length
  const keep = 2 ** (-1 / halfLife)
  const sums = new Float64Array(binCount * size)
  const weights = new Float64Array(binCount)
  return {
    name: 'normalised',
    decide: (t) => ({
      headWeight: perHeadOf(t, size, (at, head) => {
        const bin = binOfTimestep(bins, at)
        const sum = sums[bin * size + head] as number
        const weight = weights[bin] as number
        return weight >= LEAST_WEIGHT && sum > 0 ? weight / sum : 1
      }),
    }),
    observe({ t, perHead }) {
      for (let i = 0; i < t.length; i++) {
        const errors = perHead.subarray(i * size, (i + 1) * size)
        if (!errors.every(Number.isFinite)) continue
        const bin = binOfTimestep(bins, t[i] as number)
        weights[bin] = keep * (weights[bin] as number) + 1
        for (let head = 0; head < size; head++) {
          const at = bin * size + head
          sums[at] = keep * (sums[at] as number) + (errors[head] as number)
        }
      }
    },
    state: () => ({ sums: Array.from(sums), weights: Array.from(weights) }),
    restore(state) {
      const stored = (state ?? {}) as { sums?: number[]; weights?: number[] }
      if (stored.sums?.length !== sums.length || stored.weights?.length !== binCount) {
        const what = `of ${size} heads and ${binCount} bins`
        throw argumentError(`${call}.restore`, 'state', what, state)
      }
      sums.set(stored.sums)
      weights.set(stored.weights)
    },
  }
}
