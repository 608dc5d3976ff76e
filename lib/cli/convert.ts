import { existsSync, readdirSync, rmSync } from 'node:fs'
import { basename, dirname, join } from 'node:path'
import type { z } from 'zod'
import { text } from '../options.ts'
import { weightsFile } from '../training/checkpoint.ts'
import { convertWeights } from '../weights/convert.ts'
import { describeOptions, MODEL_SHAPE, partNote } from './model-options.ts'
import { helpText, inWordsOf, parseOptions } from './options.ts'
import { asUsage } from './usage.ts'

const SHAPE = {
  from: text().meta({
    description: '.pt or .safetensors file, or a checkpoint’s folder, of which the average is taken',
  }),
  to: text().meta({ description: 'file to write, .safetensors or .pt; NAME.json is written beside it' }),
  ...MODEL_SHAPE,
} satisfies Record<string, z.ZodType>

const NOTES = `Tensors keep their types, and one is in memory at a time. NAME.json holds what is known of the network, so that NAME.safetensors
can be used like a published file; what the shapes do not tell can be given here or later. A .pt is a plain state dict that
torch.load(weights_only=True) reads.`

/** `trislot convert`. */
export async function convertCommand(argv: readonly string[]): Promise<number> {
  const call = 'trislot convert'
  const { options, wantsHelp } = parseOptions(call, argv, SHAPE, undefined, ['from', 'to'])
  if (wantsHelp) {
    console.log(helpText('Converts weights.', `${call} FROM.pt TO.safetensors`, SHAPE, NOTES))
    return 0
  }
  const from = await weightsFile(options.from)
  const { contents, config, unknown } = await cleanAfterSignal(options.to, () =>
    asUsage(() =>
      inWordsOf(call, SHAPE, () => convertWeights(from, options.to, describeOptions(options), call)),
    ),
  )
  const note = partNote(from, contents)
  if (note) console.error(note)
  if (config === undefined)
    console.error('note: not a UNet of guided-diffusion, so no configuration was written')
  if (unknown.length > 0) console.error(`note: not known, and not in ${config}:\n  ${unknown.join('\n  ')}`)
  console.log([options.to, config].filter((file) => file !== undefined).join('\n'))
  return 0
}

/** Ctrl-C ends the process at once, and takes the unfinished file with it. */
async function cleanAfterSignal<T>(to: string, work: () => Promise<T>): Promise<T> {
  const clean = (signal: NodeJS.Signals): void => {
    const partial = `${basename(to)}.${process.pid}-`
    for (const name of existsSync(dirname(to)) ? readdirSync(dirname(to)) : []) {
      if (name.startsWith(partial) && name.endsWith('.partial'))
        rmSync(join(dirname(to), name), { force: true })
    }
    process.removeListener('SIGINT', clean).removeListener('SIGTERM', clean)
    process.kill(process.pid, signal)
  }
  process.on('SIGINT', clean).on('SIGTERM', clean)
  try {
    return await work()
  } finally {
    process.removeListener('SIGINT', clean).removeListener('SIGTERM', clean)
  }
}
