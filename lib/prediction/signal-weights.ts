import type { Head } from './heads.ts'

/** How much each head counts in the prediction of xStart; the weights add up to 1. */
export type HeadWeights = Partial<Record<Head, number>>

/**
 * Weights that trust each head where it is well conditioned: xStart with 1 - alphaBar, eps with alphaBar, v with 1, divided by
 * their sum over the heads that there are. They are the best linear combination of predictions with independent errors of one
 * size in their outputs; in xStart space the errors of eps alone would grow without bound towards t = T - 1 (math.md, eq. 7a).
 * What a sampler uses unless told otherwise.
 */
export function signalWeights(alphaBar: number, heads: readonly Head[]): HeadWeights {
  const [only] = heads
  if (heads.length === 1) return { [only as Head]: 1 }
  const trust = { xStart: 1 - alphaBar, v: 1, eps: alphaBar, xPrev: 0, F: 0 }
  const sum = heads.reduce((total, head) => total + trust[head], 0)
  return Object.fromEntries(heads.map((head) => [head, trust[head] / sum]))
}
