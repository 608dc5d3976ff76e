import { argumentError } from '../check.ts'
import type { Head } from '../prediction/heads.ts'
import { withWeight } from './all-heads.ts'
import { type MixContext, perHeadOf } from './mix-context.ts'
import type { HeadPolicy } from './policy.ts'

/**
 * Trains all heads always, each with its own error, with `loss.choose: 'mean'` and `loss.space: 'own'`.
 *
 * In units of v's error the errors of xStart, v and eps are 1 - alphaBar, 1 and alphaBar of it (math.md, eq. 74a), so that together they weigh every noise level
 * alike, and a factor above 1 on eps, or below 1 on xStart, weighs little noise more. Adam divides a head's own gradients by their size: such a factor takes the trunk's
 * attention away from a head, not its own training.
 *
 * @param factors - on the errors of heads, > 0; 1 by default
 * @throws RangeError where a head that is not there has another
 */
export function allOwnPolicy(
  { heads }: MixContext,
  factors: Readonly<Partial<Record<Head, number>>> = {},
): HeadPolicy {
  for (const [head, value] of Object.entries(factors)) {
    if (value === 1 || heads.includes(head as Head)) continue
    throw argumentError('allOwnPolicy', 'heads', `a list with ${head}, for which there is a factor`, heads)
  }
  const factor = heads.map((head) => factors[head] ?? 1)
  const isPlain = factor.every((value) => value === 1)
  return {
    name: 'all-own',
    decide: (t) =>
      withWeight(isPlain ? undefined : perHeadOf(t, heads.length, (_, head) => factor[head] as number)),
  }
}
