import { argumentError, checkInteger, checkKnownOptions, checkNumber } from '../check.ts'

/** Images and process of `gaussianEpsLoss`. */
export interface GaussianModelOptions {
  /** Side of the square images in pixels. */
  readonly size: number
  /** Cumulative signal of each timestep, shape [T], each in (0, 1). */
  readonly alphaBar: Float64Array | readonly number[]
  /** Variance of the pixels; 0.25 by default, about that of images in [-1, 1]. */
  readonly dataVariance?: number
  /** Power falls with spatial frequency f as f^-exponent; 2 by default, as in photographs. */
  readonly exponent?: number
}

/**
 * The smallest possible mean squared error of eps at each timestep, shape [T], when images are Gaussian with
 * a power-law spectrum (math.md, eq. 21): what a perfect network would show, to compare measured losses and
 * slots with.
 *
 * Frequencies are those of the discrete Fourier transform in cycles per image; the constant component, whose
 * frequency would be 0, gets the power of frequency 1/2.
 */
export function gaussianEpsLoss(options: GaussianModelOptions): Float64Array {
  const call = 'gaussianEpsLoss'
  checkKnownOptions(call, options, ['size', 'alphaBar', 'dataVariance', 'exponent'])
  const { size, alphaBar, dataVariance = 0.25, exponent = 2 } = options
  checkInteger(call, 'size', size, 1)
  checkNumber(call, 'dataVariance', dataVariance)
  if (dataVariance <= 0) throw argumentError(call, 'dataVariance', 'a number > 0', dataVariance)
  checkNumber(call, 'exponent', exponent, 0)
  for (const [t, value] of alphaBar.entries()) {
    if (!(value > 0 && value < 1)) throw argumentError(call, `alphaBar[${t}]`, 'in (0, 1)', value)
  }

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

  return Float64Array.from(alphaBar, (signal) => {
    const noise = 1 - signal
    let xStartError = 0
    for (const { power, share } of components) {
      const p = (power / mean) * dataVariance
      xStartError += (share * p * noise) / (signal * p + noise)
    }
    return (signal / noise) * xStartError
  })
}
