import { argumentError, checkNumber } from '../../check.ts'
import { fixedLaw, logSnrEdges, type TimestepLaw } from '../law.ts'

/** A power that components of images have, and the share of the components that have it. */
export interface PowerShare {
  /** Variance of such a component, > 0. */
  readonly power: number
  /** In (0, 1]; all shares of a spectrum add up to 1. */
  readonly share: number
}

/**
 * Timesteps in proportion to how far the distribution of x_t moves in them, as if on the schedule on which it moves at a constant rate (math.md, eq. 91c;
 * Okada et al. 2024, "Constant Rate Scheduling", arXiv 2411.12188). Its distances are measured on images; here they are the Fisher-Rao distances
 * of Gaussian images, which need no network. Nothing moves where the image is noise, or all but clean: mix a uniform share in, as runs do.
 *
 * @param alphaBar - cumulative signal of each timestep, shape [T]
 * @param spectrum - of the images, as `gaussianSpectrum` gives it
 * @throws RangeError for a spectrum of white images of variance 1, whose x_t never change
 */
export function constantRateLaw(alphaBar: Float64Array, spectrum: readonly PowerShare[]): TimestepLaw {
  const call = 'constantRateLaw'
  for (const [k, { power, share }] of spectrum.entries()) {
    for (const [name, value] of Object.entries({ power, share })) {
      checkNumber(call, `spectrum[${k}].${name}`, value)
      if (value <= 0) throw argumentError(call, `spectrum[${k}].${name}`, 'a number > 0', value)
    }
  }
  // Logarithm of each component's variance alphaBar power + 1 - alphaBar at the ends of the timesteps' cells.
  const logVariances = [...logSnrEdges(call, alphaBar)].map((logSnr) => {
    const signal = 1 / (1 + Math.exp(-logSnr))
    return spectrum.map(({ power }) => Math.log1p(signal * (power - 1)))
  })
  const masses = Float64Array.from(alphaBar, (_, t) => {
    const [from, to] = [logVariances[t]!, logVariances[t + 1]!]
    const squares = spectrum.map(({ share }, k) => share * (to[k]! - from[k]!) ** 2)
    return Math.sqrt(squares.reduce((a, b) => a + b, 0) / 2)
  })
  return fixedLaw(call, 'constant-rate', masses)
}
