// Numbers keyed by (seed, purpose, step, sample): the same key gives the same numbers whenever it is asked,
// so there is nothing to save and a resumed run draws what the uninterrupted one would have drawn.
// Generator: Philox4x32-10 (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3"), the same as
// native/runtime/philox.h; counter = (block, sample, step, purpose), key = the 64-bit seed.

/** What numbers are drawn for; each purpose is a stream of its own. Mirrors native/runtime/rng.h. */
export const PURPOSES = {
  noise: 1, // native: noise added to images in training
  dropout: 2, // native
  weights: 3, // native: initial weights
  startNoise: 4, // native: where a sample starts
  stepNoise: 5, // native: noise of an ancestral step
  timesteps: 16,
  shuffle: 17,
  flip: 18,
  slots: 19,
  probe: 20, // evaluation noise and choices
  crop: 21,
  labels: 22,
  labelDropout: 23,
  features: 28, // of the learned uncertainty
} as const

/** A name among `PURPOSES`. */
export type Purpose = keyof typeof PURPOSES

/** A stream of numbers for one (seed, purpose, step, sample). */
export interface RandomStream {
  /** 32 random bits as an unsigned integer. */
  bits(): number
  /** Uniform in [0, 1), with 53 random bits. */
  uniform(): number
  /** A whole number in [begin, end), without modulo bias. */
  integer(begin: number, end: number): number
  /** Standard normal (Box-Muller). */
  normal(): number
}

/** A family of streams, one for each step and sample. */
export interface Random {
  /** The stream of a step and, if given, of one sample within it. Always starts from its beginning. */
  at(step: number, sample?: number): RandomStream
}

/**
 * Numbers for one purpose of one seed.
 *
 * @param seed - a whole number in [0, 2^53)
 */
export function keyedRandom(seed: number, purpose: Purpose): Random {
  if (!Number.isSafeInteger(seed) || seed < 0) {
    throw new RangeError(`keyedRandom: expected seed to be an integer in [0, 2^53), got ${seed}`)
  }
  const keyLow = seed >>> 0
  const keyHigh = Math.floor(seed / 2 ** 32) >>> 0
  const purposeWord = PURPOSES[purpose]
  return { at: (step, sample = 0) => stream(keyLow, keyHigh, purposeWord, step, sample) }
}

function stream(
  keyLow: number,
  keyHigh: number,
  purpose: number,
  step: number,
  sample: number,
): RandomStream {
  let block = 0
  let used = 4
  let words: Uint32Array = new Uint32Array(4)
  const bits = (): number => {
    if (used === 4) {
      words = philox4x32(block++, sample, step, purpose, keyLow, keyHigh)
      used = 0
    }
    return words[used++]!
  }
  const uniform = (): number => {
    const high = bits() >>> 5 // 27 bits
    const low = bits() >>> 6 // 26 bits
    return (high * 2 ** 26 + low) / 2 ** 53
  }
  return {
    bits,
    uniform,
    integer(begin, end) {
      const range = end - begin
      if (!(range > 0)) throw new RangeError(`random.integer: expected begin < end, got [${begin}, ${end})`)
      return begin + Math.floor(uniform() * range)
    },
    normal() {
      const radius = Math.sqrt(-2 * Math.log(1 - uniform()))
      return radius * Math.cos(2 * Math.PI * uniform())
    },
  }
}

/** One block of Philox4x32-10: four 32-bit words from a 128-bit counter and a 64-bit key. */
export function philox4x32(
  c0: number,
  c1: number,
  c2: number,
  c3: number,
  k0: number,
  k1: number,
): Uint32Array {
  let a = c0 >>> 0
  let b = c1 >>> 0
  let c = c2 >>> 0
  let d = c3 >>> 0
  let key0 = k0 >>> 0
  let key1 = k1 >>> 0
  for (let round = 0; round < 10; round++) {
    const high0 = multiplyHigh(0xd2511f53, a)
    const low0 = Math.imul(0xd2511f53, a) >>> 0
    const high1 = multiplyHigh(0xcd9e8d57, c)
    const low1 = Math.imul(0xcd9e8d57, c) >>> 0
    a = (high1 ^ b ^ key0) >>> 0
    b = low1
    c = (high0 ^ d ^ key1) >>> 0
    d = low0
    key0 = (key0 + 0x9e3779b9) >>> 0
    key1 = (key1 + 0xbb67ae85) >>> 0
  }
  return Uint32Array.of(a, b, c, d)
}

/** The upper 32 bits of a 32 x 32 bit product. */
function multiplyHigh(x: number, y: number): number {
  const xl = x & 0xffff
  const xh = x >>> 16
  const yl = y & 0xffff
  const yh = y >>> 16
  const middle = xh * yl + ((xl * yl) >>> 16)
  const middle2 = xl * yh + (middle % 0x10000)
  return (xh * yh + Math.floor(middle / 0x10000) + Math.floor(middle2 / 0x10000)) >>> 0
}
