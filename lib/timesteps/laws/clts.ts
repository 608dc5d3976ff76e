import { argumentError, checkInteger, checkNumber } from '../../check.ts'
import { normalMass } from '../distributions.ts'
import type { TimestepLaw } from '../law.ts'

/**
 * Curriculum from uniform to a normal law around mu: p = (1 - a) / T + a N(mu, deviation^2) cut off at the ends, a = min(step / steps, 1)
 * (math.md, eq. 93; Zheng et al. 2024, CLTS, mu = 300 of 1000).
 *
 * @param mu - 0.3 T by default
 * @param deviation - 0.15 T by default; that of the original could not be found out
 * @param steps - of training until the law is normal; 50 000 by default
 */
export function cltsLaw(
  timestepCount: number,
  mu: number = 0.3 * timestepCount,
  deviation: number = 0.15 * timestepCount,
  steps = 50_000,
): TimestepLaw {
  const call = 'cltsLaw'
  checkInteger(call, 'timestepCount', timestepCount, 1, 2 ** 31 - 1)
  checkNumber(call, 'mu', mu)
  checkNumber(call, 'deviation', deviation)
  if (deviation <= 0) throw argumentError(call, 'deviation', 'a number > 0', deviation)
  checkInteger(call, 'steps', steps, 1)
  const masses = Float64Array.from({ length: timestepCount }, (_, t) =>
    normalMass((t - 0.5 - mu) / deviation, (t + 0.5 - mu) / deviation),
  )
  const total = masses.reduce((a, b) => a + b, 0)
  if (total <= 0) throw argumentError(call, 'mu', 'near the timesteps', mu)
  return {
    name: 'clts',
    timestepCount,
    at(step) {
      const part = Math.min(step / steps, 1)
      return masses.map((mass) => (1 - part) / timestepCount + (part * mass) / total)
    },
  }
}
