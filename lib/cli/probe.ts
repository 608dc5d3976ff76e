import type { z } from 'zod'
import { probe } from '../analysis/probe.ts'
import { probeInstrument } from '../analysis/probe-instrument.ts'
import { probeTimesteps } from '../analysis/timestep-curve.ts'
import { decimal, integer } from '../options.ts'
import { checkSeveralHeads, HEAD_STATISTICS_SHAPE, writeMeasuredHeads } from './head-statistics-option.ts'
import { decideOf, firstBatch, measuredImages, trainingOf } from './held-out-images.ts'
import { commandOf, INSTRUMENT_SHAPE, printInstrument } from './instrument-options.ts'
import { interruptible } from './interrupt.ts'
import { imagesFor, networkForSampling } from './network-for-sampling.ts'
import { helpText, parseOptions } from './options.ts'
import { checkInstrumentOutput, checkOutputFile } from './output.ts'
import { streamProgress } from './progress.ts'
import { applyRuntime } from './runtime-options.ts'

const about = <T extends z.ZodType>(description: string, schema: T): T => schema.meta({ description }) as T

const SHAPE = {
  ...INSTRUMENT_SHAPE,
  count: about('held-out images, the same with the same noise at every timestep', integer(1).default(128)),
  batchSize: about('images a forward pass', integer(1).default(128)),
  dense: about('measure every timestep below this one', integer(1).default(30)),
  sparse: about('measure so many timesteps above it, evenly in log snr', integer(1).default(70)),
  timestepStride: about('measure every so many timesteps instead', integer(1).optional()),
  slots: about('slots that each rule cuts', integer(1).default(10)),
  sigmaData: about('deviation of the pixels, for space F', decimal(1e-6).default(0.5)),
  resamples: about('resamplings of the images behind the intervals of edges', integer(0).default(200)),
  gradientImages: about(
    'images whose gradients are taken one at a time, for slots of equal gradient moment; 0 for none',
    integer(0).default(16),
  ),
  gradientTimesteps: about('timesteps at which they are, evenly in log snr', integer(2).default(12)),
  ...HEAD_STATISTICS_SHAPE,
} satisfies Record<string, z.ZodType>

/** `trislot probe`. */
export async function probeCommand(argv: readonly string[]): Promise<number> {
  const call = 'trislot probe'
  const { options, given, wantsHelp } = parseOptions(call, argv, SHAPE)
  if (wantsHelp) {
    const what =
      'Measures the held-out loss over the timesteps in every space, and the slots that rules cut from it.'
    console.log(helpText(what, `${call} --run runs/digits`, SHAPE))
    return 0
  }
  await checkInstrumentOutput(call, options)
  const { headStatistics } = options
  if (headStatistics !== undefined) await checkOutputFile(call, '--head-statistics', headStatistics)
  return interruptible(streamProgress(process.stderr, 'probing'), 'stopping', async (progress, signal) => {
    await applyRuntime(options)
    const network = await networkForSampling(call, options, given, progress.line)
    const { unet, schedule } = network
    checkSeveralHeads(call, headStatistics, network)
    const config = await imagesFor(call, options, network)
    const { heldOut, isHeldOut } = await measuredImages(config)
    const { count, seed, batchSize, dense, sparse, timestepStride: stride, slots } = options
    const timesteps = stride
      ? Int32Array.from({ length: Math.ceil(schedule.timestepCount / stride) }, (_, i) => i * stride)
      : probeTimesteps(schedule.tables.snr, dense, sparse)
    const images = await firstBatch(heldOut, count, seed, config.classes !== 'none', progress.line)
    const found = await probe(unet, schedule, {
      images,
      ...{
        timesteps,
        seed,
        batchSize,
        slotCount: slots,
        sigmaData: options.sigmaData,
        resamples: options.resamples,
      },
      gradientImages: Math.min(options.gradientImages, images.shape[0]),
      gradientTimesteps: options.gradientTimesteps,
      training: trainingOf(network),
      decide: decideOf(network),
      signal,
      onProgress: (done, total) => progress.update(done, total),
    })
    await writeMeasuredHeads(
      headStatistics,
      network,
      {
        ...{ images, seed, batchSize, training: trainingOf(network), signal },
        onTimestep: (done, total) => progress.update(done, total, 'heads'),
      },
      progress.line,
    )
    progress.end()
    await printInstrument(probeInstrument(found, commandOf(call, given)), options, network, isHeldOut)
    if (headStatistics !== undefined) console.log(headStatistics)
    unet.dispose()
    schedule.dispose()
    return 0
  })
}
