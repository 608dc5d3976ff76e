import { argumentError, checkInteger, checkNumber } from '../../check.ts'
import { normalMass } from '../distributions.ts'
import { lawFromMass, type TimestepLaw } from '../law.ts'

/**
 * log(x / (1 - x)) of x = t / T is normal (math.md, eq. 86; Esser et al. 2024, arXiv 2403.03206, section 3.1): the middle of the
 * timesteps with mean 0, less noise with a negative mean.
 */
export function logitNormalLaw(timestepCount: number, mean = 0, deviation = 1): TimestepLaw {
  const call = 'logitNormalLaw'
  checkInteger(call, 'timestepCount', timestepCount, 1, 2 ** 31 - 1)
  checkNumber(call, 'mean', mean)
  checkNumber(call, 'deviation', deviation)
  if (deviation <= 0) throw argumentError(call, 'deviation', 'a number > 0', deviation)
  const z = (x: number): number => (Math.log(x / (1 - x)) - mean) / deviation
  return lawFromMass(call, 'logit-normal', timestepCount, (low, high) => normalMass(z(low), z(high)))
}
