import { type CommonSpace, spaceFactor } from '../timesteps/weighting.ts'
import { LOG_SNR_LIMIT } from './log-snr-bins.ts'
import { type MixContext, perHeadOf } from './mix-context.ts'

/** The greatest snr with which the loss converts errors (math.md, eq. 14), and one over the smallest. */
const GREATEST_SNR = 1e12

/**
 * Factors that keep a head's error, converted to the space of the loss, at no more than `cap` times its own error (math.md,
 * eq. 74). Without them xStart at t near 0 and eps at t near T - 1, whose conversion there is a large number, would leave no
 * gradient to anything else. A cap of 0 caps nothing.
 *
 * @returns for `headWeight` of a step, [N, heads]; undefined where nothing is capped
 */
export function cappedWeight(
  { heads, logSnr, space, sigmaData = 0.5 }: MixContext,
  cap: number,
): (t: Int32Array) => Float32Array | undefined {
  if (cap === 0 || space === 'own') return () => undefined
  const table = Float64Array.from({ length: logSnr.length * heads.length }, (_, i) => {
    const log = logSnr[Math.floor(i / heads.length)] as number
    // A log snr at its limit may be any beyond, up to none at all, where the conversion is as large as it can be.
    const isLimit = Math.abs(log) >= LOG_SNR_LIMIT
    const snr = isLimit ? GREATEST_SNR ** Math.sign(log) : Math.exp(log)
    const [own, common] = [heads[i % heads.length], space].map((word) =>
      spaceFactor(word as CommonSpace, snr, sigmaData),
    ) as [number, number]
    return Math.min(1, (cap * own) / common)
  })
  return (t) => perHeadOf(t, heads.length, (at, head) => table[at * heads.length + head] as number)
}
