import { RECIPES, type Recipe } from '../model/recipes.ts'
import type { UNet, UNetOptions } from '../model/unet.ts'
import { type DescribedModel, describeModel, type GivenModel } from '../weights/describe.ts'
import { listCheckpoints, weightsFile } from './checkpoint.ts'
import type { RunConfig, RunOptions } from './run-config.ts'
import { runNetwork } from './run-presets.ts'
import { readStoredConfig } from './stored-config.ts'

/** The options that the network of `init` fills in; those that are given count for it where its file does not tell them. */
export async function initOptions(
  config: Omit<RunConfig, 'run' | 'combine'> & Pick<RunOptions, 'run'>,
  given: RunOptions,
  call: string,
): Promise<Partial<RunConfig>> {
  let model: DescribedModel
  try {
    model = await describeInit(config, given, call)
  } catch (error) {
    // A run that goes on has its own weights, and may outlive those that it began from.
    const begun = await optionsOfInit(config)
    if (!begun) throw error
    return begun
  }
  const { schedule, network, recipe } = model
  const { lowResSize }: Recipe | { lowResSize?: number } = recipe ? RECIPES[recipe] : {}
  if (network.dims !== undefined && network.dims !== 2) {
    throw new RangeError(
      `${call}: expected init to be a network of 2 spatial dimensions, got ${network.dims}`,
    )
  }
  if (schedule.betas) {
    throw new RangeError(`${call}: expected init to be a network of a named schedule, got betas of its own`)
  }
  return {
    ...runNetwork(network),
    schedule: schedule.name,
    timestepCount: schedule.timestepCount,
    zeroTerminalSnr: schedule.zeroTerminalSnr ?? false,
    rescalesTimesteps: model.rescalesTimesteps,
    ...(network.learnsVariance && { variance: model.variance }),
    ...(lowResSize !== undefined && { superResolution: lowResSize }),
  }
}

/** The same options of a run that is there already, where it began from this `init`. */
async function optionsOfInit({
  run,
  init,
}: Pick<RunOptions, 'run' | 'init'>): Promise<Partial<RunConfig> | undefined> {
  if (run === undefined) return undefined
  const begun = await readStoredConfig<RunConfig>(run).catch(() => undefined)
  if (begun === undefined || begun.init !== init || (await listCheckpoints(run)).length === 0)
    return undefined
  const { schedule, timestepCount, zeroTerminalSnr, rescalesTimesteps, variance, superResolution } = begun
  const others = { schedule, timestepCount, zeroTerminalSnr, rescalesTimesteps, variance, superResolution }
  const known = Object.entries(others).filter(([, value]) => value !== undefined)
  return { ...runNetwork(begun as UNetOptions), ...Object.fromEntries(known) }
}

/**
 * Gives a fresh network what fits of the weights of `init`, and tells what was taken, what begins anew and what is left out. The
 * last convolution is taken over head by head.
 */
export async function loadInitialWeights(
  unet: UNet,
  config: RunConfig,
  log: (line: string) => void,
): Promise<void> {
  const { network, source, contents } = await describeInit(config, config, 'run')
  const { heads = [], learnsVariance = false, imageChannels = 3 } = network
  const report = await unet.loadWeights(await weightsFile(config.init as string), {
    partial: true,
    ...(config.initPart !== undefined && { part: config.initPart }),
    from: { heads, learnsVariance, imageChannels },
  })
  const { part, otherParts } = contents
  if (part !== undefined && otherParts.length > 0) {
    log(
      `note: ${config.init} holds ${[part, ...otherParts].join(' and ')}; ${part} is used (initPart for another)`,
    )
  }
  const outputs = report.outputs?.fresh ?? []
  log(
    `begins with ${report.loaded.length} of ${unet.parameters().length} tensors of ${config.init} (${source})`,
  )
  if (outputs.length > 0) log(`  heads that begin anew: ${outputs.join(', ')}`)
  if (report.fresh.length > 0) log(`  tensors that begin anew: ${listed(report.fresh)}`)
  if (report.ignored.length > 0) log(`  tensors that are left out: ${listed(report.ignored)}`)
}

/**
 * The network of the file, which need not be the run's: only what its shapes do not tell is taken from the run's options.
 */
async function describeInit(
  config: Omit<RunConfig, 'run' | 'combine'>,
  given: Partial<RunOptions>,
  call: string,
): Promise<DescribedModel> {
  const { init, initConfig, initPart, initHeads } = config
  const { attentionHeads, headChannels, newAttentionOrder, normGroups } = given
  const { schedule, timestepCount, rescalesTimesteps } = given
  const known = {
    network: { attentionHeads, headChannels, newAttentionOrder, normGroups, heads: initHeads },
    schedule,
    timestepCount,
    rescalesTimesteps,
  }
  return describeModel(
    await weightsFile(init as string),
    {
      ...(initConfig !== undefined && { config: initConfig }),
      ...(initPart !== undefined && { part: initPart }),
      given: known as GivenModel,
      defaults: { variance: 'learnedRange' },
      nameOf: (option) => ({ heads: 'initHeads', config: 'initConfig' })[option] ?? option,
    },
    call,
  )
}

function listed(names: readonly string[]): string {
  return names.length > 6 ? `${names.slice(0, 6).join(', ')}, … ${names.length} in all` : names.join(', ')
}
