import type { Head } from './heads.ts'

/** How much each head counts in the prediction of xStart; the weights add up to 1. */
export type HeadWeights = Partial<Record<Head, number>>

/**
 * Weights that trust each head where it is well conditioned: xStart with 1 - alphaBar, eps with alphaBar, v everywhere. With
 * all three heads v gets one half and the two others share the rest, which is the best linear combination of three
 * predictions with independent errors of one size in their outputs; in xStart space the errors of eps alone would grow
 * without bound towards t = T - 1 (math.md, eq. 7a). What a sampler uses unless told otherwise.
 */
export function signalWeights(alphaBar: number, heads: readonly Head[]): HeadWeights {
  const has = (head: Head): boolean => heads.includes(head)
  if (has('xStart') && has('eps')) {
    const rest = has('v') ? 0.5 : 1
    return { xStart: rest * (1 - alphaBar), eps: rest * alphaBar, ...(has('v') && { v: 0.5 }) }
  }
  return { [has('v') ? 'v' : (heads[0] as Head)]: 1 }
}
