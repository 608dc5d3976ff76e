import { argumentError } from '../check.ts'
import { evensOut } from '../mixing/strategies.ts'
import { HEADS } from '../prediction/heads.ts'
import { isLearned } from '../timesteps/uncertainty.ts'
import type { RunOptions } from './run-config.ts'

/** What a recipe's numbers may depend on. */
interface Plan {
  readonly steps: number
  readonly batchSize: number
  /** A space or a weighting is given that errors of different heads have no unit in common for. */
  readonly needsOneUnit: boolean
  /** A weighting over timesteps, or a strategy that weighs them, is given, beside which a law would count twice. */
  readonly isWeighted: boolean
  /** Nothing is given of how heads are trained together, or that would count beside it. */
  readonly isFree: boolean
  readonly isSuperResolution: boolean
}

const GUIDED_DIFFUSION = {
  heads: ['eps'],
  sampler: 'uniform',
  choose: 'mean',
  compare: 'own',
  space: 'own',
  lr: 1e-4,
  emaRates: [0.9999],
  emaWarmsUp: false,
  clipNorm: 0,
  weightDecay: 0,
  warmupSteps: 0,
} as const satisfies Partial<RunOptions>

/**
 * How to train, by name: options of a run other than those of the network. The one table of what the recipes set.
 *
 * `guided-diffusion`: optimizer, loss and sampler of its `scripts/image_train.py`. `paper`: three heads, the smallest error in its own unit per example, ten slots of equal
 * loss visited in turn (arXiv 2502.01990), everything else as in guided-diffusion, whose code base it uses; its slot edges, batch sizes and learning rates are
 * not published. `small-batch`: for 4 to 8 images a step, three heads that are all trained always (of super-resolution each above all where it is the best, of other images that of eps four times as much), half of the timesteps drawn by the law of the cosine schedule,
 * every half-life in images; v alone where a space or a weighting is asked for, since three heads have no unit in common that suits all of them, and all timesteps
 * alike where a weighting says which count.
 */
const TABLE: Record<
  'small-batch' | 'paper' | 'guided-diffusion',
  { batchSize?: number; options: (plan: Plan) => Partial<RunOptions> }
> = {
  'small-batch': {
    batchSize: 8,
    options: ({ steps, batchSize, needsOneUnit, isWeighted, isFree, isSuperResolution }) => ({
      heads: needsOneUnit ? ['v'] : [...HEADS],
      ...(isWeighted ? { sampler: 'golden' } : { sampler: 'cosine', stream: 'golden', uniformShare: 0.5 }),
      ...(isFree ? { mix: isSuperResolution ? 'table' : 'all-own:eps=4' } : { choose: 'mean' }),
      space: 'own',
      lr: 1e-3,
      warmupSteps: Math.floor(Math.min(4000 / batchSize, steps / 20)), // 4000 images, or a twentieth of a short run
      emaHalfLife: [Math.max(Math.min(0.05 * steps * batchSize, 500_000), 1)], // EDM's greatest, and its share of the images seen
      beta2HalfLife: 20_000,
      clipNorm: 1,
      weightDecay: 0,
    }),
  },
  paper: {
    options: () => ({
      ...GUIDED_DIFFUSION,
      heads: [...HEADS],
      choose: 'min',
      sampler: 'slots',
      slots: 10,
      slotRule: 'gaussian',
      slotPlan: 'round-robin',
    }),
  },
  'guided-diffusion': { options: () => GUIDED_DIFFUSION as Partial<RunOptions> },
}

/** The name of a way to train. */
export type RunRecipe = keyof typeof TABLE
/** Names that `recipe` of a run takes. */
export const RUN_RECIPES = Object.keys(TABLE) as [RunRecipe, ...RunRecipe[]]

const LOSS_KEYS = ['heads', 'choose', 'compare', 'space'] as const // which a strategy of several heads decides
const LAW_KEYS = ['stream', 'uniformShare'] as const
const SLOT_KEYS = ['slots', 'slotRule', 'slotPlan'] as const

/** Options with those of the recipe filled in where they are not given; a network's preset does not override a recipe. */
export function withRecipe(options: RunOptions): RunOptions {
  const recipe =
    options?.recipe !== undefined && Object.hasOwn(TABLE, options.recipe) ? TABLE[options.recipe] : undefined
  if (!recipe || !(options.steps > 0)) return options // a wrong name or number of steps is reported with all other problems
  const given = Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined))
  const own = recipe.batchSize === undefined ? {} : { batchSize: recipe.batchSize }
  const batchSize = Math.max(Number(options.batchSize ?? recipe.batchSize ?? 32), 1)
  const { space = 'own', weighting = 'uncertainty' } = given // which is learned in any unit
  const needsOneUnit = space !== 'own' || !isLearned(String(weighting))
  const isWeighted = given.weighting !== undefined || evensOut(options.mix)
  const isFree =
    !needsOneUnit &&
    (['heads', 'choose', 'compare', 'gate', 'weighting', 'init'] as const).every(
      (key) => given[key] === undefined,
    )
  const isSuperResolution = given.superResolution !== undefined
  const plan = { steps: options.steps, batchSize, needsOneUnit, isWeighted, isFree, isSuperResolution }
  const filled: Partial<RunOptions> = { ...own, ...recipe.options(plan) }
  if (given.emaRates !== undefined) delete filled.emaHalfLife
  if (given.emaHalfLife !== undefined) delete filled.emaRates
  if (given.beta2 !== undefined) delete filled.beta2HalfLife
  if (given.init !== undefined) delete filled.heads // a network that is trained on keeps what it predicts
  if (given.mix !== undefined) for (const key of LOSS_KEYS) delete filled[key]
  if (given.sampler !== undefined) for (const key of LAW_KEYS) delete filled[key]
  if (given.sampler !== undefined && given.sampler !== 'slots')
    for (const key of SLOT_KEYS) delete filled[key]
  if (given.slotEdges !== undefined || given.lossCurve !== undefined) {
    delete filled.slotRule
    delete filled.slots
  }
  if (given.lossCurve !== undefined) filled.slots = 10
  return { ...filled, ...given } as RunOptions
}

/**
 * The rate of a moving average, or Adam's beta2, whose memory halves every so many images: 0.5^(B / half-life) (math.md, eq. 98; Marek et
 * al. 2025, arXiv 2507.07101).
 */
export function rateOfHalfLife(halfLife: number, batchSize: number): number {
  return 0.5 ** (batchSize / halfLife)
}

/** Rates that the half-lives of a run give, by the option that they take the place of. */
export function halfLifeRates(
  call: string,
  options: Partial<RunOptions>,
  batchSize: number,
): { emaRates?: number[]; beta2?: number } {
  const rates: { emaRates?: number[]; beta2?: number } = {}
  const { emaHalfLife, beta2HalfLife, emaRates, beta2 } = options
  if (emaHalfLife !== undefined) {
    rates.emaRates = emaHalfLife.map((halfLife) => rateOfHalfLife(halfLife, batchSize))
    refuseOther(call, 'emaRates', 'emaHalfLife', emaRates, rates.emaRates)
  }
  if (beta2HalfLife !== undefined) {
    rates.beta2 = rateOfHalfLife(beta2HalfLife, batchSize)
    refuseOther(call, 'beta2', 'beta2HalfLife', beta2, rates.beta2)
  }
  return rates
}

/** A configuration that is read back holds both, and they agree. */
function refuseOther(call: string, name: string, halfLife: string, given: unknown, derived: unknown): void {
  if (given === undefined || JSON.stringify(given) === JSON.stringify(derived)) return
  throw argumentError(call, name, `absent when ${halfLife} is given, which makes it`, given)
}
