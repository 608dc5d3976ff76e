import { z } from 'zod'
import { gaussianEpsLoss, gaussianSpectrum } from '../analysis/gaussian-model.ts'
import { argumentError, ofArgument } from '../check.ts'
import { parsePlan, type SlotPlan } from '../curriculum/plan.ts'
import type { Slot } from '../curriculum/slot.ts'
import { decimal, integer, numbers, oneOf, positive } from '../options.ts'
import { F_HEAD_SIGMA_DATA, HEADS } from '../prediction/heads.ts'
import { NoiseSchedule } from '../schedule/noise-schedule.ts'
import { spaceTimesteps } from '../schedule/spacing.ts'
import { adaptiveDensitySampler } from '../timesteps/adaptive-density.ts'
import { curriculumSampler } from '../timesteps/curriculum.ts'
import { clippedSnr, type TimestepLaw } from '../timesteps/law.ts'
import { lawSampler, withUniformShare } from '../timesteps/law-sampler.ts'
import { betaLaw } from '../timesteps/laws/beta.ts'
import { cltsLaw } from '../timesteps/laws/clts.ts'
import { constantRateLaw } from '../timesteps/laws/constant-rate.ts'
import { cauchyLaw, cosineInterpolatedLaw, cosineLaw, edmLaw, laplaceLaw } from '../timesteps/laws/log-snr.ts'
import { logitNormalLaw } from '../timesteps/laws/logit-normal.ts'
import { modeLaw } from '../timesteps/laws/mode.ts'
import { speedLaw } from '../timesteps/laws/speed.ts'
import { lossSecondMomentSampler } from '../timesteps/loss-second-moment.ts'
import {
  type RefreshedSlotSampler,
  refreshedSlotSampler,
  SLOT_REFRESH_RULES,
  type SlotRefreshRule,
} from '../timesteps/refreshed-slots.ts'
import type { TimestepSampler } from '../timesteps/sampler.ts'
import { slotSampler } from '../timesteps/slots.ts'
import { goldenSampler, stratifiedSampler, systematicSampler } from '../timesteps/stratified.ts'
import { STREAMS, type StreamName } from '../timesteps/stream.ts'
import { timeWarpingSampler } from '../timesteps/time-warping.ts'
import {
  isLearned,
  LEARNED_WEIGHTING_NAMES,
  LEARNED_WEIGHTINGS,
  uncertaintySampler,
} from '../timesteps/uncertainty.ts'
import { uniformSampler } from '../timesteps/uniform.ts'
import { weightedSampler } from '../timesteps/weighted-sampler.ts'
import {
  COMMON_SPACES,
  type CommonSpace,
  isDensity,
  spaceFactor,
  WEIGHTING_NAMES,
  WEIGHTINGS,
  type WeightingName,
  weightingFactors,
} from '../timesteps/weighting.ts'
import { RUN_RECIPES } from './run-recipes.ts'

interface LawEntry {
  /** Names and defaults of its numbers, in the order in which `samplerNumbers` lists them. */
  readonly numbers: (timestepCount: number) => Record<string, number>
  /** The same where the images' height and the deviation of their pixels are known. */
  readonly ofImages?: (size: number, sigmaData: number) => number[]
  /** Share of uniform draws where none is given; none by default. */
  readonly uniformShare?: number
  readonly create: (list: readonly number[], timestepCount: number, alphaBar: Float64Array) => TimestepLaw
}

/** Laws of a run by the word of `sampler`. */
const LAWS = {
  'logit-normal': {
    numbers: () => ({ mean: 0, deviation: 1 }),
    create: ([mean, deviation], count) => logitNormalLaw(count, mean, deviation),
  },
  mode: { numbers: () => ({ kappa: 1.29 }), create: ([kappa], count) => modeLaw(count, kappa) },
  beta: { numbers: () => ({ a: 1, b: 2 }), create: ([a, b], count) => betaLaw(count, a, b) },
  laplace: {
    numbers: () => ({ mu: 0, b: 0.5 }),
    create: ([mu, b], _count, alphaBar) => laplaceLaw(alphaBar, mu, b),
  },
  cauchy: {
    numbers: () => ({ mu: 0, gamma: 1 }),
    create: ([mu, gamma], _count, alphaBar) => cauchyLaw(alphaBar, mu, gamma),
  },
  edm: {
    numbers: () => ({ mean: -1.2, deviation: 1.2 }),
    create: ([mean, deviation], _count, alphaBar) => edmLaw(alphaBar, mean, deviation),
  },
  cosine: {
    numbers: () => ({ sigmaData: 1 }),
    create: ([sigmaData], _count, alphaBar) => cosineLaw(alphaBar, sigmaData),
  },
  'cosine-interpolated': {
    numbers: () => ({ size: 32, noiseLow: 32, noiseHigh: 32 }),
    ofImages: (size) => [size, Math.min(32, size), size],
    create: ([size, noiseLow, noiseHigh], _count, alphaBar) =>
      cosineInterpolatedLaw(alphaBar, size, noiseLow, noiseHigh),
  },
  'constant-rate': {
    numbers: () => ({ size: 32, dataVariance: 0.25 }),
    ofImages: (size, sigmaData) => [size, sigmaData ** 2],
    uniformShare: 0.01, // or the noisiest timesteps are never drawn
    create: ([size, dataVariance], _count, alphaBar) =>
      constantRateLaw(
        alphaBar,
        gaussianSpectrum({ size: size!, ...(dataVariance !== undefined && { dataVariance }) }),
      ),
  },
  speed: {
    numbers: (count) => ({ k: 2, tau: Math.round(0.7 * count) }),
    create: ([k, tau], _count, alphaBar) => speedLaw(alphaBar, k, tau),
  },
  clts: {
    numbers: (count) => ({ mu: 0.3 * count, deviation: 0.15 * count, steps: 50_000 }),
    create: ([mu, deviation, steps], count) => cltsLaw(count, mu, deviation, steps),
  },
} as const satisfies Record<string, LawEntry>

/** A law among the samplers of a run. */
type LawName = keyof typeof LAWS
const LAW_NAMES = Object.keys(LAWS) as LawName[]

/** Numbers of the samplers that learn. */
const LEARNED: Record<string, (timestepCount: number) => Record<string, number>> = {
  'loss-second-moment': () => ({ history: 10 }),
  'adaptive-density': () => ({ bins: 50, decay: 0.99 }),
  'time-warping': () => ({ bins: 50, decay: 0.99 }),
  curriculum: (count) => ({ clusters: Math.min(20, count), patience: 200 }),
}
const NUMBERED = [...LAW_NAMES, ...Object.keys(LEARNED)]

/** Names and defaults of the numbers of a sampler, in their order; undefined for samplers without. */
function numbersOf(sampler: string, timestepCount: number): Record<string, number> | undefined {
  if (isLaw(sampler)) return LAWS[sampler].numbers(timestepCount)
  return Object.hasOwn(LEARNED, sampler) ? LEARNED[sampler]!(timestepCount) : undefined
}

/** The numbers of a sampler whose law depends on the images; undefined for the others. */
export function numbersOfImages(sampler: string): LawEntry['ofImages'] {
  return isLaw(sampler) ? (LAWS[sampler] as LawEntry).ofImages : undefined
}

/** Who draws the timesteps of a run. */
export const SAMPLER_NAMES = [
  'uniform', 'stratified', 'systematic', 'golden', 'loss-second-moment', 'slots',
  'logit-normal', 'mode', 'beta', 'laplace', 'cauchy', 'edm', 'cosine', 'cosine-interpolated', 'constant-rate', 'speed', 'clts',
  'adaptive-density', 'time-warping', 'curriculum',
] as const // biome-ignore format: one list

const about = <T extends z.ZodType>(group: string, description: string, schema: T): T =>
  schema.meta({ description, group }) as T

const SAMPLER_NUMBERS = NUMBERED.map(
  (name) => `${name} ${Object.keys(numbersOf(name, 1000) ?? {}).join(',')}`,
)
/** Names that `weighting` of a run takes. */
export const RUN_WEIGHTINGS = [...WEIGHTING_NAMES, ...LEARNED_WEIGHTING_NAMES] as const
type RunWeighting = (typeof RUN_WEIGHTINGS)[number]

/** Names and defaults of the numbers of a weighting, in their order. */
function weightingNumbersOf(weighting: RunWeighting, timestepCount: number): Record<string, number> {
  return isLearned(weighting)
    ? LEARNED_WEIGHTINGS[weighting](timestepCount)
    : { ...WEIGHTINGS[weighting].numbers(timestepCount) }
}

const WEIGHTING_NUMBERS = RUN_WEIGHTINGS.map((name) => ({
  name,
  numbers: Object.keys(weightingNumbersOf(name, 1000)),
}))
  .filter(({ numbers }) => numbers.length > 0)
  .map(({ name, numbers }) => `${name} ${numbers.join(',')}`)

/** Options of a run about timesteps, weightings, half-lives and recipes. */
export const TIMESTEP_SHAPE = {
  stream: about(
    'timesteps',
    'how the draws of a batch depend on one another; iid unless the sampler is one of these words',
    oneOf(STREAMS).optional(),
  ),
  samplerNumbers: about(
    'timesteps',
    `numbers of the sampler, in this order: ${SAMPLER_NUMBERS.join('; ')}`,
    numbers('a list of numbers').optional(),
  ),
  uniformShare: about(
    'timesteps',
    'share of uniform draws mixed into a law; 0.01 for constant-rate, adaptive-density and time-warping, 0.001 with importanceWeights, else 0',
    decimal(0, 1).optional(),
  ),
  slotRule: about(
    'timesteps',
    'how slots are cut without slotEdges and lossCurve: evenly (default), or by the eps loss of Gaussian images',
    oneOf(['even', 'gaussian']).optional(),
  ),
  slotRefresh: about(
    'timesteps',
    'steps after which slots are cut anew from the losses of the training itself; slots are never cut anew by default',
    integer(1).optional(),
  ),
  slotRefreshRule: about(
    'timesteps',
    'what slots that are cut anew get equal parts of: the loss (default), what it is above that of Gaussian images, its square, or the second moment of the gradient, which is measured then',
    oneOf(SLOT_REFRESH_RULES).optional(),
  ),
  weighting: about(
    'loss',
    'weight over timesteps of the error of xStart, whatever space its error is minimised in; uncertainty and cluster-uncertainty are learned',
    oneOf(RUN_WEIGHTINGS).optional(),
  ),
  weightingNumbers: about(
    'loss',
    `numbers of the weighting, in this order: ${WEIGHTING_NUMBERS.join('; ')}`,
    numbers('a list of numbers').optional(),
  ),
  referenceBatch: about(
    'loss',
    'images of the stable target field a step, drawn beside the batch; for networks without conditions',
    integer(1).optional(),
  ),
  recipe: about(
    'training',
    'how to train, by name: fills in sampler, loss and optimizer where they are not given; combines with a preset',
    oneOf(RUN_RECIPES).optional(),
  ),
  emaHalfLife: about(
    'training',
    'half-lives of the moving averages in images, instead of emaRates',
    z.array(z.number('a list of numbers > 0').positive('a number > 0'), 'a list of numbers > 0').optional(),
  ),
  beta2HalfLife: about(
    'training',
    'half-life of Adam’s second moment in images, instead of beta2',
    positive().optional(),
  ),
} as const satisfies Record<string, z.ZodType>

/** What this file needs of a run's configuration. */
export interface TimestepConfig {
  readonly sampler: (typeof SAMPLER_NAMES)[number]
  readonly timestepCount: number
  readonly seed: number
  readonly stream?: StreamName | undefined
  readonly samplerNumbers?: readonly number[] | undefined
  readonly uniformShare?: number | undefined
  readonly slotEdges?: readonly number[] | undefined
  readonly slotPlan?: string | undefined
  readonly slotRefresh?: number | undefined
  readonly slotRefreshRule?: SlotRefreshRule | undefined
  readonly importanceWeights?: boolean
  readonly weighting?: RunWeighting | undefined
  readonly weightingNumbers?: readonly number[] | undefined
  readonly loss?: string | undefined
  readonly space?: string
  readonly choose?: string
  readonly sigmaData?: number
  readonly heads?: readonly string[] | undefined
  readonly schedule?: NoiseScheduleName
  readonly zeroTerminalSnr?: boolean
  readonly respacing?: string | undefined
  readonly referenceBatch?: number | undefined
  readonly classes?: string
  readonly superResolution?: number | undefined
}

type NoiseScheduleName = Exclude<Parameters<typeof NoiseSchedule.create>[0], undefined>['name']

/** Samplers that learn a density over log snr. */
const LEARNED_DENSITIES = ['adaptive-density', 'time-warping']

function learnsDensity(sampler: string): boolean {
  return LEARNED_DENSITIES.includes(sampler)
}

/** Whether a sampler is a law with a density of its own. */
export function isLaw(sampler: string): sampler is LawName {
  return Object.hasOwn(LAWS, sampler)
}

/**
 * Fills in the numbers of sampler and weighting, and refuses options about timesteps that do not go together.
 *
 * @throws RangeError that names the option
 */
export function settleTimesteps<Config extends TimestepConfig>(
  call: string,
  config: Config,
  timestepCount: number,
): Config {
  const { sampler, stream, samplerNumbers, uniformShare, weighting, weightingNumbers } = config
  const settled: { -readonly [Key in keyof TimestepConfig]: TimestepConfig[Key] } = { ...config }
  const ownStream = STREAMS.find((name) => name === sampler)
  if (stream !== undefined && ownStream !== undefined && stream !== ownStream) {
    throw argumentError(call, 'stream', `absent when sampler is ${sampler}, which is a stream`, stream)
  }
  refuseReferences(call, config)
  const sampled = numbersOf(sampler, timestepCount)
  if (sampled) settled.samplerNumbers = listOf(call, 'samplerNumbers', samplerNumbers, sampled)
  else if (samplerNumbers !== undefined) {
    const what = `absent unless sampler is one of ${NUMBERED.join(', ')}`
    throw argumentError(call, 'samplerNumbers', what, samplerNumbers)
  }
  if (uniformShare !== undefined && !isLaw(sampler) && !learnsDensity(sampler)) {
    const what = `absent unless sampler is one of ${LAW_NAMES.join(', ')}, ${LEARNED_DENSITIES.join(', ')}`
    throw argumentError(call, 'uniformShare', what, uniformShare)
  }
  const own = isLaw(sampler) ? (LAWS[sampler] as LawEntry).uniformShare : undefined
  if (own !== undefined) settled.uniformShare ??= own
  refuseTimeWarping(call, config)
  if (weighting === undefined) {
    if (weightingNumbers)
      throw argumentError(call, 'weightingNumbers', 'absent without weighting', weightingNumbers)
    return settled as Config
  }
  const { sigmaData = 0.5 } = config
  const defaults = weightingNumbersOf(weighting, timestepCount)
  if (isLearned(weighting)) {
    const list = listOf(call, 'weightingNumbers', weightingNumbers, defaults)
    if (list.length > 0) settled.weightingNumbers = list
    return settled as Config
  }
  if ('sigmaData' in defaults) defaults.sigmaData = sigmaData
  if (weighting === 'soft-min-snr') defaults.gamma = 1 / sigmaData ** 2
  settled.weightingNumbers = listOf(call, 'weightingNumbers', weightingNumbers, defaults)
  weightingSpace(call, config)
  if (isDensity(weighting) && !isKnownLaw(config)) {
    throw argumentError(
      call,
      'weighting',
      `one that needs no density of the timesteps, because sampler is ${sampler}`,
      weighting,
      {
        hint: 'give importanceWeights, or a law that is the same at every step',
      },
    )
  }
  return settled as Config
}

/** @internal Whether a configuration's numbers of the sampler or the weighting are what its other options make of them. */
export function isDefaultNumbers(
  config: TimestepConfig & { readonly size?: number | undefined },
  name: 'samplerNumbers' | 'weightingNumbers',
): boolean {
  const given = config[name]
  if (given === undefined) return true
  const { [name]: _, ...others } = config
  const ofImages = name === 'samplerNumbers' ? numbersOfImages(config.sampler) : undefined
  const byDefault = ofImages
    ? ofImages(config.size ?? given[0]!, config.sigmaData ?? 0.5)
    : settleTimesteps('train', others as TimestepConfig, trainedTimestepCount(config))[name]
  return String(given) === String(byDefault)
}

/** Its errors are those of xStart, against the images. */
function refuseTimeWarping(call: string, { sampler, heads = HEADS, referenceBatch }: TimestepConfig): void {
  if (sampler !== 'time-warping') return
  if (!heads.some((head) => COMMON_SPACES.some((space) => space === head))) {
    throw argumentError(call, 'sampler', `another one for a network of ${heads.join(', ')}`, sampler)
  }
  if (referenceBatch !== undefined) {
    throw argumentError(call, 'referenceBatch', `absent with sampler ${sampler}`, referenceBatch, {
      hint: 'errors against the mean of many images fall with the noise',
    })
  }
}

/** The trainer refuses the same, but only once the run has begun. */
function refuseReferences(call: string, config: TimestepConfig): void {
  const { referenceBatch, classes = 'none', superResolution, loss } = config
  if (referenceBatch === undefined) return
  if (loss === 'kl' || loss === 'rescaledKl') {
    throw argumentError(call, 'referenceBatch', `absent with loss ${loss}`, referenceBatch, {
      hint: 'the bound has no target but the image',
    })
  }
  if (classes !== 'none' || superResolution !== undefined) {
    throw argumentError(call, 'referenceBatch', 'absent for a conditional network', referenceBatch, {
      hint: 'its images would need the condition of every example',
    })
  }
}

/** The space in which a configuration minimises the errors of all its heads. */
function weightingSpace(call: string, config: TimestepConfig): CommonSpace {
  const { loss = 'mse', space = 'own', choose = 'mean', heads = HEADS, weighting } = config
  if (loss === 'kl' || loss === 'rescaledKl') {
    throw argumentError(
      call,
      'weighting',
      `absent with loss ${loss}, which weighs timesteps itself`,
      weighting,
    )
  }
  const chosen = heads.includes(choose) ? choose : heads.length === 1 ? heads[0] : undefined
  const common = COMMON_SPACES.find((word) => word === (space === 'own' ? chosen : space))
  if (common) return common
  throw argumentError(
    call,
    'space',
    `one of ${COMMON_SPACES.join(', ')} when weighting is given and several heads, or xPrev, are trained`,
    space,
    { hint: 'or give heads v' },
  )
}

/** Whether the density of the timesteps is known beforehand and the same at every step. */
function isKnownLaw({ sampler, importanceWeights = false }: TimestepConfig): boolean {
  return importanceWeights || !['slots', 'speed', 'clts', 'time-warping', 'curriculum'].includes(sampler)
}

function listOf(
  call: string,
  name: string,
  given: readonly number[] | undefined,
  defaults: Record<string, number>,
): number[] {
  const names = Object.keys(defaults)
  if (given === undefined) return Object.values(defaults)
  if (given.length !== names.length) {
    const what = names.length === 0 ? 'absent' : `${names.length} numbers (${names.join(', ')})`
    throw argumentError(call, name, what, given)
  }
  return [...given]
}

/** Noise schedule of a run, respaced where it asks for it. */
export function runSchedule(
  config: Pick<TimestepConfig, 'schedule' | 'timestepCount' | 'zeroTerminalSnr' | 'respacing'>,
): NoiseSchedule {
  const { schedule: name = 'linear', timestepCount, zeroTerminalSnr = false, respacing } = config
  const schedule = NoiseSchedule.create({ name, timestepCount, zeroTerminalSnr })
  if (respacing === undefined) return schedule
  const process = schedule.respace(respacing)
  schedule.dispose()
  return process
}

/** Cumulative signal of the timesteps that a run trains, shape [T]. */
export function runAlphaBar(config: Parameters<typeof runSchedule>[0]): Float64Array {
  const schedule = runSchedule(config)
  const alphaBar = schedule.tables.alphaBar.slice()
  schedule.dispose()
  return alphaBar
}

/** Timesteps that a run trains: T, or those that respacing keeps. */
export function trainedTimestepCount({
  timestepCount,
  respacing,
}: Pick<TimestepConfig, 'timestepCount' | 'respacing'>): number {
  return respacing === undefined
    ? timestepCount
    : ofArgument('run', 'respacing', `some of ${timestepCount} timesteps`, respacing, () =>
        spaceTimesteps(timestepCount, respacing),
      ).length
}

/** The slots that a configuration holds as edges. */
export function slotsFromEdges(edges: readonly number[]): Slot[] {
  return edges.slice(1).map((end, k) => ({ begin: edges[k] as number, end }))
}

/** A sampler, and the plan where it has slots. */
interface PlannedSampler {
  readonly sampler: TimestepSampler
  readonly plan?: SlotPlan
  /** The slots now, where they are cut anew in training. */
  readonly slots?: () => readonly Slot[]
  /** Who cuts them. */
  readonly refreshed?: Pick<RefreshedSlotSampler, 'isDue' | 'recut'>
}

/**
 * The sampler that a run's options ask for, weighting included, and its plan where it has slots.
 *
 * @param height - of the images, for slots that are cut by their excess over the Gaussian model
 */
export function timestepSampler(config: TimestepConfig, height = 32): PlannedSampler {
  const isTimeOnly =
    config.weighting === undefined &&
    !isLaw(config.sampler) &&
    !learnsDensity(config.sampler) &&
    config.slotRefreshRule !== 'excess' // and needs no schedule
  const alphaBar = isTimeOnly ? new Float64Array(trainedTimestepCount(config)) : runAlphaBar(config)
  const { law, ...drawn } = samplerAlone(config, alphaBar, height)
  const { weighting, weightingNumbers = [] } = config
  if (weighting === undefined) return drawn
  const { refreshed } = drawn
  // Its curves are second moments of the gradient of the loss before it is weighted.
  const weighed = (factors: () => Float64Array): Pick<PlannedSampler, 'refreshed'> =>
    refreshed
      ? {
          refreshed: {
            get isDue() {
              return refreshed.isDue
            },
            recut: (curve) => {
              const of = factors()
              refreshed.recut(curve.map((value, t) => value * of[t]! ** 2))
            },
          },
        }
      : {}
  if (isLearned(weighting)) {
    const [clusterCount] = weightingNumbers
    const options = { alphaBar, seed: config.seed, ...(clusterCount !== undefined && { clusterCount }) }
    const sampler = uncertaintySampler(drawn.sampler, options)
    return { ...drawn, sampler, ...weighed(() => sampler.uncertainty().map((u) => Math.exp(-u))) }
  }
  const factors = factorsOf(config, weighting, alphaBar, law)
  return { ...drawn, sampler: weightedSampler(drawn.sampler, factors), ...weighed(() => factors) }
}

/** The deviation of pixels in the unit F of the loss: a head of F has its own, whatever the run's is. */
function unitSigmaData({ space = 'own', sigmaData = 0.5 }: TimestepConfig): number {
  return space === 'own' ? F_HEAD_SIGMA_DATA : sigmaData
}

/** What a weighting that is not learned multiplies the losses by, [T]. */
function factorsOf(
  config: TimestepConfig,
  weighting: WeightingName,
  alphaBar: Float64Array,
  law?: TimestepLaw,
): Float64Array {
  const { weightingNumbers = [], importanceWeights = false } = config
  const names = Object.keys(WEIGHTINGS[weighting].numbers(alphaBar.length))
  return weightingFactors({
    ...{ alphaBar, weighting, sigmaData: unitSigmaData(config) },
    space: weightingSpace('timestepSampler', config),
    numbers: Object.fromEntries(names.map((name, i) => [name, weightingNumbers[i] as number])),
    ...(law &&
      !importanceWeights &&
      isDensity(weighting) && { probabilities: withUniformShare(law.at(0), config.uniformShare) }),
  })
}

/** [T] what Gaussian images of this height would leave of the loss that the sampler is told (math.md, eq. 21), mean over the heads. */
function gaussianFloor(config: TimestepConfig, alphaBar: Float64Array, height: number): Float64Array {
  const { heads = HEADS, choose = 'mean', space = 'own', sigmaData = 0.5, weighting } = config
  const trained = heads.includes(choose) ? [choose] : heads
  const units = trained.flatMap(
    (head) => COMMON_SPACES.find((word) => word === (space === 'own' ? head : space)) ?? [],
  )
  if (units.length < trained.length || (weighting !== undefined && isLearned(weighting))) {
    const what = `absent with ${units.length < trained.length ? `heads ${heads.join(',')}` : `weighting ${weighting}`}`
    throw argumentError(
      'timestepSampler',
      'slotRefreshRule',
      `${what}, whose smallest loss is not known`,
      'excess',
    )
  }
  const snr = clippedSnr('timestepSampler', alphaBar)
  const eps = gaussianEpsLoss({
    size: height,
    dataVariance: sigmaData ** 2,
    alphaBar: snr.map((s) => s / (1 + s)),
  })
  const factors =
    weighting === undefined ? undefined : factorsOf(config, weighting as WeightingName, alphaBar)
  return eps.map((value, t) => {
    const unit =
      units.reduce((sum, word) => sum + spaceFactor(word, snr[t]!, unitSigmaData(config)), 0) / units.length
    return ((value * unit) / snr[t]!) * (factors?.[t] ?? 1)
  })
}

function samplerAlone(
  config: TimestepConfig,
  alphaBar: Float64Array,
  height: number,
): PlannedSampler & { readonly law?: TimestepLaw } {
  const { sampler: word, seed, slotEdges, slotPlan = 'round-robin', importanceWeights = false } = config
  const timestepCount = alphaBar.length
  const shared = { timestepCount, seed }
  const stream = config.stream ?? 'iid'
  if (isLaw(word)) {
    const { uniformShare, samplerNumbers = Object.values(LAWS[word].numbers(timestepCount)) } = config
    const law = LAWS[word].create(samplerNumbers as [number, number, number], timestepCount, alphaBar)
    const share = uniformShare === undefined ? {} : { uniformShare }
    return { law, sampler: lawSampler({ ...{ law, stream, seed, importanceWeights }, ...share }) }
  }
  switch (word) {
    case 'loss-second-moment': {
      const [historyLength = 10] = config.samplerNumbers ?? []
      return { sampler: lossSecondMomentSampler({ ...shared, historyLength, stream }) }
    }
    case 'slots': {
      const slots = slotsFromEdges(slotEdges ?? [])
      const plan = ofArgument('run', 'slotPlan', `a plan for ${slots.length} slots`, slotPlan, () =>
        parsePlan(slotPlan, slots, { seed }),
      )
      const options = { slots, plan, seed, importanceWeights, stream }
      const { slotRefresh: every, slotRefreshRule: rule = 'loss' } = config
      if (every === undefined) return { sampler: slotSampler(options), plan }
      const floor = rule === 'excess' ? { floor: gaussianFloor(config, alphaBar, height) } : {}
      const sampler = refreshedSlotSampler({ ...options, rule, every, ...floor })
      return { sampler, plan, slots: sampler.slots, refreshed: sampler }
    }
    case 'adaptive-density':
    case 'time-warping': {
      const [binCount = 50, decay = 0.99] = config.samplerNumbers ?? []
      const share = config.uniformShare === undefined ? {} : { uniformShare: config.uniformShare }
      const options = { alphaBar, binCount, decay, stream, seed, ...share }
      const { sigmaData = 0.5 } = config
      return {
        sampler:
          word === 'time-warping'
            ? timeWarpingSampler({ ...options, dataVariance: sigmaData ** 2, importanceWeights })
            : adaptiveDensitySampler(options),
      }
    }
    case 'curriculum': {
      const [clusterCount = 20, patience = 200] = config.samplerNumbers ?? []
      return { sampler: curriculumSampler({ ...shared, clusterCount, patience, stream }) }
    }
    case 'uniform':
      return { sampler: UNIFORM[stream](shared) }
    default:
      return { sampler: UNIFORM[word](shared) }
  }
}

const UNIFORM = {
  iid: uniformSampler,
  stratified: stratifiedSampler,
  systematic: systematicSampler,
  golden: goldenSampler,
}
