import type { LossKind, NativeLossConfig } from '../../lib/native.ts'
import type { Head } from '../../lib/prediction/heads.ts'

/** The loss of one head in its own unit. */
export function ownLoss(head: Head, kind: LossKind): NativeLossConfig & { readonly kind: LossKind } {
  return { compare: 'own', space: 'own', choose: head, sigmaData: 0.5, directionWeight: 0, kind }
}
