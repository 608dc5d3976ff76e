import { mkdir, writeFile } from 'node:fs/promises'
import { dirname, extname } from 'node:path'
import type { z } from 'zod'
import { writeLossCurve } from '../analysis/loss-curve-file.ts'
import { lossCurve, measureTimestepLoss } from '../analysis/timestep-loss.ts'
import { partitionByLoss } from '../curriculum/partition.ts'
import { batches } from '../data/batches.ts'
import { setThreads } from '../device.ts'
import { DataError } from '../errors.ts'
import { integer, oneOf, text } from '../options.ts'
import { HEADS } from '../prediction/heads.ts'
import { latestCheckpoint, loadForSampling } from '../training/checkpoint.ts'
import { openImages, splitImages } from '../training/run.ts'
import type { RunConfig } from '../training/run-config.ts'
import { interruptible } from './interrupt.ts'
import { exactlyOne, helpText, parseOptions } from './options.ts'
import { streamProgress } from './progress.ts'
import { measuredPlot, slotTable } from './slot-report.ts'

const about = <T extends z.ZodType>(description: string, schema: T): T => schema.meta({ description }) as T

const SHAPE = {
  run: about('folder of a run, whose newest checkpoint is used', text().optional()),
  checkpoint: about('folder of a checkpoint of a run', text().optional()),
  weights: about('average or weights themselves', oneOf(['ema', 'raw']).default('ema')),
  count: about('images, the same with the same noise at every timestep', integer(1).default(128)),
  timestepStride: about('measure every so many timesteps', integer(1).default(20)),
  seed: about('keys images and noise', integer(0).default(1)),
  slots: about('slots of equal cumulative loss that are printed', integer(1).default(10)),
  head: about('the head whose loss is cut; the training loss by default', oneOf(HEADS).optional()),
  out: about(
    'JSON file to write, for train --loss-curve; a plot is put beside it',
    text().default('timestep-loss.json'),
  ),
  threads: about('threads of LibTorch', integer(1, 1024).optional()),
} satisfies Record<string, z.ZodType>

/** `trislot measure`. */
export async function measureCommand(argv: readonly string[]): Promise<number> {
  const call = 'trislot measure'
  const { options, given, wantsHelp } = parseOptions(call, argv, SHAPE)
  if (wantsHelp) {
    console.log(helpText('Measures the loss over the timesteps.', `${call} --run runs/digits`, SHAPE))
    return 0
  }
  exactlyOne(call, given, 'run', 'checkpoint')
  return interruptible(streamProgress(process.stderr, 'measuring'), 'stopping', async (progress, signal) => {
    if (options.threads !== undefined) await setThreads(options.threads)
    const checkpoint = options.checkpoint ?? (await latestCheckpoint(options.run as string))
    if (!checkpoint)
      throw new Error(`${call}: expected a checkpoint in ${options.run}, got none; train first`)
    const { unet, schedule, state } = await loadForSampling(checkpoint, { weights: options.weights })
    const config = (state.extra as { run?: RunConfig } | null)?.run
    if (!config)
      throw new DataError(`${call}: expected ${checkpoint} to be of a run, got none that names its data`)
    const { count, seed, timestepStride } = options
    const dataset = await openImages(config)
    const source = batches(splitImages(dataset, config).heldOut ?? dataset, {
      batchSize: count,
      seed,
      withLabels: config.classes !== 'none',
      prefetch: 0,
    })
    const { value: images } = await source.next()
    const measured = await measureTimestepLoss(unet, schedule, {
      images,
      timestepStride,
      seed,
      training: state.trainer,
      signal,
      onTimestep: (done, total) => progress.update(done, total),
    })
    progress.end()
    const curve = lossCurve(measured, schedule.timestepCount, options.head)
    const slots = partitionByLoss(curve, options.slots)
    await mkdir(dirname(options.out), { recursive: true })
    const loss = Float64Array.from(measured.t, (t) => curve[t] as number)
    await writeLossCurve(options.out, { ...measured, loss }, schedule.timestepCount)
    const plot = `${options.out.slice(0, options.out.length - extname(options.out).length)}.svg`
    await writeFile(plot, measuredPlot(measured, schedule.timestepCount, slots))
    console.log(slotTable(slots, curve))
    console.log(`${options.out}\n${plot}`)
    unet.dispose()
    schedule.dispose()
    return 0
  })
}
