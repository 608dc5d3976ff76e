import { readFile, writeFile } from 'node:fs/promises'
import { extname, resolve } from 'node:path'
import { argumentError } from '../check.ts'
import { CheckpointError } from '../errors.ts'
import { native } from '../native.ts'
import { readConfigFile } from './config-file.ts'
import { type DescribeOptions, missingOptions, whatIsKnown } from './describe.ts'
import { inferNetwork } from './infer.ts'
import { inspectWeights, type WeightsContents } from './inspect.ts'
import { isSameFile } from './same-file.ts'

/** What `convertWeights` did. */
export interface Conversion {
  readonly contents: WeightsContents
  /** The file with the network's configuration; none is written for tensors that are no UNet's. */
  readonly config?: string
  /** What the configuration lacks because neither the shapes nor anything else tells it. */
  readonly unknown: readonly string[]
}

/**
 * Converts a file of weights, .pt to .safetensors or the other way round, one tensor at a time, and writes beside it what is known
 * of its network as JSON. Types stay what they are. A .pt is a flat state dict that `torch.load(weights_only=True)` reads.
 *
 * @param options - as for `describeModel`; what is not known is left out of the JSON
 * @param call - what messages of errors begin with
 * @throws RangeError for another extension; CheckpointError for a file that cannot be read or written
 *
 * @example
 * await convertWeights('64x64_diffusion.pt', '64x64_diffusion.safetensors')
 */
export async function convertWeights(
  from: string,
  to: string,
  options: DescribeOptions = {},
  call = 'convertWeights',
): Promise<Conversion> {
  const extension = extname(to)
  if (extension !== '.safetensors' && extension !== '.pt') {
    throw argumentError(call, 'to', 'a file name that ends in .safetensors or .pt', to)
  }
  if (await isSameFile(from, to)) throw argumentError(call, 'to', 'another file than from', to)
  const part = options.part === undefined ? {} : { part: options.part }
  const contents = await inspectWeights(from, part)
  const isUNet = inferNetwork(contents.tensors).kind === 'unet'
  if (!isUNet && options.config !== undefined) {
    throw new CheckpointError(
      `${call}: expected ${from} to hold a UNet, because config is given, got other tensors`,
      from,
    )
  }
  const found = isUNet ? await whatIsKnown(from, options, call) : undefined
  const config = `${to.slice(0, to.length - extension.length)}.json`
  const isSource = found !== undefined && resolve(found.source) === resolve(config)
  if (found && !isSource) await checkReplaceable(call, config)
  await native().fileConvert(from, to, options.part ?? '')
  if (!found) return { contents, unknown: [] }
  const text = `${JSON.stringify(configOf(found.known, found.recipe), undefined, 2)}\n`
  if (!isSource) await writeFile(config, text) // else it is there, in its owner's words
  return { contents, config, unknown: missingOptions(found.known, options.nameOf ?? ((option) => option)) }
}

/** Refuses to write over JSON that this did not write. */
async function checkReplaceable(call: string, config: string): Promise<void> {
  const text = await readFile(config, 'utf8').catch(() => undefined)
  if (text === undefined) return
  const isOurs = await readConfigFile(config).then(
    () => text.includes('"network"') && !text.includes('"trainer"'),
    () => false,
  )
  if (isOurs) return
  throw new RangeError(
    `${call}: expected ${config} to be free or the configuration of a network, got another file; choose another name`,
  )
}

/** The JSON that `readConfigFile` reads. */
function configOf(
  known: Awaited<ReturnType<typeof whatIsKnown>>['known'],
  recipe: string | undefined,
): object {
  const { network, schedule: name, timestepCount, process, ...rest } = known
  return {
    ...(recipe && { recipe }),
    network,
    schedule: { name, timestepCount, ...process },
    ...rest,
  }
}
