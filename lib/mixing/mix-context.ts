import type { Space } from '../native.ts'
import type { Head } from '../prediction/heads.ts'
import type { HeadStatistics } from './head-statistics.ts'

/** What a policy is made for. */
export interface MixContext {
  readonly heads: readonly Head[]
  /** [T] log snr of each timestep; see `logSnrOf`. */
  readonly logSnr: Float64Array
  /** Of the run; whoever keeps them lets them see a step before the policy does. */
  readonly statistics: HeadStatistics
  /** Space of the back-propagated error. */
  readonly space: Space
  /** For space F; 0.5 by default. */
  readonly sigmaData?: number
  /** Step at which courses end. */
  readonly courseSteps: number
}

/** [N, heads] a value for each head of each example. */
export function perHeadOf(
  t: Int32Array,
  size: number,
  of: (t: number, head: number) => number,
): Float32Array {
  return Float32Array.from({ length: t.length * size }, (_, i) =>
    of(t[Math.floor(i / size)] as number, i % size),
  )
}
