import { argumentError } from '../check.ts'
import { evensOut, nameOfMix } from '../mixing/strategies.ts'
import { HEADS } from '../prediction/heads.ts'
import { isLearned } from '../timesteps/uncertainty.ts'
import { isDensity } from '../timesteps/weighting.ts'
import { isLaw, type TimestepConfig } from './timestep-options.ts'

interface DoubleCountConfig extends TimestepConfig {
  /** Slots were cut by loss, beforehand or during training, and not evenly. */
  readonly slotsByLoss?: boolean
  readonly mix?: string | undefined
}

interface Rule {
  /** What is refused or warned of. */
  readonly name: string
  readonly applies: (config: DoubleCountConfig) => boolean
  /** Refused where set, with the option to blame and what it should be; otherwise warned of. */
  readonly refuses?: readonly [option: keyof TimestepConfig, expected: string]
  readonly why: string
}

/** Weightings that are meant to even timesteps out, and so do again what a law in proportion to the loss does. */
const FLATTENS = ['min-snr', 'soft-min-snr', 'p2', 'debias', 'edm']
/** A law and a weighting that are one published objective: EDM, SpeeD. */
const TOGETHER = new Set(['edm edm', 'speed change-aware'])
const HAS_WEIGHTS = ['loss-second-moment', 'adaptive-density']
const HAS_NO_LAW = ['uniform', 'stratified', 'systematic', 'golden', 'curriculum']

/** Whether timesteps are drawn in proportion to their losses, or nearly. */
function drawsByLoss({ sampler, slotsByLoss }: DoubleCountConfig): boolean {
  return HAS_WEIGHTS.includes(sampler) || (sampler === 'slots' && slotsByLoss === true)
}

/** Combinations in which the same thing is counted twice (docs/timesteps.md has them in words). */
export const DOUBLE_COUNTS: readonly Rule[] = [
  {
    name: 'importance weights on a sampler that has its own',
    applies: ({ sampler, importanceWeights }) => importanceWeights === true && HAS_WEIGHTS.includes(sampler),
    refuses: ['importanceWeights', 'absent with a sampler whose weights are 1 / (T p) already'],
    why: 'its weights would be applied twice',
  },
  {
    name: 'importance weights on a uniform law',
    applies: ({ sampler, importanceWeights }) => importanceWeights === true && HAS_NO_LAW.includes(sampler),
    refuses: ['importanceWeights', 'absent unless sampler is slots or a law that is not uniform'],
    why: 'they would all be 1',
  },
  {
    name: 'slots of equal loss without importance weights, and a weighting that evens timesteps out',
    applies: ({ sampler, importanceWeights, slotsByLoss, weighting }) =>
      sampler === 'slots' &&
      slotsByLoss === true &&
      !importanceWeights &&
      weighting !== undefined &&
      FLATTENS.includes(weighting),
    why: 'both make up for the different sizes of the losses',
  },
  {
    name: 'a law that is part of the objective, and a weighting',
    applies: ({ sampler, importanceWeights, weighting }) =>
      (isLaw(sampler) || sampler === 'time-warping') &&
      !importanceWeights &&
      weighting !== undefined &&
      !isDensity(weighting) && // is divided by the law's density
      !TOGETHER.has(`${sampler} ${weighting}`),
    why: 'what is minimised is their product; importanceWeights leaves the weighting alone in it',
  },
  {
    name: 'learned uncertainty, and draws by the size of the loss',
    applies: (config) => config.weighting !== undefined && isLearned(config.weighting) && drawsByLoss(config),
    why: 'e^-u makes all losses alike, so that there is nothing left to draw by',
  },
  {
    name: 'a strategy that evens noise levels out, and draws by the size of the loss',
    applies: (config) => evensOut(config.mix) && drawsByLoss(config),
    why: 'it makes all losses alike, so that there is nothing left to draw by',
  },
  {
    name: 'a strategy that evens noise levels out, and a weighting that does',
    applies: (config) =>
      evensOut(config.mix) &&
      config.weighting !== undefined &&
      (isLearned(config.weighting) || FLATTENS.includes(config.weighting)),
    why: 'both make up for the different sizes of the losses',
  },
  {
    name: 'slots of equal loss without importance weights',
    applies: ({ sampler, importanceWeights, slotsByLoss }) =>
      sampler === 'slots' && slotsByLoss === true && !importanceWeights,
    why: 'timesteps count in proportion to their loss, the objective of the paper; importanceWeights makes them count the same',
  },
  {
    name: 'a law that is part of the objective, and a strategy that evens noise levels out',
    applies: (config) => evensOut(config.mix) && isLaw(config.sampler) && !config.importanceWeights,
    why: 'it makes all losses alike, so that the law alone says which noise levels count',
  },
  {
    name: 'one space for the mean over several heads',
    applies: ({ heads = HEADS, choose = 'mean', space = 'own', mix, weighting }) =>
      heads.length > 1 &&
      choose === 'mean' &&
      space !== 'own' &&
      (mix === undefined || nameOfMix(mix) === 'all-own') &&
      weighting === undefined,
    why: 'errors of xStart at little noise, or of eps at much, grow without bound in it and crowd out the rest; give heads v, or mix all, which bounds them',
  },
]

/**
 * Refuses what counts twice for certain, and gives in words what may be meant but counts twice.
 *
 * @throws RangeError that names the option
 */
export function doubleCounting(call: string, config: DoubleCountConfig): string[] {
  const found = DOUBLE_COUNTS.filter(({ applies }) => applies(config))
  const refused = found.find(({ refuses }) => refuses)
  if (refused?.refuses) {
    const [option, expected] = refused.refuses
    throw argumentError(call, option, expected, config[option], { hint: refused.why })
  }
  return found.map(({ name, why }) => `${name}: ${why}`)
}
