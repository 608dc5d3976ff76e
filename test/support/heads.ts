import { HeadStatistics, type HeadStatisticsOptions } from '../../lib/mixing/head-statistics.ts'
import { logSnrOf } from '../../lib/mixing/log-snr-bins.ts'
import type { MixContext } from '../../lib/mixing/mix-context.ts'
import { HEADS } from '../../lib/prediction/heads.ts'

/** Log snr of a process of 100 timesteps, evenly from 8 to -8, without native code. */
export const LOG_SNR = Float64Array.from({ length: 100 }, (_, t) => 8 - (16 * t) / 99)

/** Statistics of all three heads over five bins of twenty timesteps. */
export function statisticsOf(options: Partial<HeadStatisticsOptions> = {}): HeadStatistics {
  return new HeadStatistics({ heads: HEADS, logSnr: LOG_SNR, binCount: 5, ...options })
}

/** What a policy of three heads is made for. */
export function contextOf(options: Partial<MixContext> = {}): MixContext {
  const statistics = options.statistics ?? statisticsOf()
  return { heads: HEADS, logSnr: LOG_SNR, statistics, space: 'F', courseSteps: 101, ...options }
}

/** The losses of a batch at these timesteps whose heads all have the errors [heads] and a correlation of `rho`. */
export function losses(t: readonly number[], errors: readonly number[], rho = 0) {
  const size = errors.length
  const products = errors.flatMap((a, h) => errors.map((b, g) => (h === g ? a : rho * Math.sqrt(a * b))))
  const all = <T>(values: readonly T[]): T[] => t.flatMap(() => [...values])
  return {
    t: Int32Array.from(t),
    loss: new Float32Array(t.length),
    perHead: Float32Array.from(all(errors)),
    heads: HEADS.slice(0, size),
    errorProducts: Float32Array.from(all(products)),
    meanError: Float32Array.from(all(errors.map((_, h) => h / 8))),
  }
}

/** A schedule's log snr, for policies over a real process. */
export const logSnr = (schedule: { tables: { snr: Float64Array } }): Float64Array =>
  logSnrOf(schedule.tables.snr)
