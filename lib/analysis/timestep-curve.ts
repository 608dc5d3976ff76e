import { argumentError, checkInteger } from '../check.ts'
import { extent } from '../statistics/extent.ts'

/**
 * Timesteps that show a whole loss curve with few measurements: every one below `dense`, where slots of equal loss are narrow, and above
 * it `sparse` that lie evenly in log snr, the last one among them (math.md, eq. 110).
 *
 * @param snr - signal-to-noise ratio of power at each timestep, [T], descending
 * @returns ascending; all of [0, T) where that is no more
 */
export function probeTimesteps(snr: Float64Array, dense = 30, sparse = 70): Int32Array {
  const call = 'probeTimesteps'
  checkInteger(call, 'dense', dense, 1)
  checkInteger(call, 'sparse', sparse, 1)
  const count = snr.length
  const chosen = new Set(Array.from({ length: Math.min(dense, count) }, (_, t) => t))
  if (count <= dense + sparse) return Int32Array.from({ length: count }, (_, t) => t)
  const place = logSnrOf(snr)
  const [from, to] = [place[dense]!, place[count - 1]!]
  for (let i = 0; i < sparse; i++) {
    const wanted = sparse === 1 ? to : from + ((to - from) * i) / (sparse - 1)
    let t = dense
    while (t + 1 < count && Math.abs(place[t + 1]! - wanted) <= Math.abs(place[t]! - wanted)) t++
    chosen.add(t)
  }
  return Int32Array.from(chosen).sort()
}

/**
 * A curve over all timesteps from values at some: between two of them the logarithm of the value is linear in log snr, in which losses
 * are nearly powers; where one of them is not positive, the value is. Outside it stays what it is at the end (math.md, eq. 111).
 *
 * @param t - ascending
 * @param values - one a timestep of `t`
 * @returns [T]
 */
export function curveOverTimesteps(
  t: ArrayLike<number>,
  values: ArrayLike<number>,
  snr: Float64Array,
): Float64Array {
  if (t.length === 0 || t.length !== values.length) {
    throw argumentError('curveOverTimesteps', 'values', `${t.length} numbers, one a timestep`, values)
  }
  const place = logSnrOf(snr)
  const curve = new Float64Array(snr.length)
  let row = 0
  for (let s = 0; s < snr.length; s++) {
    while (row + 1 < t.length && t[row + 1]! <= s) row++
    const [here, next] = [t[row]!, t[row + 1]]
    const [a, b] = [values[row]!, values[row + 1]!]
    if (s <= here || next === undefined) curve[s] = a
    else {
      const share = (place[s]! - place[here]!) / (place[next]! - place[here]!)
      curve[s] = a > 0 && b > 0 ? a * (b / a) ** share : a + (b - a) * share
    }
  }
  return curve
}

/** Mean and spread of a curve over timesteps that are drawn uniformly. */
export interface CurveSpread {
  readonly mean: number
  /** Greatest value over smallest. */
  readonly span: number
  /** Standard deviation over mean, for a uniform timestep. */
  readonly variation: number
}

/** How much a curve [T] varies (math.md, eq. 112). */
export function curveSpread(curve: Float64Array): CurveSpread {
  const mean = curve.reduce((a, b) => a + b, 0) / curve.length
  const variance = curve.reduce((a, b) => a + (b - mean) ** 2, 0) / curve.length
  const [least, most] = extent(curve)
  return { mean, span: most / least, variation: Math.sqrt(variance) / mean }
}

/** The factor between two positive curves [T], averaged in logarithms whichever is the greater (math.md, eq. 113). */
export function curveDistance(a: Float64Array, b: Float64Array): number {
  return Math.exp(a.reduce((sum, value, t) => sum + Math.abs(Math.log(value / b[t]!)), 0) / a.length)
}

/** Within the bounds of eq. 14, so that a timestep without signal has a place. */
function logSnrOf(snr: Float64Array): Float64Array {
  return snr.map((value) => Math.log(Math.min(Math.max(value, 1e-12), 1e12)))
}
