import { argumentError, checkInteger, checkNumber } from '../../check.ts'
import { extent } from '../../statistics/extent.ts'
import { gradient } from '../gradient.ts'
import { clippedSnr } from '../law.ts'

/**
 * SpeeD's change-aware weight of the eps error, times snr, shape [T]: below tau from 1 - lambda where 1 - alphaBar grows the least to lambda where it
 * grows the most, from tau on 1 (math.md, eq. 95d; Wang et al. 2024, arXiv 2405.17403, as its code does it).
 *
 * @param lambda - in (0, 1); 0.6 in the original
 * @param tau - a timestep in [0, T]; the original's 700 of 1000
 */
export function changeAware(call: string, alphaBar: Float64Array, lambda: number, tau: number): Float64Array {
  const snr = clippedSnr(call, alphaBar)
  checkNumber(call, 'lambda', lambda)
  if (lambda <= 0 || lambda >= 1) throw argumentError(call, 'lambda', 'a number in (0, 1)', lambda)
  checkInteger(call, 'tau', tau, 0, snr.length)
  const growth = gradient(alphaBar.map((signal) => 1 - signal))
  const [least, most] = extent(growth)
  const isEven = most - least <= 1e-9 * most // what is left is rounding
  if (isEven && tau > 0) {
    throw argumentError(
      call,
      'alphaBar',
      'one that falls faster at some timesteps than at others',
      alphaBar,
      {
        hint: 'change-aware weighs by how fast it falls',
      },
    )
  }
  const k = 1 - lambda
  return snr.map((value, t) =>
    t < tau ? value * (k + ((1 - 2 * k) * (growth[t]! - least)) / (most - least)) : value,
  )
}
