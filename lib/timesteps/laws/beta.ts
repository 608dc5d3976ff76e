import { argumentError, checkInteger, checkNumber } from '../../check.ts'
import { incompleteBeta } from '../../statistics/student.ts'
import { lawFromMass, type TimestepLaw } from '../law.ts'

/** t / T has a Beta(a, b) law; a < b favours little noise (math.md, eq. 88; the B-TTDM of ECCV 2024 tunes a and b). */
export function betaLaw(timestepCount: number, a = 1, b = 2): TimestepLaw {
  const call = 'betaLaw'
  checkInteger(call, 'timestepCount', timestepCount, 1, 2 ** 31 - 1)
  for (const [name, value] of Object.entries({ a, b })) {
    checkNumber(call, name, value)
    if (value <= 0) throw argumentError(call, name, 'a number > 0', value)
  }
  // Each half from its own end, so that small masses near 1 stay exact.
  return lawFromMass(call, 'beta', timestepCount, (low, high) =>
    low >= 0.5
      ? incompleteBeta(1 - low, b, a) - incompleteBeta(1 - high, b, a)
      : incompleteBeta(high, a, b) - incompleteBeta(low, a, b),
  )
}
