import type { Head } from '../prediction/heads.ts'
import { type MixContext, perHeadOf } from './mix-context.ts'

/** An error of 1 in xStart is this, in another space (math.md, eq. 14). */
function spaceFactor(space: Head | 'F', snr: number, sigmaData: number): number {
  return { xStart: 1, v: 1 + snr, eps: snr, F: snr + 1 / sigmaData ** 2, xPrev: 1 }[space]
}

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
    const snr = Math.exp(logSnr[Math.floor(i / heads.length)] as number)
    const head = heads[i % heads.length] as Head
    return Math.min(1, (cap * spaceFactor(head, snr, sigmaData)) / spaceFactor(space, snr, sigmaData))
  })
  return (t) => perHeadOf(t, heads.length, (at, head) => table[at * heads.length + head] as number)
}
