import { argumentError } from '../check.ts'
import { withWeight } from './all-heads.ts'
import { cappedWeight } from './capped-weight.ts'
import { geometricCourse } from './course.ts'
import type { MixContext } from './mix-context.ts'
import type { HeadPolicy } from './policy.ts'

/** Options of `softminPolicy`. */
export interface SoftminOptions {
  /** Temperature at the first step and at the last; 1 and 0.03 by default. */
  readonly from?: number
  readonly to?: number
  /**
   * The temperature stays where the least win rate among the heads falls to this, once it was above; 0, the default, goes on to
   * the end. A head that has never won this often, as eps does at first, stops nothing.
   */
  readonly stop?: number
  /** How many times its own error a head counts at most (math.md, eq. 74), 0 for no bound; 5 by default. */
  readonly cap?: number
}

/** Annealed softmin, with `loss.choose: 'softmin'`: all heads at first, nearly the minimum in the end (math.md, eq. 60). */
export function softminPolicy(context: MixContext, options: SoftminOptions = {}): HeadPolicy {
  const { from = 1, to = 0.03, stop = 0, cap = 5 } = options
  const { statistics, courseSteps } = context
  const course = geometricCourse(from, to, courseSteps)
  const headWeight = cappedWeight(context, cap)
  let isArmed = false
  let kept: number | undefined
  let latest = from
  return {
    name: 'softmin',
    decide(t, step) {
      latest = kept ?? course(step)
      return { temperature: latest, ...withWeight(headWeight(t)) }
    },
    observe() {
      if (stop === 0 || kept !== undefined) return
      const least = Math.min(...statistics.overallWinRates())
      if (least > stop) isArmed = true
      else if (isArmed) kept = latest
    },
    state: () => ({ isArmed, kept: kept ?? null }),
    restore(state) {
      const { isArmed: armed, kept: temperature } = (state ?? {}) as { isArmed?: unknown; kept?: unknown }
      if (typeof armed !== 'boolean' || !(temperature === null || typeof temperature === 'number')) {
        throw argumentError('softminPolicy.restore', 'state', 'that of a softmin', state)
      }
      isArmed = armed
      kept = temperature ?? undefined
    },
  }
}
