import { createHash } from 'node:crypto'
import { availableParallelism } from 'node:os'
import { join } from 'node:path'
import { z } from 'zod'
import { argumentError, checkInteger, isObject } from '../check.ts'
import { checkOptions, decimal, flag, integer, numbers, oneOf, text } from '../options.ts'
import { HEADS } from '../prediction/heads.ts'
import { SOLVERS } from '../sampling/solver.ts'
import { SPACINGS } from '../schedule/noise-spacing.ts'
import {
  FREE_OPTIONS,
  RUN_SHAPE,
  type RunConfig,
  type RunOptions,
  runConfig,
} from '../training/run-config.ts'
import { checkEvaluation, checkMetrics, measuresWeights } from './study-checks.ts'

const record = (what: string) => z.record(z.string(), z.unknown(), what)

const SAMPLES_SHAPE = {
  count: integer(2).default(2048),
  steps: numbers('a list of step counts').default([10, 50]),
  seed: integer(0).default(0),
  batchSize: integer(1).default(64),
  featureSteps: integer(1).default(1000),
  // Without defaults, so that samples from before there were these settings keep their hash.
  solver: oneOf(SOLVERS).optional(),
  spacing: oneOf(SPACINGS).optional(),
  lowerOrderFinal: flag().optional(),
} satisfies Record<string, z.ZodType>

const BITS_SHAPE = {
  images: integer(1).default(64),
  steps: integer(1).default(100),
} satisfies Record<string, z.ZodType>

const EVALUATE_SHAPE = {
  images: integer(1).default(512),
  curveImages: integer(1).default(128),
  timesteps: z
    .union([integer(2), numbers('timesteps')], 'a number of timesteps or a list of them')
    .default(17),
  spacing: oneOf(['quantiles', 'logSnr']).default('quantiles'),
  alsoAt: numbers('timesteps').optional(),
  sigmaData: decimal(1e-6).default(0.5),
  seed: integer(0).default(0),
  batchSize: integer(1).default(64),
  weights: oneOf(['ema', 'raw']).default('ema'),
  bothWeights: flag().default(true),
  combine: text().optional(),
  combinations: z.array(text(), 'a list of ways to combine heads').optional(),
  samples: record('settings of samples').optional(),
  bitsPerDim: record('settings of bits per dimension').optional(),
} satisfies Record<string, z.ZodType>

const COMPARE_SHAPE = {
  control: text('the name of an arm'),
  metrics: z.array(text(), 'a list of metrics').optional(),
} satisfies Record<string, z.ZodType>

const STUDY_SHAPE = {
  name: text(),
  title: text().optional(),
  about: text().optional(),
  out: text().optional(),
  images: integer(1).optional(),
  stopAt: numbers('a list of images seen').optional(),
  base: record('options of train'),
  arms: record('arms by name, each with the options that it changes'),
  seeds: numbers('a list of seeds').default([0, 1, 2, 3, 4]),
  evaluate: record('settings of the evaluation').default({}),
  compare: record('what is compared').default({}),
} satisfies Record<string, z.ZodType>

/** How samples of every arm are drawn: from the same start noise, by DDIM at timesteps even in t where nothing else is said. */
export type SampleSettings = z.output<z.ZodObject<typeof SAMPLES_SHAPE>>

/** How bits per dimension are measured: of the first held-out images, by a process of so many steps. */
export type BitsSettings = z.output<z.ZodObject<typeof BITS_SHAPE>>

/** How every cell of a study is evaluated. */
export type EvaluationSettings = Omit<
  z.output<z.ZodObject<typeof EVALUATE_SHAPE>>,
  'samples' | 'bitsPerDim'
> & {
  readonly samples?: SampleSettings
  readonly bitsPerDim?: BitsSettings
}

/** One arm of a study: a way to train, and how its predictions are read. */
export interface StudyArm {
  readonly name: string
  /** Options of `run` without `run` and `seed`. */
  readonly options: Omit<RunOptions, 'run' | 'seed'>
  /** What these options become, without those that train nothing. */
  readonly config: Readonly<Record<string, unknown>>
  readonly evaluate: EvaluationSettings
  /** Which prediction of xStart its networks give, in words of `--combine`. */
  readonly combine: string
  readonly batchSize: number
  readonly steps: number
  /** Steps after which held-out loss is measured, ascending; the last is the end. */
  readonly stops: readonly number[]
}

/** A study with everything filled in and checked. */
export interface Study {
  readonly name: string
  readonly title: string
  readonly about: string
  readonly out: string
  readonly arms: readonly StudyArm[]
  readonly seeds: readonly number[]
  readonly compare: { readonly control: string; readonly metrics: readonly string[] }
}

/**
 * A study as a file declares it: every arm is trained with every seed. `base` holds the options of `run` that the arms
 * share, an arm those that it changes (null takes one of base away) and under `evaluate` how its predictions are read.
 */
export interface StudyOptions {
  readonly name: string
  readonly title?: string
  readonly about?: string
  /** Folder of the study; `studies/NAME` by default. */
  readonly out?: string
  /** Images that each cell sees, from which steps follow; or give `steps` among the options. */
  readonly images?: number
  /** Images seen at which held-out loss is measured on the way. */
  readonly stopAt?: readonly number[]
  readonly base: Readonly<Record<string, unknown>>
  readonly arms: Readonly<Record<string, Readonly<Record<string, unknown>>>>
  /** 0 to 4 by default. */
  readonly seeds?: readonly number[]
  readonly evaluate?: Readonly<Record<string, unknown>>
  readonly compare?: { readonly control?: string; readonly metrics?: readonly string[] }
}

/**
 * Checks a study: every name, value and arm, before anything is trained.
 *
 * @throws RangeError that lists unknown names, with the nearest that exists, and wrong values
 */
export async function parseStudy(given: StudyOptions, call = 'runStudy'): Promise<Study> {
  const file = checkOptions(call, STUDY_SHAPE, given)
  const names = Object.keys(file.arms)
  const wrongName = names.find((name) => !/^[\w.+-]+$/.test(name))
  if (wrongName !== undefined || names.length === 0) {
    throw argumentError(call, 'arms', 'named with letters, digits, ., +, _ and -', wrongName ?? 'no arm')
  }
  if (!/^[\w.+-]+$/.test(file.name) || /^\.+$/.test(file.name)) {
    throw argumentError(call, 'name', 'of letters, digits, ., +, _ and -', file.name)
  }
  checkInteger(call, 'seeds.length', file.seeds.length, 1)
  for (const [i, seed] of file.seeds.entries()) {
    if (!Number.isSafeInteger(seed) || seed < 0 || file.seeds.indexOf(seed) !== i) {
      throw argumentError(call, `seeds[${i}]`, 'a whole number that is not there twice', seed)
    }
  }
  const compare = checkOptions(`${call} compare`, COMPARE_SHAPE, {
    control: names[0],
    ...file.compare,
  })
  if (!names.includes(compare.control)) {
    throw argumentError(call, 'compare.control', `an arm (${names.join(', ')})`, compare.control)
  }
  const shared = evaluation(`${call} evaluate`, file.evaluate)
  const arms = await Promise.all(names.map((name) => parseArm(call, name, file, shared)))
  const isRawMeasured = arms.some((arm) => measuresWeights(arm, 'raw'))
  const { control, metrics = isRawMeasured ? ['F', 'v', 'F.raw'] : ['F', 'v'] } = compare
  checkMetrics(call, metrics, arms)
  const { name, title = name, about = '', out = join('studies', name), seeds } = file
  return { name, title, about, out, arms, seeds, compare: { control, metrics } }
}

type StudyGiven = z.output<z.ZodObject<typeof STUDY_SHAPE>>

async function parseArm(
  call: string,
  name: string,
  file: StudyGiven,
  shared: EvaluationSettings,
): Promise<StudyArm> {
  const where = `${call} arms.${name}`
  const changes = file.arms[name]
  if (!isObject(changes)) {
    throw argumentError(call, `arms.${name}`, 'an object of options', changes, { kind: 'type' })
  }
  const { evaluate: own = {}, ...overrides } = changes
  const merged = Object.entries({ ...file.base, ...overrides }).filter(([, value]) => value !== null)
  const given: Record<string, unknown> = Object.fromEntries(merged)
  for (const key of ['run', 'seed']) {
    if (key in given) throw argumentError(where, key, 'absent: a study names folders and seeds', given[key])
  }
  const evaluate = evaluation(`${where} evaluate`, { ...shared, ...(own as object) })
  const { images } = file
  if (images !== undefined && given.steps !== undefined) {
    throw argumentError(where, 'steps', 'absent where the study says images', given.steps)
  }
  // The batch size of a preset is only known to the run's own configuration; of so many images there are at most so many steps.
  const draft = await runConfig({ steps: images ?? 1, ...given } as unknown as RunOptions, where)
  const { batchSize } = draft
  if (images !== undefined) given.steps = Math.max(1, Math.round(images / batchSize))
  if (given.steps === undefined) throw argumentError(where, 'steps', 'given here or as images', undefined)
  const steps = given.steps as number
  given.heldOut ??= shared.images
  if (evaluate.images > (given.heldOut as number)) {
    const what = `at most the ${given.heldOut} that heldOut keeps out of training`
    throw argumentError(where, 'evaluate.images', what, evaluate.images)
  }
  given.splitSeed ??= 0
  given.previewEvery ??= 0
  given.keep ??= 2
  if (draft.lrSchedule !== 'constant') given.lrSteps ??= steps
  const config = await runConfig(given as unknown as RunOptions, where)
  await checkEvaluation(where, config, evaluate)
  const stops = (file.stopAt ?? []).map((seen) => Math.max(1, Math.round(seen / batchSize)))
  const within = stops.filter((step) => step < steps)
  const ascending = [...new Set([...within, steps])].sort((a, b) => a - b)
  const options = given as unknown as StudyArm['options']
  const { combine = config.combine } = evaluate
  return {
    ...{ name, options, config: trainedConfig(config), evaluate, combine },
    ...{ batchSize, steps, stops: ascending },
  }
}

/** A configuration without what trains nothing, and with the heads that a network has where none are given. */
function trainedConfig(config: RunConfig): Record<string, unknown> {
  const free = new Set<string>([
    ...FREE_OPTIONS.filter((key) => key !== 'steps'),
    'seed',
    'threads',
    'logEvery',
  ])
  const entries = Object.entries({ ...config, heads: config.heads ?? HEADS })
  return Object.fromEntries(entries.filter(([key, value]) => value !== undefined && !free.has(key)))
}

function evaluation(call: string, given: object): EvaluationSettings {
  const { samples, bitsPerDim, ...rest } = checkOptions(call, EVALUATE_SHAPE, given)
  const curveImages = Math.min(rest.curveImages, rest.images)
  const bits = bitsPerDim && checkOptions(`${call}.bitsPerDim`, BITS_SHAPE, bitsPerDim)
  if (bits && bits.images > rest.images) {
    throw argumentError(`${call}.bitsPerDim`, 'images', `at most the ${rest.images} held out`, bits.images)
  }
  return {
    ...{ ...rest, curveImages },
    ...(samples && { samples: checkOptions(`${call}.samples`, SAMPLES_SHAPE, samples) }),
    ...(bits && { bitsPerDim: bits }),
  }
}

/** The folder of one cell, an ordinary run. */
export function cellFolder(out: string, arm: string, seed: number): string {
  return join(out, arm, `seed-${seed}`)
}

/** Options of the run of one cell. */
export function cellOptions(study: Study, arm: StudyArm, seed: number): RunOptions {
  return { ...arm.options, seed, run: cellFolder(study.out, arm.name, seed) } as RunOptions
}

/** A short hash of settings, whatever the order of their names. */
export function settingsHash(settings: object): string {
  const entries = Object.entries(settings).filter(([, value]) => value !== undefined)
  const sorted = entries.sort(([a], [b]) => (a < b ? -1 : 1))
  return createHash('sha256').update(JSON.stringify(sorted)).digest('hex').slice(0, 16)
}

/** Processes and threads that use every core once. */
export function workers(jobs?: number): { readonly jobs: number; readonly threads: number } {
  const cores = availableParallelism()
  const wanted = jobs ?? cores
  const most = Number(process.env.OMP_NUM_THREADS) || cores // as LibTorch itself takes it
  return { jobs: wanted, threads: Math.max(1, Math.min(most, Math.floor(cores / wanted))) }
}

/** @internal Names that options of an arm may have. */
export const ARM_KEYS: readonly string[] = [...Object.keys(RUN_SHAPE), 'evaluate']
