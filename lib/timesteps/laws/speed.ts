import { checkInteger, checkNumber } from '../../check.ts'
import { gradient } from '../gradient.ts'
import { clippedSnr, fixedLaw, type TimestepLaw } from '../law.ts'

/**
 * SpeeD: timesteps below tau are drawn k times as often; and of every batch only the first floor(B / 2) + 1 are drawn, while the others are their
 * mirror images at the timestep m from which sqrt(1 - alphaBar) grows by less than 1e-4 a step (math.md, eq. 92; Wang et al. 2024, arXiv 2405.17403, as
 * its code does it). A schedule that never slows down so has m = T - 1.
 *
 * @param k - 2 in the original
 * @param tau - 0.7 T by default, the original's 700 of 1000
 */
export function speedLaw(alphaBar: Float64Array, k = 2, tau?: number): TimestepLaw {
  const call = 'speedLaw'
  const count = clippedSnr(call, alphaBar).length
  const bound = tau ?? Math.round(0.7 * count)
  checkNumber(call, 'k', k, 1e-6)
  checkInteger(call, 'tau', bound, 0, count)
  const law = fixedLaw(
    call,
    'speed',
    Float64Array.from(alphaBar, (_, t) => (t < bound ? k : 1)),
  )
  const growth = gradient(Float64Array.from(alphaBar, (signal) => Math.sqrt(1 - signal)))
  const slow = growth.findIndex((slope) => slope < 1e-4)
  const mirror = Math.min(slow === -1 ? count - 1 : slow + 1, count - 1)
  return { ...law, partner: (t) => Math.abs(mirror - t) }
}
