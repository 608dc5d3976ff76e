import { argumentError, checkInteger, checkKnownOptions, checkNumber } from '../check.ts'
import { keyedRandom } from '../random.ts'
import { Adam } from './adam.ts'
import { clippedSnr } from './law.ts'
import { numbersOf } from './loss-bins.ts'
import type { JsonValue, TimestepSampler } from './sampler.ts'

/** Weightings that are learned from the losses, in whatever space. */
export const LEARNED_WEIGHTING_NAMES = ['uncertainty', 'cluster-uncertainty'] as const

/** Names and defaults of their numbers for T timesteps, in the order in which a run lists them. */
export const LEARNED_WEIGHTINGS = {
  uncertainty: () => ({}),
  'cluster-uncertainty': (timestepCount: number) => ({ clusters: Math.min(5, timestepCount) }),
} as const satisfies Record<
  (typeof LEARNED_WEIGHTING_NAMES)[number],
  (timestepCount: number) => Record<string, number>
>

/** Whether a weighting is learned, and so needs no space. */
export function isLearned(weighting: string): weighting is (typeof LEARNED_WEIGHTING_NAMES)[number] {
  return Object.hasOwn(LEARNED_WEIGHTINGS, weighting)
}

/** Options of `uncertaintySampler`. */
export interface UncertaintyOptions {
  /** Cumulative signal of each timestep, shape [T]. */
  readonly alphaBar: Float64Array
  /** Fourier features of the noise level; 128 by default. */
  readonly featureCount?: number
  /** u is one number in each of this many clusters of neighbouring timesteps instead, in [1, T]; absent by default. */
  readonly clusterCount?: number
  /** Learning rate of the uncertainty's own Adam; 0.01 by default. */
  readonly lr?: number
  /** Keys the features; 0 by default. */
  readonly seed?: number
}

/** A sampler whose weights are multiplied by e^-u(t). */
export interface UncertaintySampler extends TimestepSampler {
  /** u of each timestep now, shape [T]: about the logarithm of its loss. */
  uncertainty(): Float64Array
}

/**
 * Learns the logarithm u(t) of the loss and weighs each example by e^-u, so that every noise level contributes the same (math.md, eq. 99;
 * Karras et al. 2024, EDM2, arXiv 2312.02696, eq. 15). u is linear in cos(2 pi (f c + phase)) with c = log(1 / snr) / 8, which is EDM2's
 * log(sigma) / 4, and a constant; it minimises the mean of loss e^-u + u. With `clusterCount` it is one number a cluster instead (Go et al. 2023, ANT,
 * arXiv 2306.00354, "uncertainty weighting").
 *
 * @param sampler - who draws; it is told the losses times e^-u
 */
export function uncertaintySampler(
  sampler: TimestepSampler,
  options: UncertaintyOptions,
): UncertaintySampler {
  const call = 'uncertaintySampler'
  checkKnownOptions(call, options, ['alphaBar', 'featureCount', 'clusterCount', 'lr', 'seed'])
  const { alphaBar, featureCount, clusterCount, lr = 0.01, seed = 0 } = options
  checkNumber(call, 'lr', lr, 0)
  checkInteger(call, 'seed', seed, 0)
  if (clusterCount !== undefined && featureCount !== undefined) {
    throw argumentError(call, 'featureCount', 'absent with clusterCount', featureCount)
  }
  const { size, features } =
    clusterCount === undefined
      ? fourierFeatures(call, alphaBar, featureCount ?? 128, seed)
      : clusterFeatures(call, alphaBar, clusterCount)

  const adam = new Adam(size, lr)
  const { values: slope, first: moment1, second: moment2 } = adam

  const uAt = (at: Float64Array): number => at.reduce((sum, value, j) => sum + value * slope[j]!, 0)

  return {
    name: sampler.name,
    unbiased: false,
    uncertainty: () => Float64Array.from(alphaBar, (_, t) => uAt(features(t))),
    draw(count, step) {
      const { t, weight } = sampler.draw(count, step)
      return { t, weight: weight.map((value, i) => value * Math.exp(-uAt(features(t[i]!)))) }
    },
    observe(losses) {
      const gradient = new Float64Array(size)
      const weighted = losses.loss.slice()
      for (const [i, loss] of losses.loss.entries()) {
        if (!Number.isFinite(loss)) continue
        const at = features(losses.t[i]!)
        const scaled = loss * Math.exp(-uAt(at))
        weighted[i] = scaled
        for (let j = 0; j < size; j++) gradient[j]! += ((1 - scaled) * at[j]!) / losses.loss.length
      }
      adam.update(gradient)
      sampler.observe?.({ ...losses, loss: weighted })
    },
    state: () => ({
      updates: [adam.steps],
      ...{ slope: [...slope], moment1: [...moment1], moment2: [...moment2] },
      sampler: sampler.state?.() ?? null,
    }),
    restore(state) {
      const read = (key: string, count: number): number[] => numbersOf(`${call}.restore`, state, key, count)
      slope.set(read('slope', size))
      moment1.set(read('moment1', size))
      moment2.set(read('moment2', size))
      adam.steps = read('updates', 1)[0]!
      sampler.restore?.((state as { sampler: JsonValue }).sampler)
    },
  }
}

/** What u is linear in. */
interface Features {
  readonly size: number
  /** Of a timestep, shape [size]. */
  features(t: number): Float64Array
}

/** Cosines of the noise level, then a constant. */
function fourierFeatures(call: string, alphaBar: Float64Array, featureCount: number, seed: number): Features {
  checkInteger(call, 'featureCount', featureCount, 1)
  const level = clippedSnr(call, alphaBar).map((snr) => -Math.log(snr) / 8)
  const stream = keyedRandom(seed, 'features').at(0)
  const frequency = Float64Array.from({ length: featureCount }, () => stream.normal())
  const phase = Float64Array.from({ length: featureCount }, () => stream.uniform())
  const scale = Math.sqrt(2 / featureCount)
  const size = featureCount + 1
  return {
    size,
    features(t) {
      const at = new Float64Array(size).fill(1)
      for (let j = 0; j < featureCount; j++)
        at[j] = scale * Math.cos(2 * Math.PI * (frequency[j]! * level[t]! + phase[j]!))
      return at
    },
  }
}

/** 1 in the cluster of a timestep; clusters are even in t. */
function clusterFeatures(call: string, alphaBar: Float64Array, clusterCount: number): Features {
  clippedSnr(call, alphaBar) // checks it
  checkInteger(call, 'clusterCount', clusterCount, 1, alphaBar.length)
  return {
    size: clusterCount,
    features(t) {
      const at = new Float64Array(clusterCount)
      at[Math.floor((t * clusterCount) / alphaBar.length)] = 1
      return at
    },
  }
}
