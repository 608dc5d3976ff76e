import { argumentError, checkInteger, checkKnownOptions, checkNumber, checkOneOf } from '../check.ts'
import { isotonicFit } from '../statistics/isotonic.ts'
import { clippedSnr, logSnrEdges } from './law.ts'
import { lossBins } from './loss-bins.ts'
import { drawWeighted, probabilitiesOf } from './masses.ts'
import { checkDraw, type StepLosses, type TimestepSampler } from './sampler.ts'
import { positionStream, STREAMS, type StreamName } from './stream.ts'
import { COMMON_SPACES, spaceFactor } from './weighting.ts'

/** Options of `timeWarpingSampler`. */
export interface TimeWarpingOptions {
  /** Cumulative signal of each timestep, shape [T]. */
  readonly alphaBar: Float64Array
  /** Variance of the pixels, > 0, which no error exceeds; 0.25 by default. */
  readonly dataVariance?: number
  /** Bins of equal width on log snr; 50 by default. */
  readonly binCount?: number
  /** What a bin's average keeps at each of its errors, in [0, 1); 0.99 by default. */
  readonly decay?: number
  /** Share of uniform draws mixed in, in (0, 1], so that every timestep goes on being measured; 0.01 by default. */
  readonly uniformShare?: number
  /** How the draws of a batch depend on one another; `iid` by default. */
  readonly stream?: StreamName
  /** A whole number in [0, 2^53); 0 by default. */
  readonly seed?: number
  /** Weights 1 / (T p), so that what is minimised stays; false by default, as in the original. */
  readonly importanceWeights?: boolean
}

/** `timeWarpingSampler` and its law. */
export interface TimeWarpingSampler extends TimestepSampler {
  /** Probability of each timestep now, shape [T]. */
  probabilities(): Float64Array
}

/** Errors that a bin must have seen to take part in the fit, and the share of the timesteps that must be in such bins before there is one. */
const LEAST_COUNT = 5
const LEAST_SHARE = 0.9

/**
 * Draws timesteps so that the error of xStart rises evenly from draw to draw in the order of noise: in proportion to the slope of a rising,
 * piecewise linear fit of it (math.md, eq. 97b; Dieleman et al. 2022, "CDCD", arXiv 2211.15089, section 4.2, there of the cross-entropy). Where most is lost
 * with a little more noise, most is trained. Uniform until the bins that have seen 5 errors hold nine tenths of the timesteps.
 *
 * An example's error is the smallest of its heads', at most `dataVariance`, which is what the mean image has: eps at much noise says less than that.
 */
export function timeWarpingSampler(options: TimeWarpingOptions): TimeWarpingSampler {
  const call = 'timeWarpingSampler'
  checkKnownOptions(call, options, [
    'alphaBar',
    'dataVariance',
    'binCount',
    'decay',
    'uniformShare',
    'stream',
    'seed',
    'importanceWeights',
  ])
  const { alphaBar, dataVariance = 0.25, binCount = 50, decay = 0.99, uniformShare = 0.01 } = options
  const { stream = 'iid', seed = 0, importanceWeights = false } = options
  checkNumber(call, 'dataVariance', dataVariance)
  if (dataVariance <= 0) throw argumentError(call, 'dataVariance', 'a number > 0', dataVariance)
  checkInteger(call, 'binCount', binCount, 2)
  checkNumber(call, 'decay', decay, 0, 1 - 1e-9)
  checkNumber(call, 'uniformShare', uniformShare, 1e-9, 1)
  checkOneOf(call, 'stream', stream, STREAMS)
  checkInteger(call, 'seed', seed, 0)
  const timestepCount = alphaBar.length
  const noise = logSnrEdges(call, alphaBar).map((logSnr) => -logSnr) // ends of the timesteps' cells, rising
  const snr = clippedSnr(call, alphaBar)
  const middle = (t: number): number => (noise[t]! + noise[t + 1]!) / 2
  const width = (noise[timestepCount]! - noise[0]!) / binCount
  const place = (t: number): number => Math.min(Math.floor((middle(t) - noise[0]!) / width), binCount - 1)
  const bins = lossBins(
    call,
    Int32Array.from(alphaBar, (_, t) => place(t)),
    decay,
  )
  const sizes = new Float64Array(bins.binCount)
  const centres = new Float64Array(bins.binCount)
  for (const [t, k] of bins.binOf.entries()) centres[k]! += (middle(t) - centres[k]!) / ++sizes[k]!
  const positions = positionStream(stream, seed)
  const settled = 1 / (1 - decay)

  const probabilities = (): Float64Array => {
    const known = [...bins.counts.keys()].filter((k) => bins.counts[k]! >= LEAST_COUNT)
    const fit = isotonicFit(
      known.map((k) => bins.mean[k]!),
      known.map((k) => Math.min(bins.counts[k]!, settled)),
    )
    const at = [noise[0]!, ...known.map((k) => centres[k]!)] // without noise there is no error
    const errors = interpolated(at, [0, ...fit], noise)
    const seen = known.reduce((sum, k) => sum + sizes[k]!, 0)
    const isKnown = seen >= LEAST_SHARE * timestepCount
    return probabilitiesOf(
      Float64Array.from(alphaBar, (_, t) => (isKnown ? errors[t + 1]! - errors[t]! : 0)),
      uniformShare,
    )
  }

  return {
    name: 'time-warping',
    unbiased: importanceWeights,
    probabilities,
    draw(count, step) {
      checkDraw(`${call}.draw`, count, step)
      const { t, weight } = drawWeighted(probabilities(), positions(count, step))
      return { t, weight: importanceWeights ? weight : weight.fill(1) }
    },
    observe: (losses) =>
      bins.observe({ t: losses.t, loss: xStartErrors(`${call}.observe`, losses, snr, dataVariance) }),
    state: bins.state,
    restore: bins.restore,
  }
}

/** Each example's smallest error of xStart among its heads, at most `most`, shape [N]. */
function xStartErrors(
  call: string,
  { t, perHead, heads }: StepLosses,
  snr: Float64Array,
  most: number,
): Float32Array {
  const spaces = heads.map((head) => COMMON_SPACES.find((space) => space === head))
  if (!spaces.some(Boolean)) throw argumentError(call, 'heads', 'one of xStart, v, eps', heads)
  return Float32Array.from(t, (step, i) => {
    const errors = spaces.map((space, head) =>
      space === undefined
        ? Number.POSITIVE_INFINITY
        : perHead[i * heads.length + head]! / spaceFactor(space, snr[step]!),
    )
    return errors.some(Number.isNaN) ? Number.NaN : Math.min(most, ...errors)
  })
}

/** The piecewise linear function through some points, at rising positions; level beyond the last point. */
function interpolated(
  at: readonly number[],
  values: readonly number[],
  positions: Float64Array,
): Float64Array {
  let next = 1 // the first point beyond the position
  return positions.map((position) => {
    while (next < at.length && at[next]! <= position) next++
    if (next === at.length) return values.at(-1)!
    const share = (position - at[next - 1]!) / (at[next]! - at[next - 1]!)
    return values[next - 1]! + share * (values[next]! - values[next - 1]!)
  })
}
