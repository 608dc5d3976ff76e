import {
  argumentError,
  checkInteger,
  checkKnownOptions,
  checkNumber,
  checkOneOf,
  checkTimesteps,
} from '../check.ts'
import { drawWeighted, probabilitiesOf } from './masses.ts'
import { checkDraw, type JsonValue, type TimestepSampler } from './sampler.ts'
import { positionStream, STREAMS, type StreamName } from './stream.ts'
import { checkUniformOptions, type UniformSamplerOptions } from './uniform.ts'

/** Options of `lossSecondMomentSampler`. */
export interface LossSecondMomentOptions extends UniformSamplerOptions {
  /** Losses remembered for each timestep; 10 by default. */
  readonly historyLength?: number
  /** Share of uniform draws mixed in, in [0, 1]; 0.001 by default. */
  readonly uniformShare?: number
  /** How the draws of a batch depend on one another; `iid` by default. */
  readonly stream?: StreamName
}

/** `lossSecondMomentSampler`, and its law as it is now. */
export interface LossSecondMomentSampler extends TimestepSampler {
  /** Probability of each timestep now, shape [T]. */
  probabilities(): Float64Array
  /** Every timestep has its full history; until then draws are uniform. */
  readonly warmedUp: boolean
}

/**
 * Draws timesteps in proportion to the root mean square of their recent losses, with weights 1 / (T p_t) that
 * keep the expected loss (math.md, eq. 22; Nichol & Dhariwal 2021, "Improved DDPM", eq. 18).
 *
 * Warm-up is long: uniform draws need about 23 500 examples until each of 1000 timesteps has ten losses.
 * Losses that are not finite are not learned from.
 */
export function lossSecondMomentSampler(options: LossSecondMomentOptions): LossSecondMomentSampler {
  const call = 'lossSecondMomentSampler'
  checkKnownOptions(call, options, ['timestepCount', 'seed', 'historyLength', 'uniformShare', 'stream'])
  const { historyLength = 10, uniformShare = 0.001, stream = 'iid', ...shared } = options
  const { timestepCount, seed } = checkUniformOptions(call, shared)
  checkInteger(call, 'historyLength', historyLength, 1)
  checkNumber(call, 'uniformShare', uniformShare, 0, 1)
  checkOneOf(call, 'stream', stream, STREAMS)

  const positions = positionStream(stream, seed)
  let history = emptyHistory(timestepCount) // oldest first, at most historyLength a timestep
  let missing = timestepCount // timesteps whose history is not full

  const probabilities = (): Float64Array => {
    if (missing > 0) return new Float64Array(timestepCount).fill(1 / timestepCount)
    return probabilitiesOf(
      Float64Array.from(history, (losses) => Math.sqrt(meanSquare(losses))),
      uniformShare,
    )
  }

  return {
    name: 'loss-second-moment',
    unbiased: true,
    get warmedUp() {
      return missing === 0
    },
    probabilities,
    draw(count, step) {
      checkDraw(`${call}.draw`, count, step)
      return drawWeighted(probabilities(), positions(count, step))
    },
    observe({ t, loss }) {
      checkTimesteps(`${call}.observe`, t, timestepCount, loss.length)
      for (const [i, value] of loss.entries()) {
        if (!Number.isFinite(value)) continue
        const losses = history[t[i]!]!
        losses.push(value)
        if (losses.length === historyLength) missing--
        if (losses.length > historyLength) losses.shift()
      }
    },
    state: () => ({ historyLength, history: history.map((losses) => [...losses]) }),
    restore(state) {
      history = checkState(`${call}.restore`, state, timestepCount, historyLength)
      missing = history.filter((losses) => losses.length < historyLength).length
    },
  }
}

function emptyHistory(timestepCount: number): number[][] {
  return Array.from({ length: timestepCount }, () => [])
}

function meanSquare(losses: readonly number[]): number {
  return losses.reduce((sum, loss) => sum + loss * loss, 0) / losses.length
}

function checkState(
  call: string,
  state: JsonValue,
  timestepCount: number,
  historyLength: number,
): number[][] {
  const what = `the state of a sampler over ${timestepCount} timesteps with history ${historyLength}`
  const { history, historyLength: length } = (state ?? {}) as { history?: unknown; historyLength?: unknown }
  const fits =
    Array.isArray(history) &&
    history.length === timestepCount &&
    length === historyLength &&
    history.every((row) => Array.isArray(row) && row.length <= historyLength && row.every(Number.isFinite))
  if (!fits) {
    const got = Array.isArray(history) ? `${history.length} timesteps with history ${length}` : state
    throw argumentError(call, 'state', what, got, { hint: 'a changed sampler starts anew, without restore' })
  }
  return history.map((row: readonly number[]) => [...row])
}
