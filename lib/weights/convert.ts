import { writeFile } from 'node:fs/promises'
import { extname } from 'node:path'
import { argumentError } from '../check.ts'
import { CheckpointError } from '../errors.ts'
import { native } from '../native.ts'
import { type DescribeOptions, missingOptions, whatIsKnown } from './describe.ts'
import { inferNetwork } from './infer.ts'
import { inspectWeights, type WeightsContents } from './inspect.ts'

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
  if (from === to) throw argumentError(call, 'to', 'another file than from', to)
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
  await native().fileConvert(from, to, options.part ?? '')
  if (!found) return { contents, unknown: [] }
  const config = `${to.slice(0, to.length - extension.length)}.json`
  await writeFile(config, `${JSON.stringify(configOf(found.known, found.recipe), undefined, 2)}\n`)
  return { contents, config, unknown: missingOptions(found.known, options.nameOf ?? ((option) => option)) }
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
