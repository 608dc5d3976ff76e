import { checkInteger, checkNumber } from '../../check.ts'
import { lawFromMass, type TimestepLaw } from '../law.ts'

/**
 * t / T = 1 - u - kappa (cos^2(pi u / 2) - 1 + u) of a uniform u (math.md, eq. 87; Esser et al. 2024, arXiv 2403.03206, section 3.1). kappa = 0 is
 * uniform; above 0 the middle is drawn more often, below 0 the ends.
 *
 * @param kappa - in [-1, 2 / (pi - 2)], where the map is monotone
 */
export function modeLaw(timestepCount: number, kappa = 1.29): TimestepLaw {
  const call = 'modeLaw'
  checkInteger(call, 'timestepCount', timestepCount, 1, 2 ** 31 - 1)
  checkNumber(call, 'kappa', kappa, -1, 2 / (Math.PI - 2))
  const map = (u: number): number => 1 - u - kappa * (Math.cos((Math.PI * u) / 2) ** 2 - 1 + u)
  const inverse = (x: number): number => {
    let low = 0 // map(low) >= x
    let high = 1
    for (let i = 0; i < 60; i++) {
      const middle = (low + high) / 2
      if (map(middle) >= x) low = middle
      else high = middle
    }
    return (low + high) / 2
  }
  return lawFromMass(call, 'mode', timestepCount, (low, high) => inverse(low) - inverse(high))
}
