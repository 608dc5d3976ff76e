import { native, type Space } from '../native.ts'
import type { Head } from '../prediction/heads.ts'
import type { NoiseSchedule } from '../schedule/noise-schedule.ts'

/** The common spaces of a squared error. */
export const ERROR_SPACES = ['eps', 'v', 'xStart', 'F'] as const
/** One of `ERROR_SPACES`. */
export type ErrorSpace = (typeof ERROR_SPACES)[number]

/**
 * What a head's squared error in its own unit is multiplied by at each timestep to be one of `space`, shape [T]. It depends on the
 * timestep alone, so that one measurement gives all spaces, exactly (math.md, eq. 13 and 14).
 *
 * @param sigmaData - deviation of the pixels, for F; 0.5 by default
 */
export function errorFactors(
  schedule: NoiseSchedule,
  head: Head,
  space: ErrorSpace,
  sigmaData = 0.5,
): Float64Array {
  const layout = { heads: [head], imageChannels: 1, learnsVariance: false }
  const loss = { compare: 'own' as Space, space, choose: head, sigmaData, directionWeight: 0 }
  return native().scheduleLossFactors(schedule.handle, layout, loss).space
}
