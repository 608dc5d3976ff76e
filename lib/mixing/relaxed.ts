import { withWeight } from './all-heads.ts'
import { cappedWeight } from './capped-weight.ts'
import { linearCourse } from './course.ts'
import type { MixContext } from './mix-context.ts'
import type { HeadPolicy } from './policy.ts'

/** Options of `relaxedPolicy`. */
export interface RelaxedOptions {
  /** Floor at the first step and at the last; 0.3 and 0.1 by default. */
  readonly from?: number
  readonly to?: number
  /** How many times its own error a head counts at most (math.md, eq. 74), 0 for no bound; 5 by default. */
  readonly cap?: number
}

/** Relaxed winner-take-all, with `loss.choose: 'relaxed'`: the losing heads divide a floor, which shrinks (math.md, eq. 60). */
export function relaxedPolicy(context: MixContext, options: RelaxedOptions = {}): HeadPolicy {
  const { from = 0.3, to = 0.1, cap = 5 } = options
  const floor = linearCourse(from, to, context.courseSteps)
  const headWeight = cappedWeight(context, cap)
  return { name: 'relaxed', decide: (t, step) => ({ floor: floor(step), ...withWeight(headWeight(t)) }) }
}
