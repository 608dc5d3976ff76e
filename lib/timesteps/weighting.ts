import { argumentError, checkKnownOptions, checkNumber, checkOneOf } from '../check.ts'
import { clippedSnr, logSnrDensity } from './law.ts'
import { changeAware } from './weightings/change-aware.ts'
import { edmMonotonic } from './weightings/edm-monotonic.ts'

/** A weight on the error of xStart as a function of the signal-to-noise ratio: what is minimised, whatever the space of the loss. */
export type Weighting = (snr: number) => number

/** Names of the weightings. */
export const WEIGHTING_NAMES = [
  'lsimple', 'constant', 'snr+1', 'truncated-snr', 'min-snr', 'soft-min-snr', 'p2', 'debias', 'sigmoid', 'edm',
  'edm-monotonic', 'cosmap', 'change-aware',
] as const // biome-ignore format: one list
/** One of `WEIGHTING_NAMES`. */
export type WeightingName = (typeof WEIGHTING_NAMES)[number]

type Numbers = Readonly<Record<string, number>>

/** A weighting that is a function of snr, and its numbers. */
export interface SnrWeighting {
  /** Names of the numbers and their defaults, in the order in which a run lists them. */
  readonly numbers: () => Numbers
  /** Those of the numbers that may be 0 or less. */
  readonly anySign?: readonly string[]
  /** It is a density over log snr, to be divided by that of the timesteps. */
  readonly isDensity?: boolean
  /** W for some numbers. */
  readonly weight: (numbers: Numbers) => Weighting
}

/** A weighting that depends on the whole schedule, and its numbers. */
export interface ScheduleWeighting {
  /** Names of the numbers and their defaults for T timesteps, in the order in which a run lists them. */
  readonly numbers: (timestepCount: number) => Numbers
  /** Those of the numbers that may be 0 or less. */
  readonly anySign?: readonly string[]
  readonly isDensity?: never
  /** W of each timestep, shape [T], for some numbers; names the call in its errors. */
  readonly ofSchedule: (call: string, alphaBar: Float64Array, numbers: Numbers) => Float64Array
}

/** A weighting and its numbers. */
export type WeightingEntry = SnrWeighting | ScheduleWeighting

/** Weights by name and their numbers with defaults; each gives W of math.md, eq. 95. */
export const WEIGHTINGS: Readonly<Record<WeightingName, WeightingEntry>> = {
  /** The eps error itself (DDPM, L_simple). */
  lsimple: { numbers: () => ({}), weight: () => (snr) => snr },
  /** The error of xStart itself. */
  constant: { numbers: () => ({}), weight: () => () => 1 },
  /** The v error itself (Salimans & Ho 2022). */
  'snr+1': { numbers: () => ({}), weight: () => (snr) => snr + 1 },
  /** Salimans & Ho 2022: the greater of both errors of an example. */
  'truncated-snr': { numbers: () => ({}), weight: () => (snr) => Math.max(snr, 1) },
  /** Hang et al. 2023, arXiv 2303.09556. */
  'min-snr': {
    numbers: () => ({ gamma: 5 }),
    weight:
      ({ gamma }) =>
      (snr) =>
        Math.min(snr, gamma!),
  },
  /** Crowson et al. 2024 (HDiT), arXiv 2401.11605; gamma = 1 / sigma_d^2. */
  'soft-min-snr': {
    numbers: () => ({ gamma: 4 }),
    weight:
      ({ gamma }) =>
      (snr) =>
        (snr * gamma!) / (snr + gamma!),
  },
  /** Choi et al. 2022, arXiv 2204.00227. */
  p2: {
    numbers: () => ({ k: 1, gamma: 1 }),
    weight:
      ({ k, gamma }) =>
      (snr) =>
        snr / (k! + snr) ** gamma!,
  },
  /** Yu et al. 2023, arXiv 2310.08442. */
  debias: { numbers: () => ({}), weight: () => (snr) => Math.sqrt(snr) },
  /** Kingma & Gao 2023, arXiv 2303.00848: a density over log snr, so it is divided by that of the timesteps. */
  sigmoid: {
    numbers: () => ({ b: 2 }),
    anySign: ['b'],
    isDensity: true,
    weight:
      ({ b }) =>
      (snr) =>
        snr / (1 + snr * Math.exp(-b!)),
  },
  /** Karras et al. 2022, arXiv 2206.00364: makes the F error uniform. */
  edm: {
    numbers: () => ({ sigmaData: 0.5 }),
    weight:
      ({ sigmaData }) =>
      (snr) =>
        snr + 1 / sigmaData! ** 2,
  },
  /** Kingma & Gao 2023, arXiv 2303.00848: the law and weighting of EDM, constant on the noisy side of their maximum over the eps error. */
  'edm-monotonic': {
    numbers: () => ({ mean: -1.2, deviation: 1.2, sigmaData: 0.5 }),
    anySign: ['mean'],
    isDensity: true,
    weight: ({ mean, deviation, sigmaData }) => edmMonotonic(mean!, deviation!, sigmaData!),
  },
  /** Esser et al. 2024, arXiv 2403.03206: 2 / (pi (1 - 2t + 2t^2)) over the time t = 1 / (1 + sqrt(snr)) of a rectified flow, on its velocity error. */
  cosmap: {
    numbers: () => ({}),
    isDensity: true,
    weight: () => (snr) => {
      const root = Math.sqrt(snr)
      return (root * (1 + root) ** 2) / (Math.PI * (1 + snr))
    },
  },
  /** Wang et al. 2024 (SpeeD), arXiv 2405.17403: more where alphaBar falls faster; tau is a timestep. */
  'change-aware': {
    numbers: (timestepCount) => ({ lambda: 0.6, tau: Math.round(0.7 * timestepCount) }),
    anySign: ['tau'],
    ofSchedule: (call, alphaBar, { lambda, tau }) => changeAware(call, alphaBar, lambda!, tau!),
  },
}

/** Whether a weighting is a density over log snr, which the law of the timesteps is divided out of. */
export function isDensity(weighting: string): boolean {
  return Object.hasOwn(WEIGHTINGS, weighting) && WEIGHTINGS[weighting as WeightingName].isDensity === true
}

/** Spaces in which all heads' errors can be measured, so that a weight on the error of xStart can be carried over. */
export const COMMON_SPACES = ['xStart', 'v', 'eps', 'F'] as const
/** One of `COMMON_SPACES`. */
export type CommonSpace = (typeof COMMON_SPACES)[number]

/**
 * The function W(snr) of a weighting.
 *
 * @param numbers - by name; the defaults of `WEIGHTINGS` for those that are left out
 * @throws RangeError for `change-aware`, which is no function of snr alone, and for numbers <= 0, save `b` and `mean`
 */
export function weightingOf(name: WeightingName, numbers: Numbers = {}): Weighting {
  const call = 'weightingOf'
  checkOneOf(call, 'name', name, WEIGHTING_NAMES)
  const entry = WEIGHTINGS[name]
  if ('ofSchedule' in entry) {
    throw argumentError(call, 'name', 'a weighting that is a function of snr alone', name, {
      hint: 'weightingFactors, which is given the schedule, takes it',
    })
  }
  return entry.weight(settleNumbers(call, entry, entry.numbers(), numbers))
}

/** Numbers of a weighting, checked, with the defaults of those that are left out. */
function settleNumbers(call: string, entry: WeightingEntry, defaults: Numbers, given: Numbers): Numbers {
  checkKnownOptions(call, given, Object.keys(defaults))
  for (const [key, value] of Object.entries(given)) {
    checkNumber(call, key, value)
    if (!entry.anySign?.includes(key) && value <= 0) throw argumentError(call, key, 'a number > 0', value)
  }
  return { ...defaults, ...given }
}

/** W of each timestep, shape [T]. */
function weightsOf(
  call: string,
  weighting: WeightingName | Weighting,
  numbers: Numbers | undefined,
  alphaBar: Float64Array,
): Float64Array {
  const snr = clippedSnr(call, alphaBar)
  if (typeof weighting !== 'string') return snr.map((value) => weighting(value))
  checkOneOf(call, 'weighting', weighting, WEIGHTING_NAMES)
  const entry = WEIGHTINGS[weighting]
  if (!('ofSchedule' in entry)) return snr.map(weightingOf(weighting, numbers))
  const settled = settleNumbers(call, entry, entry.numbers(alphaBar.length), numbers ?? {})
  return entry.ofSchedule(call, alphaBar, settled)
}

/** An error of 1 in xStart in another space (math.md, eq. 14). */
export function spaceFactor(space: CommonSpace, snr: number, sigmaData = 0.5): number {
  switch (space) {
    case 'xStart':
      return 1
    case 'v':
      return 1 + snr
    case 'eps':
      return snr
    case 'F':
      return snr + 1 / sigmaData ** 2
  }
}

/** Options of `weightingFactors`. */
export interface WeightingFactorsOptions {
  /** Cumulative signal of each timestep, shape [T]. */
  readonly alphaBar: Float64Array
  /** A weighting by name, or W(snr) of your own. */
  readonly weighting: WeightingName | Weighting
  /** Of a weighting by name. */
  readonly numbers?: Readonly<Record<string, number>>
  /** Space of the error that is minimised. */
  readonly space: CommonSpace
  /** Standard deviation of the pixels, for space F; 0.5 by default. */
  readonly sigmaData?: number
  /** How often each timestep is drawn, shape [T], where the law is not made up for by weights; uniform by default. Weightings that are densities need it. */
  readonly probabilities?: Float64Array
}

/**
 * The factor on the loss of each timestep that makes an error in `space` count W(snr) in xStart, shape [T] (math.md, eq. 94):
 * W(snr) over the space's own factor, with snr kept within [1e-6, 1e6].
 *
 * With `min-snr` that is min(snr, gamma) / snr in eps, min(snr, gamma) in xStart, and min(snr, gamma) / (snr + 1) in v. In space `xStart` it is W itself.
 *
 * @throws RangeError for numbers that the weighting does not take, for weights that are not positive and finite, and for `change-aware` on a schedule
 * whose alphaBar falls evenly
 */
export function weightingFactors(options: WeightingFactorsOptions): Float64Array {
  const call = 'weightingFactors'
  checkKnownOptions(call, options, [
    'alphaBar',
    'weighting',
    'numbers',
    'space',
    'sigmaData',
    'probabilities',
  ])
  const { alphaBar, weighting, numbers, space, sigmaData = 0.5, probabilities } = options
  checkOneOf(call, 'space', space, COMMON_SPACES)
  checkNumber(call, 'sigmaData', sigmaData, 1e-6)
  const snr = clippedSnr(call, alphaBar)
  const weights = weightsOf(call, weighting, numbers, alphaBar)
  const factors = weights.map((weight, t) => weight / spaceFactor(space, snr[t]!, sigmaData))
  const count = alphaBar.length
  if (typeof weighting === 'string' && isDensity(weighting)) {
    const law = probabilities ?? new Float64Array(count).fill(1 / count)
    if (law.length !== count || law.some((p) => !(p > 0))) {
      throw argumentError(
        call,
        'probabilities',
        'positive, one a timestep, because the weighting is a density',
        law,
      )
    }
    for (const [t, density] of logSnrDensity(law, alphaBar).entries()) factors[t]! /= density
  }
  const bad = factors.findIndex((factor) => !(factor > 0 && Number.isFinite(factor)))
  if (bad !== -1)
    throw argumentError(call, `the weight at snr ${snr[bad]}`, 'positive and finite', weights[bad])
  return factors
}
