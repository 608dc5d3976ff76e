import { argumentError } from '../check.ts'
import type { HeadStatistics } from './head-statistics.ts'
import type { HeadPolicy } from './policy.ts'

/** A policy whose run also keeps the statistics of its heads, which see each step before the policy does. */
export function withStatistics(policy: HeadPolicy, statistics: HeadStatistics): HeadPolicy {
  return {
    name: policy.name,
    decide: (t, step) => policy.decide(t, step),
    observe(losses) {
      statistics.observe(losses)
      policy.observe?.(losses)
    },
    state: () => ({ statistics: statistics.state(), policy: policy.state?.() ?? null }),
    restore(state) {
      if (typeof state !== 'object' || state === null || !('statistics' in state) || !('policy' in state)) {
        throw argumentError('withStatistics.restore', 'state', 'statistics and the state of a policy', state)
      }
      statistics.restore(state.statistics)
      if (state.policy !== null) policy.restore?.(state.policy)
    },
  }
}
