import { argumentError } from '../check.ts'

/** How often each timestep is drawn. A law of your own is an object with `name` and `at`. */
export interface TimestepLaw {
  readonly name: string
  readonly timestepCount: number
  /** Probability of each timestep at a training step, shape [T], adding up to 1. */
  at(step: number): Float64Array
  /**
   * Of a batch of B only the first floor(B / 2) + 1 are drawn; the others are these timesteps of the first (SpeeD).
   * Absent when every example is drawn.
   */
  readonly partner?: (t: number) => number
}

/**
 * A law that is the same at every step, from masses that need not add up to 1.
 *
 * @param call - what messages of errors begin with
 */
export function fixedLaw(call: string, name: string, masses: Float64Array): TimestepLaw {
  const probabilities = normalised(call, masses)
  return { name, timestepCount: masses.length, at: () => probabilities }
}

/**
 * A law on t / T in [0, 1] from its cumulative distribution; timestep t has the mass between t / T and (t + 1) / T.
 *
 * @param call - what messages of errors begin with
 */
export function lawFromMass(
  call: string,
  name: string,
  timestepCount: number,
  mass: (low: number, high: number) => number,
): TimestepLaw {
  const masses = Float64Array.from({ length: timestepCount }, (_, t) =>
    mass(t / timestepCount, (t + 1) / timestepCount),
  )
  return fixedLaw(call, name, masses)
}

/**
 * A law on log snr, integrated over each timestep's cell: the range of log snr that is nearer to this timestep than to any other. The law is
 * cut off at the ends of the schedule.
 *
 * @param call - what messages of errors begin with
 * @param mass - of the range from low to high
 */
export function lawOnLogSnr(
  call: string,
  name: string,
  alphaBar: Float64Array,
  mass: (low: number, high: number) => number,
): TimestepLaw {
  const edges = logSnrEdges(call, alphaBar)
  return fixedLaw(
    call,
    name,
    Float64Array.from(alphaBar, (_, t) => mass(edges[t + 1]!, edges[t]!)),
  )
}

const LEAST_SNR = 1e-6
const GREATEST_SNR = 1e6

/**
 * Signal-to-noise ratio of each timestep, shape [T], kept within [1e-6, 1e6] (zero terminal SNR has none, and some begin without noise).
 *
 * @param call - what messages of errors begin with
 */
export function clippedSnr(call: string, alphaBar: Float64Array | readonly number[]): Float64Array {
  if (alphaBar.length === 0) throw argumentError(call, 'alphaBar', 'one value a timestep', alphaBar)
  for (const [t, value] of alphaBar.entries()) {
    if (!(value >= 0 && value <= 1)) throw argumentError(call, `alphaBar[${t}]`, 'in [0, 1]', value)
  }
  return Float64Array.from(alphaBar, (signal) =>
    Math.min(Math.max(signal / (1 - signal), LEAST_SNR), GREATEST_SNR),
  )
}

/**
 * Ends of the timesteps' cells on log snr, shape [T + 1], falling: half-way between neighbours (where t is a half by math.md, eq. 40),
 * and as far beyond the first and the last as their neighbours' half-way is before them. Where several timesteps are beyond the ratios that
 * `clippedSnr` keeps, the second and all further ones lie as far apart as the first is from its neighbour, so that each has a cell.
 *
 * @param call - what messages of errors begin with
 */
export function logSnrEdges(call: string, alphaBar: Float64Array | readonly number[]): Float64Array {
  const logSnr = clippedSnr(call, alphaBar).map(Math.log)
  spread(logSnr, Math.log(LEAST_SNR), 1)
  spread(logSnr, Math.log(GREATEST_SNR), -1)
  const count = logSnr.length
  const edges = new Float64Array(count + 1)
  for (let t = 1; t < count; t++) edges[t] = (logSnr[t - 1]! + logSnr[t]!) / 2
  edges[0] = count > 1 ? 2 * logSnr[0]! - edges[1]! : logSnr[0]! + 0.5
  edges[count] = count > 1 ? 2 * logSnr[count - 1]! - edges[count - 1]! : logSnr[0]! - 0.5
  return edges
}

/** Moves timesteps that share the end value further on, towards the end (direction 1) or the beginning (-1). */
function spread(logSnr: Float64Array, end: number, direction: 1 | -1): void {
  const last = direction === 1 ? logSnr.length - 1 : 0
  let first = last // of those with the end value, counted from the middle
  while (logSnr[first - direction] === end) first -= direction
  if (logSnr[last] !== end || first === last) return
  const before = logSnr[first - direction]
  const step = before === undefined ? 1 : Math.abs(end - before)
  for (let t = first, k = 0; k <= Math.abs(last - first); t += direction, k++)
    logSnr[t] = end - direction * k * step
}

/**
 * Density of log snr at each timestep under a law, shape [T]: p(t) over the width of the cell (math.md, eq. 82).
 */
export function logSnrDensity(
  probabilities: Float64Array,
  alphaBar: Float64Array | readonly number[],
): Float64Array {
  const edges = logSnrEdges('logSnrDensity', alphaBar)
  return probabilities.map((p, t) => p / (edges[t]! - edges[t + 1]!))
}

function normalised(call: string, masses: Float64Array): Float64Array {
  const total = masses.reduce((a, b) => a + b, 0)
  if (!(total > 0 && Number.isFinite(total)) || masses.some((mass) => !(mass >= 0))) {
    throw argumentError(call, 'the law', 'one that gives some timestep a chance', `a total mass of ${total}`)
  }
  return masses.map((mass) => mass / total)
}
