import { cappedWeight } from './capped-weight.ts'
import type { MixContext } from './mix-context.ts'
import type { HeadPolicy } from './policy.ts'

/**
 * Trains all heads always, with `loss.choose: 'mean'`; which one to trust is left to sampling.
 *
 * @param options - `cap`: how many times its own error a head counts at most (math.md, eq. 74), 0 for no bound; 5 by default
 */
export function allHeadsPolicy(context: MixContext, { cap = 5 }: { readonly cap?: number } = {}): HeadPolicy {
  const headWeight = cappedWeight(context, cap)
  return { name: 'all', decide: (t) => withWeight(headWeight(t)) }
}

/** A decision's factors, where there are any. */
export function withWeight(headWeight: Float32Array | undefined): { headWeight?: Float32Array } {
  return headWeight ? { headWeight } : {}
}
