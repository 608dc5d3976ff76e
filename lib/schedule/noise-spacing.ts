import { argumentError, checkInteger, checkKnownOptions, checkNumber, checkOneOf } from '../check.ts'
import { roundHalfToEven, spaceTimesteps } from './spacing.ts'

/** Names of step spacings; `StepSpacing` explains each. */
export const SPACINGS = ['uniform', 'trailing', 'quadratic', 'logSnr', 'karras'] as const
/** One of `SPACINGS`. */
export type SpacingName = (typeof SPACINGS)[number]

/**
 * How many timesteps a sampler visits, and how they lie (math.md, "Step spacing").
 *
 * - `uniform`: evenly in t from 0 to T - 1, whole timesteps, as guided-diffusion's respacing by a number.
 * - `trailing`: evenly in t down from T - 1, whole timesteps; 0 is left out (arXiv 2305.08891, table 2).
 * - `quadratic`: sqrt(t) evenly, so that small t are visited more often (DDIM, appendix D.2).
 * - `logSnr`: the logarithm of the signal-to-noise ratio evenly (DPM-Solver, arXiv 2206.00927).
 * - `karras`: sigma^(1/rho) evenly, sigma = sqrt(1 / alphaBar - 1) (arXiv 2206.00364, eq. 5).
 *
 * The last three visit fractional timesteps, which the network is told as they are.
 */
export interface StepSpacing {
  readonly spacing: SpacingName
  /** Timesteps visited; at most T for whole ones. */
  readonly steps: number
  /** Of `karras`; 7 by default. */
  readonly rho?: number
}

/**
 * The timesteps of a spacing, ascending, possibly fractional.
 *
 * @param snr - signal-to-noise ratio of power at each timestep of the process, descending
 * @throws RangeError where the last timestep holds no signal and the spacing needs a finite ratio
 */
export function spaceSteps(snr: Float64Array, options: StepSpacing): Float64Array {
  const call = 'spaceSteps'
  checkKnownOptions(call, options, ['spacing', 'steps', 'rho'])
  const { spacing, steps, rho = 7 } = options
  const count = snr.length
  checkOneOf(call, 'spacing', spacing, SPACINGS)
  const isWhole = spacing === 'uniform' || spacing === 'trailing'
  checkInteger(call, 'steps', steps, 1, isWhole ? count : 100_000)
  checkNumber(call, 'rho', rho, 1e-3)
  if (options.rho !== undefined && spacing !== 'karras') {
    throw argumentError(call, 'rho', 'absent, which belongs to karras', rho)
  }
  if (spacing === 'uniform') return Float64Array.from(spaceTimesteps(count, String(steps)))
  if (spacing === 'trailing') {
    return Float64Array.from({ length: steps }, (_, i) => roundHalfToEven(((i + 1) * count) / steps) - 1)
  }
  const share = (i: number): number => (steps === 1 ? 1 : i / (steps - 1))
  if (spacing === 'quadratic') {
    return Float64Array.from({ length: steps }, (_, i) => (count - 1) * share(i) ** 2)
  }
  if (snr[count - 1] === 0) {
    throw argumentError(call, 'spacing', 'uniform, trailing or quadratic', spacing, {
      hint: 'the last timestep of this schedule holds no signal',
    })
  }
  // Between two timesteps log snr is linear in t, so each spacing is even in some function of log snr.
  const place = spacing === 'logSnr' ? Math.log : (ratio: number) => ratio ** (-0.5 / rho)
  const logSnrAt = spacing === 'logSnr' ? (p: number) => p : (p: number) => -2 * rho * Math.log(p)
  const [first, last] = [place(snr[0]!), place(snr[count - 1]!)]
  return Float64Array.from({ length: steps }, (_, i) => {
    if (share(i) === 0 || share(i) === 1) return share(i) * (count - 1)
    return timestepAt(snr, logSnrAt(first + share(i) * (last - first)))
  })
}

/** The fractional timestep of a logarithm of the signal-to-noise ratio. */
function timestepAt(snr: Float64Array, logSnr: number): number {
  let [low, high] = [0, snr.length - 1]
  while (high - low > 1) {
    const middle = (low + high) >> 1
    if (Math.log(snr[middle]!) >= logSnr) low = middle
    else high = middle
  }
  const [above, below] = [Math.log(snr[low]!), Math.log(snr[high]!)]
  return Math.min(high, low + (above - logSnr) / (above - below))
}
