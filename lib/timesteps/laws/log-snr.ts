import { argumentError, checkNumber } from '../../check.ts'
import { normalMass } from '../distributions.ts'
import { lawOnLogSnr, type TimestepLaw } from '../law.ts'

/** log snr has a Laplace law around mu of scale b (math.md, eq. 89; Hang et al. 2024, arXiv 2407.03297). */
export function laplaceLaw(alphaBar: Float64Array, mu = 0, b = 0.5): TimestepLaw {
  const call = 'laplaceLaw'
  checkNumber(call, 'mu', mu)
  checkScale(call, 'b', b)
  const tail = (distance: number): number => 0.5 * Math.exp(-distance) // beyond a distance >= 0
  return lawOnLogSnr(call, 'laplace', alphaBar, (low, high) => {
    const [from, to] = [(low - mu) / b, (high - mu) / b]
    if (from >= 0) return tail(from) - tail(to)
    if (to <= 0) return tail(-to) - tail(-from)
    return 1 - tail(-from) - tail(to)
  })
}

/** log snr has a Cauchy law around mu of scale gamma (math.md, eq. 90; Hang et al. 2024, arXiv 2407.03297). */
export function cauchyLaw(alphaBar: Float64Array, mu = 0, gamma = 1): TimestepLaw {
  const call = 'cauchyLaw'
  checkNumber(call, 'mu', mu)
  checkScale(call, 'gamma', gamma)
  return lawOnLogSnr(call, 'cauchy', alphaBar, (low, high) => {
    const [from, to] = [(low - mu) / gamma, (high - mu) / gamma]
    return (Math.atan(to) - Math.atan(from)) / Math.PI
  })
}

/**
 * The logarithm of EDM's noise level sqrt(1 / snr) is normal, so log snr is normal around -2 mean with deviation 2 deviation (math.md, eq. 91;
 * Karras et al. 2022, arXiv 2206.00364, table 1: -1.2 and 1.2).
 */
export function edmLaw(alphaBar: Float64Array, mean = -1.2, deviation = 1.2): TimestepLaw {
  const call = 'edmLaw'
  checkNumber(call, 'mean', mean)
  checkScale(call, 'deviation', deviation)
  const z = (logSnr: number): number => (logSnr + 2 * mean) / (2 * deviation)
  return lawOnLogSnr(call, 'edm', alphaBar, (low, high) => normalMass(z(low), z(high)))
}

/**
 * log snr as under the cosine schedule: sqrt(1 / snr) = sigmaData tan(pi u / 2) with u uniform, the v-diffusion law (math.md, eq. 91b; Salimans & Ho
 * 2022, arXiv 2202.00512; as k-diffusion's code draws it).
 *
 * @param sigmaData - a number > 0: 1 is the cosine schedule itself, k-diffusion takes the deviation of the pixels, and d / 64 is simple diffusion's shift
 * for images of d pixels a side (Hoogeboom et al. 2023, arXiv 2301.11093)
 * @throws RangeError for another sigmaData, or an alphaBar outside [0, 1]
 */
export function cosineLaw(alphaBar: Float64Array, sigmaData = 1): TimestepLaw {
  const call = 'cosineLaw'
  checkScale(call, 'sigmaData', sigmaData)
  const tangent = (logSnr: number): number => Math.exp(-logSnr / 2) / sigmaData
  return lawOnLogSnr(call, 'cosine', alphaBar, (low, high) => {
    const [from, to] = [tangent(high), tangent(low)]
    return (2 / Math.PI) * Math.atan((to - from) / (1 + from * to)) // of the difference of the angles, exact in both tails
  })
}

const GREATEST_LOG_SNR = Math.log(1e6)
const MOST_RATIO = 20
const HALVINGS = 60

/**
 * log snr as under simple diffusion's interpolated schedule: from the cosine schedule shifted for details of `noiseLow` pixels a side where there is
 * little noise to that of `noiseHigh` where there is much, within log snr of +-13.8 (math.md, eq. 91d; Hoogeboom et al. 2023, arXiv 2301.11093; range
 * as in k-diffusion's code).
 *
 * @param size - pixels a side of the images; with noiseLow and noiseHigh the same it is the law of the cosine schedule
 * @param noiseLow - a number > 0; below size: more noise
 * @param noiseHigh - a number > 0, at most 20 times noiseLow, beyond which log snr would not fall everywhere
 * @throws RangeError for other numbers, or an alphaBar outside [0, 1]
 */
export function cosineInterpolatedLaw(
  alphaBar: Float64Array,
  size = 32,
  noiseLow = 32,
  noiseHigh = size,
): TimestepLaw {
  const call = 'cosineInterpolatedLaw'
  checkScale(call, 'size', size)
  checkScale(call, 'noiseLow', noiseLow)
  checkScale(call, 'noiseHigh', noiseHigh)
  checkNumber(call, 'noiseHigh', noiseHigh, 0, MOST_RATIO * noiseLow)
  const shifted = (noise: number): ((u: number) => number) => {
    const shift = 2 * Math.log(noise / size)
    const angle = (logSnr: number): number => Math.atan(Math.exp((shift - logSnr) / 2))
    const [first, last] = [angle(GREATEST_LOG_SNR), angle(-GREATEST_LOG_SNR)]
    return (u) => shift - 2 * Math.log(Math.tan(first + u * (last - first)))
  }
  const [low, high] = [shifted(noiseLow), shifted(noiseHigh)]
  const drawnAt = (logSnr: number): number => {
    let [before, after] = [0, 1]
    for (let i = 0; i < HALVINGS; i++) {
      const u = (before + after) / 2
      if ((1 - u) * low(u) + u * high(u) > logSnr) before = u
      else after = u
    }
    return before
  }
  return lawOnLogSnr(call, 'cosine-interpolated', alphaBar, (from, to) => drawnAt(from) - drawnAt(to))
}

function checkScale(call: string, name: string, value: number): void {
  checkNumber(call, name, value)
  if (value <= 0) throw argumentError(call, name, 'a number > 0', value)
}
