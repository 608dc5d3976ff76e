import type { z } from 'zod'
import { isObject } from '../check.ts'
import { isFolder } from '../folder.ts'
import { CLASSIFIER_RECIPES } from '../model/recipes.ts'
import { flag, text } from '../options.ts'
import { type CheckpointState, latestCheckpoint, readCheckpoint } from '../training/checkpoint.ts'
import { missingOptions, publishedNetwork, whatIsKnown } from '../weights/describe.ts'
import { type InferredNetwork, inferNetwork } from '../weights/infer.ts'
import { inspectWeights, type WeightsContents } from '../weights/inspect.ts'
import { describeOptions, MODEL_SHAPE } from './model-options.ts'
import { helpText, parseOptions } from './options.ts'
import { asUsage } from './usage.ts'

const SHAPE = {
  file: text().meta({ description: '.pt or .safetensors file, or the folder of a checkpoint or run' }),
  json: flag().default(false).meta({ description: 'everything as JSON, for programs' }),
  ...MODEL_SHAPE,
} satisfies Record<string, z.ZodType>

const NOTES =
  'Nothing in a file is executed, and its data is not read: a file of gigabytes takes no longer than a small one.'

/** `trislot inspect`. */
export async function inspectCommand(argv: readonly string[]): Promise<number> {
  const call = 'trislot inspect'
  const { options, wantsHelp } = parseOptions(call, argv, SHAPE, undefined, ['file'])
  if (wantsHelp) {
    console.log(helpText('Says what is in a file of weights.', `${call} FILE`, SHAPE, NOTES))
    return 0
  }
  const { file, json } = options
  if (await isFolder(file)) {
    const onUnreadable = (_: string, error: Error) => console.error(`warning: ${error.message}`)
    const checkpoint = (await latestCheckpoint(file, { onUnreadable })) ?? file
    const state = await readCheckpoint(checkpoint)
    console.log(json ? JSON.stringify(state, undefined, 2) : checkpointText(checkpoint, state))
    return 0
  }
  const found = await asUsage(() => look(file, describeOptions(options), call))
  console.log(json ? JSON.stringify(found, undefined, 2) : fileText(file, found))
  return 0
}

interface Found extends WeightsContents {
  readonly inferred: InferredNetwork
  /** Name in the registry of published files. */
  readonly published?: string
  /** What is known of a UNet, where from, and what is not. */
  readonly network?: { readonly source: string; readonly known: object; readonly unknown: readonly string[] }
}

async function look(file: string, options: ReturnType<typeof describeOptions>, call: string): Promise<Found> {
  const { part } = options
  const contents = await inspectWeights(file, part === undefined ? {} : { part })
  const inferred = inferNetwork(contents.tensors)
  const published = await publishedNetwork(file, contents)
  if (inferred.kind !== 'unet') return { ...contents, inferred, ...(published && { published }) }
  const { known, source } = await whatIsKnown(file, options, call)
  return {
    ...contents,
    inferred,
    ...(published && { published }),
    network: { source, known, unknown: missingOptions(known, options.nameOf) },
  }
}

function fileText(file: string, found: Found): string {
  const { format, tensors, parameterCount, bytes, part, otherParts, inferred, published, network } = found
  const types = new Map<string, number>()
  for (const { dtype } of tensors) types.set(dtype, (types.get(dtype) ?? 0) + 1)
  const lines = [
    `${file}: ${format}, ${tensors.length} tensors, ${parameterCount} numbers, ${(bytes / 2 ** 20).toFixed(1)} MiB`,
    `types: ${[...types].map(([dtype, count]) => `${dtype} (${count})`).join(', ')}`,
  ]
  if (part !== undefined)
    lines.push(`part: ${part}${otherParts.length > 0 ? `; others: ${otherParts.join(', ')}` : ''}`)
  if (published !== undefined) lines.push(`published as: ${published}`)
  lines.push(...networkLines(inferred, published, network))
  const metadata = Object.entries(found.metadata)
  if (metadata.length > 0) {
    lines.push('', 'beside the tensors:', ...metadata.map(([key, value]) => `  ${key}: ${shortened(value)}`))
  }
  const width = tensors.reduce((most, { name }) => Math.max(most, name.length), 0)
  const rows = tensors.map(
    ({ name, dtype, shape }) => `  ${name.padEnd(width)}  ${dtype} [${shape.join(', ')}]`,
  )
  return [...lines, '', 'tensors:', ...rows].join('\n')
}

function networkLines(
  inferred: InferredNetwork,
  published: string | undefined,
  network: Found['network'],
): string[] {
  if (inferred.kind === 'other') return ['network: none of guided-diffusion']
  if (inferred.kind === 'encoder') {
    const recipe = CLASSIFIER_RECIPES[published as keyof typeof CLASSIFIER_RECIPES]
    const options = recipe?.network ?? {
      ...inferred.options,
      pool: inferred.pool,
      classes: inferred.outChannels,
    }
    return ['network: a classifier of guided-diffusion', ...optionLines(options)]
  }
  if (!network) return []
  const { network: options = {}, process: _, ...rest } = network.known as Record<string, object>
  return [
    `network: a UNet of guided-diffusion, told by the shapes and ${network.source}`,
    ...optionLines({ ...options, ...rest }),
    ...(network.unknown.length > 0 ? ['not known:', ...network.unknown.map((line) => `  ${line}`)] : []),
  ]
}

function optionLines(options: object): string[] {
  return Object.entries(options).map(
    ([key, value]) => `  ${key}: ${Array.isArray(value) ? value.join(', ') || 'none' : String(value)}`,
  )
}

function checkpointText(folder: string, state: CheckpointState): string {
  const { step, imagesSeen, network, schedule, trainer, versions, files } = state
  return [
    `${folder}: a checkpoint of trislot ${versions.trislot}, step ${step}, ${imagesSeen} images seen; every file is whole`,
    'network:',
    ...optionLines(network),
    `schedule: ${schedule.name}, ${schedule.timestepCount} timesteps${schedule.zeroTerminalSnr ? ', no signal at the last' : ''}`,
    'training:',
    ...optionLines(flattened(trainer)),
    'files:',
    ...files.map(({ name, bytes }) => `  ${name}  ${(bytes / 2 ** 20).toFixed(1)} MiB`),
  ].join('\n')
}

/** Options within options in words: `kind mse, choose mean`. */
function flattened(options: object): object {
  const inWords = (group: object): string =>
    Object.entries(group)
      .map(([key, value]) => `${key} ${value}`)
      .join(', ')
  const flat = (value: unknown) => (isObject(value) && !Array.isArray(value) ? inWords(value) : value)
  return Object.fromEntries(Object.entries(options).map(([key, value]) => [key, flat(value)]))
}

function shortened(value: string): string {
  return value.length > 80 ? `${value.slice(0, 77)}...` : value
}
