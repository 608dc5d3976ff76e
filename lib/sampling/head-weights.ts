import { argumentError } from '../check.ts'
import { ALL_HEADS, type Head } from '../prediction/heads.ts'
import type { HeadWeights } from '../prediction/signal-weights.ts'

/**
 * How much each of a network's heads counts in the prediction of xStart, in their order.
 *
 * @throws RangeError for a head that the network does not have, and for weights that do not add up to 1
 */
export function headWeights(call: string, chosen: Head | HeadWeights, heads: readonly Head[]): number[] {
  const weights: HeadWeights = typeof chosen === 'string' ? { [chosen]: 1 } : chosen
  for (const name of Object.keys(weights)) {
    if (!ALL_HEADS.includes(name as Head) || !heads.includes(name as Head)) {
      throw argumentError(call, 'combine', `among the network's heads (${heads.join(', ')})`, name)
    }
  }
  const list = heads.map((head) => weights[head] ?? 0)
  const sum = list.reduce((a, b) => a + b, 0)
  if (!(Math.abs(sum - 1) < 1e-6)) throw argumentError(call, 'combine', 'weights that add up to 1', sum)
  return list
}
