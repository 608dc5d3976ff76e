// From a file of weights to a network that can be trained, measured and sampled. What shapes tell is read off them; what they
// do not comes from a configuration, from the registry of published files, or from the caller, and is never guessed.
import { stat } from 'node:fs/promises'
import { basename, dirname, extname, join } from 'node:path'
import { argumentError, nearest } from '../check.ts'
import { CheckpointError } from '../errors.ts'
import { CLASSIFIER_RECIPES, RECIPES, type Recipe, type RecipeName } from '../model/recipes.ts'
import { UNet, type UNetOptions, unetConfig } from '../model/unet.ts'
import { NoiseSchedule, type ScheduleName } from '../schedule/noise-schedule.ts'
import { type ConfigFile, readConfigFile } from './config-file.ts'
import { inferNetwork } from './infer.ts'
import { inspectWeights, type WeightsContents } from './inspect.ts'

/** All that is needed to use weights: what the network is, what it predicts, and the process it was trained for. */
export interface ModelDescription {
  readonly network: UNetOptions
  readonly schedule: {
    readonly name: ScheduleName
    readonly timestepCount: number
    readonly zeroTerminalSnr?: boolean
    /** Where they are not those of the name. */
    readonly betas?: readonly number[]
  }
  /** What a learned variance means. */
  readonly variance: 'learned' | 'learnedRange'
  /** The network sees t x 1000 / T (improved-diffusion). */
  readonly rescalesTimesteps: boolean
  /** Height and width of the images it was trained on, where that is known. */
  readonly imageSize?: number
  /** How many times smaller, in each direction, the images are that a super-resolution network makes larger, where that is known. */
  readonly lowResFactor?: number
}

/** What is known without looking at the file, or against what it seems to be. */
export interface GivenModel
  extends Partial<Pick<ModelDescription, 'variance' | 'rescalesTimesteps' | 'imageSize' | 'lowResFactor'>> {
  readonly network?: Partial<UNetOptions>
  readonly schedule?: ScheduleName
  readonly timestepCount?: number
}

/** Options of `describeModel`. */
export interface DescribeOptions {
  /** A JSON file with the configuration, or the name of a published network. */
  readonly config?: string
  /** The dict of a .pt file that holds several. */
  readonly part?: string
  /** Known otherwise; counts before everything else. */
  readonly given?: GivenModel
  /** Counts where nothing else tells it. */
  readonly defaults?: GivenModel
  /** How an option is called in messages: `attentionHeads` here, `--attention-heads` on a command line. */
  readonly nameOf?: (option: string) => string
}

/** A description and where it comes from. */
export interface DescribedModel extends ModelDescription {
  /** In words: a recipe, a file, or the options given. */
  readonly source: string
  /** Of the published network that it is, where it is one. */
  readonly recipe?: RecipeName
  readonly contents: WeightsContents
}

/**
 * Describes the network of a file of weights.
 *
 * Looked at in this order: `given`; `config`, or without it `NAME.json` beside `NAME.pt`, or the registry of published files
 * (name and all shapes must agree); the shapes of the tensors.
 *
 * @param call - what messages of errors begin with
 * @throws RangeError that names everything that is not known and how to give it; CheckpointError for a file that cannot be
 * read or whose tensors are not those of the description
 *
 * @example
 * const { network, schedule } = await describeModel('64x64_diffusion.pt')
 * const unet = await UNet.create(network)
 * await unet.loadWeights('64x64_diffusion.pt')
 */
export async function describeModel(
  path: string,
  options: DescribeOptions = {},
  call = 'describeModel',
): Promise<DescribedModel> {
  const { known, source, recipe, contents } = await whatIsKnown(path, options, call)
  const missing = missingOptions(known, options.nameOf ?? ((option) => option))
  if (missing.length > 0) {
    const alike = await sameShapes(contents)
    const name = (options.nameOf ?? ((option) => option))('config')
    const hint =
      alike.length > 0
        ? `; its shapes are those of ${alike.join(', ')}: ${name} ${alike[0]} takes the rest from there, if it is that network`
        : ''
    throw new RangeError(
      `${call}: expected what the shapes in ${path} do not tell to be given, got no\n  ${missing.join('\n  ')}\nor all of it in a JSON file by ${name}${hint}`,
    )
  }
  const { network, schedule, timestepCount, ...rest } = known
  const description: ModelDescription = {
    network: network as UNetOptions,
    schedule: { ...known.process, name: schedule as ScheduleName, timestepCount: timestepCount as number },
    variance: rest.variance ?? 'learnedRange',
    rescalesTimesteps: rest.rescalesTimesteps ?? false,
    ...(rest.imageSize !== undefined && { imageSize: rest.imageSize }),
    ...(rest.lowResFactor !== undefined && { lowResFactor: rest.lowResFactor }),
  }
  await checkShapes(call, path, contents, description.network, source)
  return { ...description, source, ...(recipe && { recipe }), contents }
}

/**
 * What can be said of a file although some of it may be unknown.
 *
 * @throws RangeError for something given that the shapes contradict; CheckpointError for a `config` that they do
 */
export async function whatIsKnown(
  path: string,
  { config, part, given = {}, defaults = {}, nameOf = (option) => option }: DescribeOptions,
  call: string,
): Promise<{
  readonly known: GivenModel & Pick<ConfigFile, 'process'>
  readonly source: string
  readonly recipe?: RecipeName
  readonly contents: WeightsContents
}> {
  const contents = await inspectWeights(path, part === undefined ? {} : { part })
  const inferred = inferNetwork(contents.tensors)
  if (inferred.kind !== 'unet') {
    const what =
      inferred.kind === 'encoder' ? 'a classifier (an encoder without output blocks)' : 'other tensors'
    throw new CheckpointError(
      `${call}: expected ${path} to hold a UNet of guided-diffusion, got ${what}`,
      path,
    )
  }
  const { normGroups, ...shapes } = inferred.options
  // Networks of this library may have any number of groups.
  const groups = contents.metadata.format === 'trislot' || normGroups === undefined ? {} : { normGroups }
  const base = await configuration(call, nameOf('config'), path, config, contents)
  const known = {
    ...defaults,
    ...base?.known,
    ...defined(given),
    network: { ...shapes, ...groups, ...base?.known.network, ...networkGiven(given.network) },
  }
  const { process: _, ...rest } = known
  const process = (given.schedule ?? given.timestepCount) ? undefined : beyondName(known)
  const network = withVariance(known.network, inferred.outChannels)
  const configured = config === undefined ? undefined : { ...shapes, ...groups, ...base?.known.network }
  const told = { given: defined(given.network ?? {}), configured, source: base?.source ?? '' }
  await checkTold(call, path, contents, network, told, nameOf)
  return {
    known: {
      ...rest,
      network,
      ...(process && { process }),
    },
    source: base?.source ?? 'the options given',
    ...(base?.recipe && { recipe: base.recipe }),
    contents,
  }
}

/** Betas are left out where they are those of the name. */
function beyondName(known: ConfigFile): ConfigFile['process'] {
  const { schedule: name, timestepCount, process } = known
  if (!process?.betas || !name || timestepCount === undefined) return process
  const { betas, zeroTerminalSnr } = process
  const named = NoiseSchedule.create({ name, timestepCount, zeroTerminalSnr })
  const isSame = named.tables.beta.every((beta, t) => beta === betas[t])
  named.dispose()
  return isSame ? { zeroTerminalSnr } : process
}

interface Configuration {
  readonly known: ConfigFile
  readonly source: string
  readonly recipe?: RecipeName
}

async function configuration(
  call: string,
  option: string,
  path: string,
  config: string | undefined,
  contents: WeightsContents,
): Promise<Configuration | undefined> {
  if (config !== undefined) {
    const isFile = /[./\\]/.test(config)
    if (isFile) return { known: await readConfigFile(config), source: config }
    const names = Object.keys(RECIPES)
    if (!Object.hasOwn(RECIPES, config)) {
      const guess = nearest(config, names)
      const what = `a JSON file or the name of a published network (${names.join(', ')})`
      throw argumentError(call, option, what, config, guess ? { hint: `did you mean ${guess}?` } : {})
    }
    return fromRecipe(config as RecipeName)
  }
  const name = basename(path, extname(path))
  const beside = join(dirname(path), `${name}.json`)
  if (await isThere(beside)) return { known: await readConfigFile(beside), source: beside }
  const state = join(dirname(path), 'state.json')
  if (await isThere(state)) return { known: await readConfigFile(state), source: state }
  if (Object.hasOwn(RECIPES, name) && (await fitsRecipe(contents, RECIPES[name as RecipeName]))) {
    return fromRecipe(name as RecipeName)
  }
  return undefined
}

function fromRecipe(name: RecipeName): Configuration {
  const { network, schedule, variance, rescalesTimesteps, imageSize, lowResSize }: Recipe = RECIPES[name]
  return {
    known: {
      network: unetConfig(network), // what the recipe leaves out is the default, and known
      schedule: schedule.name,
      timestepCount: schedule.timestepCount,
      variance: variance as 'learnedRange',
      rescalesTimesteps,
      imageSize,
      ...(lowResSize !== undefined && { lowResFactor: imageSize / lowResSize }),
    },
    source: `the published network ${name}`,
    recipe: name,
  }
}

/**
 * The registry's entry for a file: its name is that of a published file and its tensors are that network's.
 *
 * @returns undefined for every other file, so that a file that only has the name is not taken for the network
 */
export async function publishedNetwork(
  path: string,
  contents: WeightsContents,
): Promise<RecipeName | keyof typeof CLASSIFIER_RECIPES | undefined> {
  const name = basename(path, extname(path))
  if (Object.hasOwn(RECIPES, name)) {
    const recipe = name as RecipeName
    return (await fitsRecipe(contents, RECIPES[recipe])) ? recipe : undefined
  }
  if (!Object.hasOwn(CLASSIFIER_RECIPES, name)) return undefined
  const classifier = name as keyof typeof CLASSIFIER_RECIPES
  return hasCounts(contents, CLASSIFIER_RECIPES[classifier]) ? classifier : undefined
}

function hasCounts(
  { tensors, parameterCount }: WeightsContents,
  recipe: { readonly tensorCount: number; readonly parameterCount: number },
): boolean {
  return tensors.length === recipe.tensorCount && parameterCount === recipe.parameterCount
}

async function fitsRecipe(contents: WeightsContents, recipe: Recipe): Promise<boolean> {
  if (!hasCounts(contents, recipe)) return false
  return differences(contents, await parametersOf(recipe.network)).length === 0
}

/** Published networks that have these tensors. */
async function sameShapes(contents: WeightsContents): Promise<string[]> {
  const alike: string[] = []
  for (const [name, recipe] of Object.entries(RECIPES)) {
    if (await fitsRecipe(contents, recipe)) alike.push(name)
  }
  return alike
}

/** Names and shapes of a network that is not made: LibTorch's meta device holds no numbers. */
export async function parametersOf(network: UNetOptions): Promise<ReturnType<UNet['parameters']>> {
  const unet = await UNet.create(network, { device: 'meta' as 'cpu' })
  try {
    return unet.parameters()
  } finally {
    unet.dispose()
  }
}

function differences(contents: WeightsContents, parameters: ReturnType<UNet['parameters']>): string[] {
  const inFile = new Map(contents.tensors.map(({ name, shape }) => [name, shape]))
  const inNetwork = new Set(parameters.map(({ name }) => name))
  const text = (shape: readonly number[]): string => `[${shape.join(', ')}]`
  return [
    ...parameters.flatMap(({ name, shape }) => {
      const found = inFile.get(name)
      if (!found) return [`no ${name}`]
      return text(found) === text(shape) ? [] : [`${name} ${text(found)} instead of ${text(shape)}`]
    }),
    ...[...inFile.keys()].filter((name) => !inNetwork.has(name)),
  ]
}

async function checkShapes(
  call: string,
  path: string,
  contents: WeightsContents,
  network: UNetOptions,
  source: string,
): Promise<void> {
  const found = differences(contents, await parametersOf(network))
  if (found.length > 0) throw otherNetwork(call, path, source, found)
}

/** Options that no shape depends on; what they must divide is checked as the network is made. */
const SHAPELESS = [
  'attentionHeads',
  'headChannels',
  'newAttentionOrder',
  'normGroups',
  'dropout',
  'recompute',
]

/** What options say counts before the shapes, and must not contradict them; `network` is what is known with it. */
async function checkTold(
  call: string,
  path: string,
  contents: WeightsContents,
  network: Partial<UNetOptions>,
  told: {
    readonly given: Partial<UNetOptions>
    /** What is known by a configuration that was named, without what is given. */
    readonly configured: Partial<UNetOptions> | undefined
    readonly source: string
  },
  nameOf: (option: string) => string,
): Promise<void> {
  const { given, configured, source } = told
  const found = Object.keys(given).length > 0 || configured ? await unlike(contents, network) : []
  if (found.length === 0) return
  const shaping = Object.entries(given).filter(([option]) => !SHAPELESS.includes(option))
  const isConfigured = configured && (shaping.length === 0 || (await unlike(contents, configured)).length > 0)
  if (isConfigured) throw otherNetwork(call, path, source, found)
  if (shaping.length === 0) return
  const names = shaping.map(([option]) => nameOf(option)).join(' and ')
  const values = shaping.map(([, value]) => (Array.isArray(value) ? value.join(',') : String(value)))
  throw new RangeError(
    `${call}: expected ${names} to fit the tensors of ${path}, got ${values.join(' and ')}, against ${fewOf(found)}`,
  )
}

/** Where the tensors of a network differ from those of the file, as far as the network is known. */
async function unlike(contents: WeightsContents, network: Partial<UNetOptions>): Promise<string[]> {
  const { inChannels, outChannels } = inferNetwork(contents.tensors)
  const { imageChannels, lowRes, heads, attentionHeads, headChannels } = network
  const isLowRes = lowRes ?? inChannels === 2 * (imageChannels ?? inChannels)
  const filledIn = {
    ...withVariance(network, outChannels),
    lowRes: isLowRes,
    imageChannels: imageChannels ?? inChannels / (isLowRes ? 2 : 1),
    heads: heads ?? ['eps'],
    // No shape depends on these.
    normGroups: network.normGroups ?? 1,
    ...(attentionHeads === undefined && (headChannels ?? -1) === -1 && { attentionHeads: 1 }),
  } as UNetOptions
  const knowsOutput = imageChannels !== undefined && lowRes !== undefined && heads !== undefined
  const found = differences(contents, await parametersOf(filledIn))
  return found.filter((difference) => knowsOutput || !/^(no )?out\.2\./.test(difference))
}

function otherNetwork(call: string, path: string, source: string, found: readonly string[]): CheckpointError {
  return new CheckpointError(
    `${call}: expected ${path} to hold the tensors of the network of ${source}, got ${fewOf(found)}`,
    path,
  )
}

function fewOf(found: readonly string[]): string {
  return `${found.slice(0, 5).join(', ')}${found.length > 5 ? `, … ${found.length} in all` : ''}`
}

/** A learned variance is what the heads leave over of the output. */
function withVariance(network: Partial<UNetOptions>, outChannels: number): Partial<UNetOptions> {
  const { heads, imageChannels, learnsVariance } = network
  if (!heads || !imageChannels || learnsVariance !== undefined) return network
  return { ...network, learnsVariance: outChannels === imageChannels * (heads.length + 1) }
}

/** What is needed and not known, with the options that say it. */
export function missingOptions(known: GivenModel, nameOf: (option: string) => string): string[] {
  const { network = {} } = known
  const isSwitch = nameOf('a') !== 'a' // on command lines switches stand alone
  const yesOrNo = (option: string, no: string): string => {
    const negative = nameOf(`no${option[0]?.toUpperCase()}${option.slice(1)}`)
    return isSwitch ? `${nameOf(option)}, or ${negative}${no}` : `${nameOf(option)}: true, or false${no}`
  }
  const missing: string[] = []
  if (network.imageChannels === undefined || network.lowRes === undefined) {
    const which = `${nameOf('imageChannels')} N, and ${yesOrNo('lowRes', '')}`
    missing.push(`channels of the images, and whether they are made larger (${which})`)
  }
  if (network.heads === undefined) {
    missing.push(`predictions, in the order of the output channels (${nameOf('heads')} eps, as a rule)`)
  }
  const hasHeads = network.attentionHeads !== undefined || (network.headChannels ?? -1) !== -1
  if (!hasHeads) {
    missing.push(
      `number or width of attention heads (${nameOf('attentionHeads')} N or ${nameOf('headChannels')} N)`,
    )
  }
  if (network.newAttentionOrder === undefined && network.attentionHeads !== 1) {
    missing.push(`channel order of attention (${yesOrNo('newAttentionOrder', ' for the legacy order')})`)
  }
  if (network.normGroups === undefined) {
    missing.push(`groups of the normalisation (${nameOf('normGroups')} N)`)
  }
  if (known.schedule === undefined) missing.push(`noise schedule (${nameOf('schedule')} linear or cosine)`)
  if (known.timestepCount === undefined) missing.push(`diffusion timesteps (${nameOf('timestepCount')} N)`)
  if (network.learnsVariance !== false && known.variance === undefined) {
    missing.push(
      `meaning of the learned variance, if it has one (${nameOf('variance')} learnedRange, as a rule, or learned)`,
    )
  }
  if (known.rescalesTimesteps === undefined && known.timestepCount !== 1000) {
    missing.push(`whether the network sees t x 1000 / T (${yesOrNo('rescalesTimesteps', '')})`)
  }
  return missing
}

/** A number of attention heads stands in place of their width. */
function networkGiven(network: Partial<UNetOptions> = {}): Partial<UNetOptions> {
  const given = defined(network)
  const isCount = given.attentionHeads !== undefined && given.headChannels === undefined
  return isCount ? { ...given, headChannels: -1 } : given
}

function defined<T extends object>(values: T): Partial<T> {
  return Object.fromEntries(Object.entries(values).filter(([, value]) => value !== undefined)) as Partial<T>
}

async function isThere(path: string): Promise<boolean> {
  return stat(path).then(
    (entry) => entry.isFile(),
    () => false,
  )
}
