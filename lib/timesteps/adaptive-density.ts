import { checkInteger, checkKnownOptions, checkNumber, checkOneOf } from '../check.ts'
import { logSnrEdges } from './law.ts'
import { lossBins } from './loss-bins.ts'
import { drawWeighted, probabilitiesOf } from './masses.ts'
import { checkDraw, type TimestepSampler } from './sampler.ts'
import { positionStream, STREAMS, type StreamName } from './stream.ts'

/** Options of `adaptiveDensitySampler`. */
export interface AdaptiveDensityOptions {
  /** Cumulative signal of each timestep, shape [T]. */
  readonly alphaBar: Float64Array
  /** Bins of equal width on log snr; 50 by default. */
  readonly binCount?: number
  /** What a bin's average keeps at each of its losses, in [0, 1); 0.99 by default. */
  readonly decay?: number
  /** Share of uniform draws mixed in, in (0, 1], which bounds the weights by its inverse; 0.01 by default. */
  readonly uniformShare?: number
  /** How the draws of a batch depend on one another; `iid` by default. */
  readonly stream?: StreamName
  /** A whole number in [0, 2^53); 0 by default. */
  readonly seed?: number
}

/** `adaptiveDensitySampler` and its law. */
export interface AdaptiveDensitySampler extends TimestepSampler {
  /** Probability of each timestep now, shape [T]. */
  probabilities(): Float64Array
}

/**
 * Draws timesteps in proportion to the average loss of their bin of log snr, with weights 1 / (T p): the contribution of every draw
 * is then about the same, and what is minimised stays (math.md, eq. 97; Kingma & Gao 2023, "VDM++", arXiv 2303.00848). A bin with fewer
 * than 5 losses takes the average of the nearest bin that has them; until one has, draws are uniform.
 */
export function adaptiveDensitySampler(options: AdaptiveDensityOptions): AdaptiveDensitySampler {
  const call = 'adaptiveDensitySampler'
  checkKnownOptions(call, options, ['alphaBar', 'binCount', 'decay', 'uniformShare', 'stream', 'seed'])
  const { alphaBar, binCount = 50, decay = 0.99, uniformShare = 0.01, stream = 'iid', seed = 0 } = options
  checkInteger(call, 'binCount', binCount, 1)
  checkNumber(call, 'decay', decay, 0, 1 - 1e-9)
  checkNumber(call, 'uniformShare', uniformShare, 1e-9, 1)
  checkOneOf(call, 'stream', stream, STREAMS)
  checkInteger(call, 'seed', seed, 0)
  const timestepCount = alphaBar.length
  const edges = logSnrEdges(call, alphaBar)
  const width = (edges[0]! - edges[timestepCount]!) / binCount
  const place = (t: number): number => Math.floor((edges[0]! - (edges[t]! + edges[t + 1]!) / 2) / width)
  const bins = lossBins(
    call,
    Int32Array.from(alphaBar, (_, t) => Math.min(place(t), binCount - 1)),
    decay,
  )
  const positions = positionStream(stream, seed)

  const probabilities = (): Float64Array => {
    const means = nearestKnown(bins.mean, bins.counts, 5)
    const masses = Float64Array.from(bins.binOf, (k) => means?.[k] ?? 1)
    return probabilitiesOf(masses, uniformShare)
  }

  return {
    name: 'adaptive-density',
    unbiased: true,
    probabilities,
    draw(count, step) {
      checkDraw(`${call}.draw`, count, step)
      return drawWeighted(probabilities(), positions(count, step))
    },
    observe: bins.observe,
    state: bins.state,
    restore: bins.restore,
  }
}

/** Each bin's value, or that of the nearest bin with at least `least` losses (the noisier of two); undefined when there is none. */
function nearestKnown(values: Float64Array, counts: Float64Array, least: number): Float64Array | undefined {
  const known = [...counts.keys()].filter((k) => counts[k]! >= least)
  if (known.length === 0) return undefined
  return values.map((_, k) => {
    const near = known.reduce((best, other) => (Math.abs(other - k) <= Math.abs(best - k) ? other : best))
    return values[near]!
  })
}
