import { argumentError, checkInteger, checkKnownOptions, checkNumber, checkOneOf } from '../check.ts'
import type { TimestepLaw } from './law.ts'
import { checkDraw, type TimestepSampler } from './sampler.ts'
import { cumulate, invert, positionStream, STREAMS, type StreamName } from './stream.ts'

/** Options of `lawSampler`. */
export interface LawSamplerOptions {
  /** How often each timestep is drawn. */
  readonly law: TimestepLaw
  /** How the draws of a batch depend on one another; `iid` by default. */
  readonly stream?: StreamName
  /** A whole number in [0, 2^53); 0 by default. */
  readonly seed?: number
  /**
   * Weights 1 / (T p_t), so that the law changes the variance of the loss and not what is minimised; false by default, which makes the law a
   * part of the objective, as in the papers that the laws are from.
   */
  readonly importanceWeights?: boolean
  /** Share of uniform draws mixed in, in [0, 1]; 0.001 by default with importance weights, which it bounds by 1000, else 0. */
  readonly uniformShare?: number
}

/**
 * Draws timesteps from a law: a stream of positions in [0, 1) through the inverse of the law's cumulative distribution (math.md, eq. 80).
 *
 * @example
 * lawSampler({ law: logitNormalLaw(1000, 0, 1), stream: 'golden', seed: 1 })
 */
export function lawSampler(options: LawSamplerOptions): TimestepSampler {
  const call = 'lawSampler'
  checkKnownOptions(call, options, ['law', 'stream', 'seed', 'importanceWeights', 'uniformShare'])
  const { law, stream = 'iid', seed = 0, importanceWeights = false } = options
  const { uniformShare = importanceWeights ? 0.001 : 0 } = options
  checkOneOf(call, 'stream', stream, STREAMS)
  checkInteger(call, 'seed', seed, 0)
  checkNumber(call, 'uniformShare', uniformShare, 0, 1)
  const { timestepCount, partner } = law
  const positions = positionStream(stream, seed)

  let lawOf: Float64Array | undefined // what the two below were made from
  let probabilities: Float64Array = new Float64Array(0)
  let cumulative: Float64Array = new Float64Array(0)
  const settle = (step: number): void => {
    const p = law.at(step)
    if (p === lawOf) return
    lawOf = p
    probabilities = withUniformShare(p, uniformShare)
    cumulative = cumulate(probabilities)
    if (importanceWeights && probabilities.some((value) => value === 0)) {
      throw argumentError(
        call,
        'law',
        'one that gives every timestep a chance, for importanceWeights',
        law.name,
        {
          hint: 'give a uniformShare',
        },
      )
    }
  }

  return {
    name: law.name,
    unbiased: importanceWeights,
    draw(count, step) {
      checkDraw(`${call}.draw`, count, step)
      settle(step)
      const drawn = partner ? Math.min(Math.floor(count / 2) + 1, count) : count
      const total = cumulative.at(-1)!
      const t = new Int32Array(count)
      for (const [i, u] of positions(drawn, step).entries()) t[i] = invert(cumulative, u * total)
      // The draws of a stratified batch are not alike: each stratum has partners equally often.
      const shift = stream === 'stratified' ? step : 0
      for (let i = drawn; i < count; i++) t[i] = partner!(t[(i - drawn + shift) % drawn]!)
      const weight = new Float32Array(count).fill(1)
      if (importanceWeights) {
        const share = partner ? marginal(probabilities, partner, drawn / count) : probabilities
        for (const [i, value] of t.entries()) weight[i] = 1 / (timestepCount * share[value]!)
      }
      return { t, weight }
    },
  }
}

/** A law [T] with a share of uniform draws mixed in. */
export function withUniformShare(p: Float64Array, share = 0): Float64Array {
  return p.map((value) => (1 - share) * value + share / p.length)
}

/** How often a timestep is trained when a part of the examples is drawn and the rest are their partners. */
function marginal(p: Float64Array, partner: (t: number) => number, drawnPart: number): Float64Array {
  const mixed = p.map((value) => drawnPart * value)
  for (const [t, value] of p.entries()) mixed[partner(t)]! += (1 - drawnPart) * value
  return mixed
}
