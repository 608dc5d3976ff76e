import { argumentError, checkKnownOptions, checkNumber, checkOneOf } from '../check.ts'
import { clippedSnr, logSnrDensity } from './law.ts'

/** A weight on the error of xStart as a function of the signal-to-noise ratio: what is minimised, whatever the space of the loss. */
export type Weighting = (snr: number) => number

/** Weights by name and their numbers with defaults; each gives W(snr) of math.md, eq. 95. */
export const WEIGHTINGS = {
  /** The eps error itself (DDPM, L_simple). */
  lsimple: { numbers: {}, weight: () => (snr: number) => snr },
  /** The error of xStart itself. */
  constant: { numbers: {}, weight: () => () => 1 },
  /** The v error itself (Salimans & Ho 2022). */
  'snr+1': { numbers: {}, weight: () => (snr: number) => snr + 1 },
  /** Salimans & Ho 2022: the greater of both errors of an example. */
  'truncated-snr': { numbers: {}, weight: () => (snr: number) => Math.max(snr, 1) },
  /** Hang et al. 2023, arXiv 2303.09556. */
  'min-snr': {
    numbers: { gamma: 5 },
    weight:
      ({ gamma }: Numbers) =>
      (snr: number) =>
        Math.min(snr, gamma!),
  },
  /** Crowson et al. 2024 (HDiT), arXiv 2401.11605; gamma = 1 / sigma_d^2. */
  'soft-min-snr': {
    numbers: { gamma: 4 },
    weight:
      ({ gamma }: Numbers) =>
      (snr: number) =>
        (snr * gamma!) / (snr + gamma!),
  },
  /** Choi et al. 2022, arXiv 2204.00227. */
  p2: {
    numbers: { k: 1, gamma: 1 },
    weight:
      ({ k, gamma }: Numbers) =>
      (snr: number) =>
        snr / (k! + snr) ** gamma!,
  },
  /** Yu et al. 2023, arXiv 2310.08442. */
  debias: { numbers: {}, weight: () => (snr: number) => Math.sqrt(snr) },
  /** Kingma & Gao 2023, arXiv 2303.00848: a density over log snr, so it is divided by that of the timesteps. */
  sigmoid: {
    numbers: { b: 2 },
    isDensity: true,
    weight:
      ({ b }: Numbers) =>
      (snr: number) =>
        snr / (1 + snr * Math.exp(-b!)),
  },
  /** Karras et al. 2022, arXiv 2206.00364: makes the F error uniform. */
  edm: {
    numbers: { sigmaData: 0.5 },
    weight:
      ({ sigmaData }: Numbers) =>
      (snr: number) =>
        snr + 1 / sigmaData! ** 2,
  },
} as const satisfies Record<string, WeightingEntry>

type Numbers = Readonly<Record<string, number>>
interface WeightingEntry {
  readonly numbers: Numbers
  readonly isDensity?: boolean
  readonly weight: (numbers: Numbers) => Weighting
}

/** A name among `WEIGHTINGS`. */
export type WeightingName = keyof typeof WEIGHTINGS
/** Names that `weighting` takes. */
export const WEIGHTING_NAMES = Object.keys(WEIGHTINGS) as [WeightingName, ...WeightingName[]]

/** Spaces in which all heads' errors can be measured, so that a weight on the error of xStart can be carried over. */
export const COMMON_SPACES = ['xStart', 'v', 'eps', 'F'] as const
/** One of `COMMON_SPACES`. */
export type CommonSpace = (typeof COMMON_SPACES)[number]

/**
 * The function W(snr) of a weighting.
 *
 * @param numbers - by name; the defaults of `WEIGHTINGS` for those that are left out
 */
export function weightingOf(name: WeightingName, numbers: Numbers = {}): Weighting {
  const call = 'weightingOf'
  checkOneOf(call, 'name', name, WEIGHTING_NAMES)
  const entry: WeightingEntry = WEIGHTINGS[name]
  checkKnownOptions(call, numbers, Object.keys(entry.numbers))
  for (const [key, value] of Object.entries(numbers)) {
    checkNumber(call, key, value)
    if (key !== 'b' && value <= 0) throw argumentError(call, key, 'a number > 0', value)
  }
  return entry.weight({ ...entry.numbers, ...numbers })
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
  /** How often each timestep is drawn, shape [T], where the law is not made up for by weights; uniform by default. Weighting `sigmoid` needs it. */
  readonly probabilities?: Float64Array
}

/**
 * The factor on the loss of each timestep that makes an error in `space` count W(snr) in xStart, shape [T] (math.md, eq. 94):
 * W(snr) over the space's own factor, with snr kept within [1e-6, 1e6].
 *
 * With `min-snr` that is min(snr, gamma) / snr in eps, min(snr, gamma) in xStart, and min(snr, gamma) / (snr + 1) in v.
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
  const isDensity =
    typeof weighting === 'string' && (WEIGHTINGS[weighting] as WeightingEntry | undefined)?.isDensity
  const weight = typeof weighting === 'string' ? weightingOf(weighting, numbers) : weighting
  const snr = clippedSnr(call, alphaBar)
  const factors = snr.map((value) => weight(value) / spaceFactor(space, value, sigmaData))
  const count = alphaBar.length
  if (isDensity) {
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
    throw argumentError(
      call,
      `the weight at snr ${snr[bad]}`,
      'positive and finite',
      weight(snr[bad] as number),
    )
  return factors
}
