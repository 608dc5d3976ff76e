/**
 * The sign before a ratio of images to reach, the control's by the arm's: each may be fewer than it seems, where a curve was low enough
 * at its first point. Undefined where both may be, so that nothing is known.
 */
export function boundSign(
  seeds: readonly { readonly isUpperBound?: unknown; readonly isControlUpperBound?: unknown }[],
): '' | '≥' | '≤' | undefined {
  const isAtLeast = seeds.some(({ isUpperBound }) => isUpperBound === true)
  const isAtMost = seeds.some(({ isControlUpperBound }) => isControlUpperBound === true)
  if (isAtLeast && isAtMost) return undefined
  return isAtLeast ? '≥' : isAtMost ? '≤' : ''
}
