import { withWeight } from './all-heads.ts'
import { cappedWeight } from './capped-weight.ts'
import { binOfTimestep } from './log-snr-bins.ts'
import { type MixContext, perHeadOf } from './mix-context.ts'
import type { HeadPolicy } from './policy.ts'

/** Options of `tablePolicy`. */
export interface TableOptions {
  /** Share of the best head; the others divide the rest; 0.8 by default. */
  readonly best?: number
  /** Images that a noise level must have seen before it prefers a head; all count equally until then; 50 by default. */
  readonly warmup?: number
  /** How many times its own error a head counts at most (math.md, eq. 74), 0 for no bound; 5 by default. */
  readonly cap?: number
}

/**
 * Prefers, at each noise level, the head that the statistics call the best there, with `loss.choose: 'given'` (math.md, eq. 75). It
 * never looks at the example, so that no head becomes a hypothesis of its own.
 */
export function tablePolicy(context: MixContext, options: TableOptions = {}): HeadPolicy {
  const { best = 0.8, warmup = 50, cap = 5 } = options
  const { heads, statistics } = context
  const headWeight = cappedWeight(context, cap)
  const other = (1 - best) / (heads.length - 1)
  return {
    name: 'table',
    decide(t) {
      const share = perHeadOf(t, heads.length, (at, head) => {
        const bin = binOfTimestep(statistics.bins, at)
        const preferred = statistics.count(bin) < warmup ? undefined : statistics.bestHead(bin)
        if (preferred === undefined) return 1 / heads.length
        return preferred === heads[head] ? best : other
      })
      return { share, ...withWeight(headWeight(t)) }
    },
  }
}
