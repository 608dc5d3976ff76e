import { keyedRandom } from '../random.ts'

/** How the positions of a batch in [0, 1) depend on one another; with any law they become timesteps. */
export const STREAMS = ['iid', 'stratified', 'systematic', 'golden'] as const
/** One of `STREAMS`. */
export type StreamName = (typeof STREAMS)[number]

/** Positions in [0, 1) of a batch, shape [count]: a pure function of seed, step and batch size. */
export type PositionStream = (count: number, step: number) => Float64Array

const GOLDEN = 0x9e3779b9 // 2^32 (sqrt(5) - 1) / 2, as an odd whole number: all 2^32 positions are visited

/**
 * Streams of positions that are each uniform on [0, 1) (math.md, eq. 19, 20 and 83).
 *
 * `iid`: independent. `stratified`: one in each of B equal strata. `systematic`: evenly spaced from one offset. `golden`: one sequence
 * over all examples of all steps, u_n = (offset + n (sqrt(5) - 1) / 2) mod 1 with n = step x B + i, of which every window is spread
 * evenly; in steps of 2^-32.
 *
 * @param seed - a whole number in [0, 2^53)
 */
export function positionStream(name: StreamName, seed: number): PositionStream {
  const random = keyedRandom(seed, 'timesteps')
  switch (name) {
    case 'iid':
      return (count, step) => {
        const stream = random.at(step)
        return Float64Array.from({ length: count }, () => stream.uniform())
      }
    case 'stratified':
      return (count, step) => {
        const stream = random.at(step)
        return Float64Array.from({ length: count }, (_, i) => (i + stream.uniform()) / count)
      }
    case 'systematic':
      return (count, step) => {
        const offset = random.at(step).uniform()
        return Float64Array.from({ length: count }, (_, i) => (offset + i / count) % 1)
      }
    case 'golden': {
      const offset = random.at(0).bits()
      return (count, step) =>
        Float64Array.from({ length: count }, (_, i) => {
          const n = (step * count + i) % 2 ** 32
          return ((offset + Math.imul(n, GOLDEN)) >>> 0) / 2 ** 32
        })
    }
  }
}

/** The timestep at a position in [0, 1] under the uniform law; a sum such as 3 + u may round up to 4, hence the bound. */
export function timestepAt(position: number, timestepCount: number): number {
  return Math.min(Math.floor(timestepCount * position), timestepCount - 1)
}

/** Running sums of probabilities, for `invert`. */
export function cumulate(probabilities: Float64Array): Float64Array {
  let sum = 0
  return probabilities.map((value) => (sum += value))
}

/** The first index whose running sum is greater than `target`; the last one when rounding leaves none. */
export function invert(cumulative: Float64Array, target: number): number {
  let low = 0
  let high = cumulative.length - 1
  while (low < high) {
    const middle = (low + high) >>> 1
    if (cumulative[middle]! > target) high = middle
    else low = middle + 1
  }
  return low
}
