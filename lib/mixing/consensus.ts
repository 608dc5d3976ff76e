import { signalWeights } from '../prediction/signal-weights.ts'
import { withWeight } from './all-heads.ts'
import { cappedWeight } from './capped-weight.ts'
import { alphaBarOf, binOfTimestep } from './log-snr-bins.ts'
import { type MixContext, perHeadOf } from './mix-context.ts'
import type { HeadPolicy } from './policy.ts'

/** Options of `consensusPolicy`. */
export interface ConsensusOptions {
  /** Factor on the mixture's error beside the mean of the heads'; 1 by default. */
  readonly kappa?: number
  /** Images that a noise level must have seen before the mixture has its best weights, `signalWeights` until then; 50 by default. */
  readonly warmup?: number
  /** How many times its own error a head counts at most (math.md, eq. 74), 0 for no bound; 5 by default. */
  readonly cap?: number
}

/**
 * Trains all heads and, beside them, their best linear mixture at each noise level, with `loss.choose: 'mean'` (math.md,
 * eq. 76): the mixture asks the heads for errors that are not the same.
 */
export function consensusPolicy(context: MixContext, options: ConsensusOptions = {}): HeadPolicy {
  const { kappa = 1, warmup = 50, cap = 5 } = options
  const { heads, statistics, logSnr } = context
  const headWeight = cappedWeight(context, cap)
  const prior = (t: number): number[] => {
    const weights = signalWeights(alphaBarOf(logSnr[t] as number), heads)
    return heads.map((head) => weights[head] ?? 0)
  }
  return {
    name: 'consensus',
    decide(t) {
      const best = Array.from({ length: statistics.binCount }, (_, bin) =>
        statistics.count(bin) < warmup ? undefined : statistics.blue(bin),
      )
      const weights = new Map(
        Array.from(new Set(t), (at) => {
          // Without signal eps says nothing of the image, whatever it is worth at the other timesteps of the bin.
          const hasSignal = alphaBarOf(logSnr[at] as number) > 0
          return [at, (hasSignal && best[binOfTimestep(statistics.bins, at)]) || prior(at)]
        }),
      )
      const weight = perHeadOf(t, heads.length, (at, head) => weights.get(at)?.[head] as number)
      return { mixture: { weight, factor: kappa }, ...withWeight(headWeight(t)) }
    },
  }
}
