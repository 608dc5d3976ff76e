import type { MixContext } from './mix-context.ts'
import type { HeadPolicy } from './policy.ts'

/** Options of `minimumPolicy`. */
export interface MinimumOptions {
  /** Steps in which all heads are trained alike, so that no head wins because the others have not begun; 0 by default. */
  readonly warmup?: number
}

/**
 * The head with the smallest loss of each example, after a warm-up of all heads: `loss.choose: 'relaxed'` with a floor that
 * shares the loss out evenly and then falls to 0 (math.md, eq. 60).
 */
export function minimumPolicy({ heads }: MixContext, { warmup = 0 }: MinimumOptions = {}): HeadPolicy {
  const even = (heads.length - 1) / heads.length
  return { name: 'minimum', decide: (_, step) => (warmup === 0 ? {} : { floor: step < warmup ? even : 0 }) }
}
