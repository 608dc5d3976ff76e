import { argumentError } from '../check.ts'
import { alphaBarOf } from './log-snr-bins.ts'
import { type MixContext, perHeadOf } from './mix-context.ts'
import type { HeadPolicy } from './policy.ts'

/**
 * Trains nothing but the fixed mixture (1 - alphaBar) xStart + alphaBar eps of two heads, with `loss.choose: 'given'`: the merge of
 * progressive distillation (Salimans & Ho 2022, appendix; math.md, eq. 77). `combineBySignal` reads two such heads by the same mixture.
 */
export function mergePolicy({ heads, logSnr }: MixContext): HeadPolicy {
  if (heads.length !== 2 || !heads.includes('xStart') || !heads.includes('eps')) {
    throw argumentError('mergePolicy', 'heads', 'xStart and eps, which are all that it trains', heads)
  }
  return {
    name: 'merge',
    decide(t) {
      const share = new Float32Array(t.length * heads.length)
      const weight = perHeadOf(t, heads.length, (at, head) => {
        const alphaBar = alphaBarOf(logSnr[at] as number)
        return heads[head] === 'xStart' ? 1 - alphaBar : alphaBar
      })
      return { share, mixture: { weight, factor: 1 } }
    },
  }
}
