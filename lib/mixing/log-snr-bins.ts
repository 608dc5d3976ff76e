import { argumentError, checkInteger } from '../check.ts'

/** Log snr is kept within these limits, so that a process without signal at its end has finite bins. */
export const LOG_SNR_LIMIT = Math.log(1e6)

/** Ranges of neighbouring timesteps, least noise first. */
export interface LogSnrBins {
  /** [bins + 1] timesteps: bin b holds t with edges[b] <= t < edges[b + 1]. */
  readonly edges: readonly number[]
  /** [bins - 1] log snr between neighbouring bins, descending, for timesteps that are no whole ones. */
  readonly borders: readonly number[]
  /** [bins] mean log snr of each bin's timesteps, descending. */
  readonly centres: readonly number[]
}

/** Log snr of each timestep, [T], within [-13.8, 13.8]: snr is kept within [1e-6, 1e6], so that no bin is without end. */
export function logSnrOf(snr: Float64Array): Float64Array {
  return snr.map((value) => Math.max(-LOG_SNR_LIMIT, Math.min(LOG_SNR_LIMIT, Math.log(value))))
}

/** Share of the signal, alphaBar, at a timestep of `logSnrOf`; 0 where that is at its lower limit, as without signal. */
export function alphaBarOf(logSnr: number): number {
  return logSnr <= -LOG_SNR_LIMIT ? 0 : 1 / (1 + Math.exp(-logSnr))
}

/**
 * Cuts a process into bins of equal width in log snr, but with at least T / (2 binCount) timesteps each, so that none is
 * visited too seldom; there are at most `binCount` of them.
 *
 * @param logSnr - [T], descending
 */
export function logSnrBins(logSnr: Float64Array, binCount = 20): LogSnrBins {
  checkInteger('logSnrBins', 'binCount', binCount, 1)
  if (logSnr.length === 0) throw argumentError('logSnrBins', 'logSnr', 'of at least one timestep', logSnr)
  const count = logSnr.length
  const at = (t: number): number => logSnr[t] as number
  const width = (at(0) - at(count - 1)) / binCount
  const least = Math.ceil(count / (2 * binCount))
  const edges = [0]
  for (let t = 1; t < count; t++) {
    const begin = edges.at(-1) as number
    const isWide = at(begin) - at(t) >= width * (1 - 1e-9)
    if (isWide && t - begin >= least && count - t >= least && edges.length < binCount) edges.push(t)
  }
  const centres = edges.map((begin, b) => {
    const part = logSnr.subarray(begin, edges[b + 1] ?? count)
    return part.reduce((sum, value) => sum + value, 0) / part.length
  })
  const borders = edges.slice(1).map((begin) => (at(begin - 1) + at(begin)) / 2)
  return { edges: [...edges, count], borders, centres }
}

/** The bin of a log snr. */
export function binOfLogSnr({ borders }: LogSnrBins, logSnr: number): number {
  return borders.filter((border) => logSnr <= border).length
}

/** The bin of a whole timestep. */
export function binOfTimestep({ edges }: LogSnrBins, t: number): number {
  let bin = 0
  while (bin + 2 < edges.length && (edges[bin + 1] as number) <= t) bin++
  return bin
}
