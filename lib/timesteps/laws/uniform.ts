import { checkInteger } from '../../check.ts'
import { fixedLaw, type TimestepLaw } from '../law.ts'

/** Every timestep equally often: p(t) = 1 / T (DDPM). */
export function uniformLaw(timestepCount: number): TimestepLaw {
  checkInteger('uniformLaw', 'timestepCount', timestepCount, 1, 2 ** 31 - 1)
  return fixedLaw('uniformLaw', 'uniform', new Float64Array(timestepCount).fill(1))
}
