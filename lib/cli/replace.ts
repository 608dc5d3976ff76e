import { z } from 'zod'
import { INTERVENTIONS, replacement } from '../analysis/replacement.ts'
import { replacementInstrument } from '../analysis/replacement-instrument.ts'
import { WINDOW_MEASURES } from '../analysis/replacement-windows.ts'
import { decimal, flag, integer, numbers, oneOf, text } from '../options.ts'
import { firstBatch, measuredImages } from './held-out-images.ts'
import { commandOf, INSTRUMENT_SHAPE, printInstrument } from './instrument-options.ts'
import { interruptible } from './interrupt.ts'
import { COMBINE_SHAPE, combineFor, imagesFor, networkForSampling } from './network-for-sampling.ts'
import { helpText, parseOptions } from './options.ts'
import { checkInstrumentOutput } from './output.ts'
import { streamProgress } from './progress.ts'
import { applyRuntime } from './runtime-options.ts'
import { UsageError } from './usage.ts'

const about = <T extends z.ZodType>(description: string, schema: T): T => schema.meta({ description }) as T

const SHAPE = {
  ...INSTRUMENT_SHAPE,
  count: about('real images that are noised and walked back', integer(1).default(32)),
  starts: about(
    'timesteps to which they are noised; 999,600,300 as far as the process goes',
    numbers('a list of timesteps').optional(),
  ),
  steps: about('DDIM steps from each', integer(2).default(50)),
  eta: about('DDIM’s share of DDPM’s noise, 0 to 1', decimal(0, 1).default(0)),
  replace: about(
    'what happens in a window: the truth for xStart or eps, or noise on xStart; all, but eps with --eta above 0',
    z.array(oneOf(INTERVENTIONS), `some of ${INTERVENTIONS.join(', ')}`).optional(),
  ),
  windows: about(
    'of what each window has the same share: steps, logSnr, weight in the open-loop sum; all without --ranges',
    z.array(oneOf(WINDOW_MEASURES), `some of ${WINDOW_MEASURES.join(', ')}`).optional(),
  ),
  ranges: about(
    'windows of your own: ranges of timesteps such as 300-100,50-0, without the last step',
    text().optional(),
  ),
  positions: about('windows of each kind', integer(1).default(10)),
  width: about('share of the process in each', decimal(1e-6, 1).default(0.1)),
  noiseSize: about('deviation of the noise on xStart', decimal(0).default(0.1)),
  includesLast: about('intervene in the last step too, in a window of its own', flag().default(false)),
  ...COMBINE_SHAPE,
  clip: about('clip the prediction to [-1, 1]', flag().default(true)),
} satisfies Record<string, z.ZodType>

/** `trislot replace`. */
export async function replaceCommand(argv: readonly string[]): Promise<number> {
  const call = 'trislot replace'
  const { options, given, wantsHelp } = parseOptions(call, argv, SHAPE)
  if (wantsHelp) {
    const what =
      'Puts the truth in place of the prediction in windows of sampling, and says what of the effect is algebra.'
    console.log(helpText(what, `${call} --run runs/digits`, SHAPE))
    return 0
  }
  await checkInstrumentOutput(call, options)
  return interruptible(streamProgress(process.stderr, 'replacing'), 'stopping', async (progress, signal) => {
    await applyRuntime(options)
    const network = await networkForSampling(call, options, given, progress.line)
    const { unet, schedule, rescalesTimesteps } = network
    const config = await imagesFor(call, options, network)
    const { heldOut, isHeldOut } = await measuredImages(config)
    const combine = await combineFor(options.combine ?? network.combine, network, progress.line)
    const { count, seed, starts, steps, eta, positions, width, noiseSize, includesLast, clip } = options
    const ranges = options.ranges === undefined ? [] : readRanges(call, options.ranges)
    const measures = options.windows ?? (ranges.length > 0 ? [] : undefined)
    const found = await replacement(unet, schedule, {
      images: await firstBatch(heldOut, count, seed, config.classes !== 'none', progress.line),
      ...{ steps, eta, ranges, positions, width, noiseSize, includesLast, seed, signal },
      ...(starts && { starts }),
      ...(options.replace && { interventions: options.replace }),
      ...(measures && { measures }),
      denoiser: { combine, clip, rescalesTimesteps },
      onProgress: (done, total) => progress.update(done, total),
    })
    progress.end()
    await printInstrument(replacementInstrument(found, commandOf(call, given)), options, network, isHeldOut)
    unet.dispose()
    schedule.dispose()
    return 0
  })
}

/** Ranges of timesteps such as 300-100,50-0. */
function readRanges(call: string, words: string): [number, number][] {
  return words.split(',').map((word) => {
    const [, from, to] = /^(\d+)-(\d+)$/.exec(word.trim()) ?? []
    if (from === undefined)
      throw new UsageError(
        `${call}: expected --ranges to be ranges of timesteps such as 300-100,50-0, got "${word}"`,
      )
    return [Number(from), Number(to)]
  })
}
