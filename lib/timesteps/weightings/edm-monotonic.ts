/**
 * EDM's density over lambda = log snr on the eps error, w = N(lambda; -2 mean, (2 deviation)^2) (1 / snr + sigmaData^2), raised to the least function
 * that never rises with lambda and is nowhere below it, times snr (math.md, eq. 95c; Kingma & Gao 2023, arXiv 2303.00848).
 */
export function edmMonotonic(mean: number, deviation: number, sigmaData: number): (snr: number) => number {
  const centre = -2 * mean
  const variance = (2 * deviation) ** 2
  const raw = (lambda: number): number =>
    (Math.exp(-((lambda - centre) ** 2) / (2 * variance)) / Math.sqrt(2 * Math.PI * variance)) *
    (Math.exp(-lambda) + sigmaData ** 2)
  const peaks = peaksOf(centre, variance, sigmaData)
  return (snr) => {
    const lambda = Math.log(snr)
    return snr * Math.max(raw(lambda), ...peaks.filter((peak) => peak > lambda).map(raw))
  }
}

/**
 * Where w has its maxima: one, or two where the normal law is wide and far from 1 / snr = sigmaData^2. There the slope of log w,
 * (centre - lambda) / variance - q with q = sigmoid(-lambda - log sigmaData^2), goes from above 0 to below.
 */
function peaksOf(centre: number, variance: number, sigmaData: number): number[] {
  const middle = -2 * Math.log(sigmaData) // where q = 1/2
  const slope = (lambda: number): number => (centre - lambda) / variance - 1 / (1 + Math.exp(lambda - middle))
  const [low, high] = [centre - variance, centre] // since 0 < q < 1
  if (variance <= 4) return falling(slope, low, high)
  // The slope itself rises only where q (1 - q) > 1 / variance, within `reach` of the middle.
  const q = (1 + Math.sqrt(1 - 4 / variance)) / 2
  const reach = Math.log(q / (1 - q))
  return [
    ...falling(slope, low, Math.min(middle - reach, high)),
    ...falling(slope, Math.max(middle + reach, low), high),
  ]
}

/** The root of a function that falls between two ends, or none. */
function falling(f: (x: number) => number, from: number, to: number): number[] {
  let [low, high] = [from, to]
  if (!(low < high && f(low) > 0 && f(high) <= 0)) return []
  for (let k = 0; k < 100; k++) {
    const middle = (low + high) / 2
    if (f(middle) > 0) low = middle
    else high = middle
  }
  return [high]
}
