import { argumentError, checkInteger, checkKnownOptions, checkNumber } from '../check.ts'
import type { PowerShare } from '../timesteps/laws/constant-rate.ts'

/** Images of `gaussianSpectrum`. */
export interface GaussianImageOptions {
  /** Side of the square images in pixels. */
  readonly size: number
  /** Variance of the pixels; 0.25 by default, about that of images in [-1, 1]. */
  readonly dataVariance?: number
  /** Power falls with spatial frequency f as f^-exponent; 2 by default, as in photographs. */
  readonly exponent?: number
}

/** Images and process of `gaussianEpsLoss`. */
export interface GaussianModelOptions extends GaussianImageOptions {
  /** Cumulative signal of each timestep, shape [T], each in (0, 1). */
  readonly alphaBar: Float64Array | readonly number[]
}

/**
 * Powers of Gaussian images with a power-law spectrum, and the share of the components that have each.
 *
 * Frequencies are those of the discrete Fourier transform in cycles per image; the constant component, whose
 * frequency would be 0, gets the power of frequency 1/2.
 */
export function gaussianSpectrum(options: GaussianImageOptions): PowerShare[] {
  const call = 'gaussianSpectrum'
  checkKnownOptions(call, options, ['size', 'dataVariance', 'exponent'])
  return spectrumOf(call, options)
}

/**
 * The smallest possible mean squared error of eps at each timestep, shape [T], when images are Gaussian with
 * a power-law spectrum (math.md, eq. 21): what a perfect network would show, to compare measured losses and
 * slots with. The spectrum is that of `gaussianSpectrum`.
 */
export function gaussianEpsLoss(options: GaussianModelOptions): Float64Array {
  const call = 'gaussianEpsLoss'
  checkKnownOptions(call, options, ['size', 'alphaBar', 'dataVariance', 'exponent'])
  const { alphaBar } = options
  const spectrum = spectrumOf(call, options)
  for (const [t, value] of alphaBar.entries()) {
    if (!(value > 0 && value < 1)) throw argumentError(call, `alphaBar[${t}]`, 'in (0, 1)', value)
  }

  return Float64Array.from(alphaBar, (signal) => {
    const noise = 1 - signal
    let xStartError = 0
    for (const { power, share } of spectrum) xStartError += (share * power * noise) / (signal * power + noise)
    return (signal / noise) * xStartError
  })
}

function spectrumOf(call: string, options: GaussianImageOptions): PowerShare[] {
  const { size, dataVariance = 0.25, exponent = 2 } = options
  checkInteger(call, 'size', size, 1)
  checkNumber(call, 'dataVariance', dataVariance)
  if (dataVariance <= 0) throw argumentError(call, 'dataVariance', 'a number > 0', dataVariance)
  checkNumber(call, 'exponent', exponent, 0)

  // Squared frequency -> how many of the size x size components have it.
  const counts = new Map<number, number>()
  for (let y = 0; y < size; y++) {
    for (let x = 0; x < size; x++) {
      const squared = Math.min(y, size - y) ** 2 + Math.min(x, size - x) ** 2
      counts.set(squared, (counts.get(squared) ?? 0) + 1)
    }
  }
  const components = [...counts].map(([squared, count]) => ({
    power: (squared || 0.25) ** (-exponent / 2),
    share: count / size ** 2,
  }))
  const mean = components.reduce((sum, { power, share }) => sum + power * share, 0)
  return components.map(({ power, share }) => ({ power: (power / mean) * dataVariance, share }))
}
