import { writeFile } from 'node:fs/promises'
import { dirname, extname, resolve } from 'node:path'
import type { z } from 'zod'
import { writeLossCurve } from '../analysis/loss-curve-file.ts'
import { lossCurve, measureTimestepLoss } from '../analysis/timestep-loss.ts'
import { argumentError, checkInteger } from '../check.ts'
import { partitionByLoss } from '../curriculum/partition.ts'
import { makeFolder } from '../folder.ts'
import { device, integer, oneOf, text } from '../options.ts'
import { HEADS, type Head } from '../prediction/heads.ts'
import { checkSeveralHeads, HEAD_STATISTICS_SHAPE, writeMeasuredHeads } from './head-statistics-option.ts'
import { decideOf, firstBatch, measuredImages, NOT_HELD_OUT, trainingOf } from './held-out-images.ts'
import { interruptible } from './interrupt.ts'
import { MODEL_SHAPE } from './model-options.ts'
import { IMAGES_SHAPE, imagesFor, networkForSampling, SOURCE_SHAPE } from './network-for-sampling.ts'
import { helpText, parseOptions } from './options.ts'
import { checkOutputFile } from './output.ts'
import { streamProgress } from './progress.ts'
import { applyRuntime, RUNTIME_SHAPE } from './runtime-options.ts'
import { measuredPlot, slotTable } from './slot-report.ts'
import { asUsage, UsageError } from './usage.ts'

const about = <T extends z.ZodType>(description: string, schema: T): T => schema.meta({ description }) as T

const SHAPE = {
  ...SOURCE_SHAPE,
  ...IMAGES_SHAPE,
  count: about('images, the same with the same noise at every timestep', integer(1).default(128)),
  timestepStride: about('measure every so many timesteps', integer(1).default(20)),
  seed: about('keys images and noise', integer(0).default(1)),
  slots: about('slots of equal cumulative loss that are printed', integer(1).default(10)),
  head: about('the head whose loss is cut; the training loss by default', oneOf(HEADS).optional()),
  out: about(
    'JSON file to write, for train --loss-curve; a plot is put beside it',
    text().default('timestep-loss.json'),
  ),
  ...HEAD_STATISTICS_SHAPE,
  device: about('cpu, cuda or cuda:N', device().default('cpu')),
  ...RUNTIME_SHAPE,
  ...MODEL_SHAPE,
} satisfies Record<string, z.ZodType>

/** `trislot measure`. */
export async function measureCommand(argv: readonly string[]): Promise<number> {
  const call = 'trislot measure'
  const { options, given, wantsHelp } = parseOptions(call, argv, SHAPE)
  if (wantsHelp) {
    console.log(helpText('Measures the loss over the timesteps.', `${call} --run runs/digits`, SHAPE))
    return 0
  }
  if (extname(options.out).toLowerCase() === '.svg') {
    throw new UsageError(
      argumentError(call, '--out', 'a JSON file, beside which the plot is put', options.out).message,
    )
  }
  const plot = `${options.out.slice(0, options.out.length - extname(options.out).length)}.svg`
  const { headStatistics } = options
  if (
    headStatistics !== undefined &&
    [options.out, plot].some((file) => resolve(file) === resolve(headStatistics))
  ) {
    const what = `another file than ${options.out} (--out) and ${plot}, the plot beside it`
    throw new UsageError(argumentError(call, '--head-statistics', what, headStatistics).message)
  }
  await checkOutputFile(call, '--out', options.out)
  await checkOutputFile(call, '--out', plot)
  if (headStatistics !== undefined) await checkOutputFile(call, '--head-statistics', headStatistics)
  return interruptible(streamProgress(process.stderr, 'measuring'), 'stopping', async (progress, signal) => {
    await applyRuntime(options)
    const network = await networkForSampling(call, options, given, progress.line)
    const { unet, schedule } = network
    const slotCount =
      given.slots === undefined ? Math.min(options.slots, schedule.timestepCount) : options.slots
    await asUsage(() => checkInteger(call, '--slots', slotCount, 1, schedule.timestepCount))
    checkHead(call, options.head, unet.layout.heads)
    checkSeveralHeads(call, headStatistics, network)
    const config = await imagesFor(call, options, network)
    const { count, seed, timestepStride } = options
    const { heldOut, isHeldOut } = await measuredImages(config)
    if (!isHeldOut) progress.line(NOT_HELD_OUT)
    const images = await firstBatch(heldOut, count, seed, config.classes !== 'none', progress.line)
    const shared = {
      images,
      seed,
      training: trainingOf(network),
      signal,
      onTimestep: (done: number, total: number) => progress.update(done, total),
    }
    const decide = decideOf(network)
    const measured = await measureTimestepLoss(unet, schedule, {
      ...{ ...shared, timestepStride },
      ...(decide && { decide }),
    })
    await writeMeasuredHeads(headStatistics, network, shared, progress.line)
    progress.end()
    const curve = lossCurve(measured, schedule.timestepCount, options.head)
    const slots = partitionByLoss(curve, slotCount)
    await makeFolder(dirname(options.out))
    const loss = Float64Array.from(measured.t, (t) => curve[t] as number)
    await writeLossCurve(options.out, { ...measured, loss }, schedule.timestepCount)
    await writeFile(plot, await measuredPlot(measured, schedule.timestepCount, slots))
    console.log(slotTable(slots, curve))
    console.log([options.out, plot, ...(headStatistics === undefined ? [] : [headStatistics])].join('\n'))
    unet.dispose()
    schedule.dispose()
    return 0
  })
}

/** A head that the network does not have is refused before anything is measured. */
function checkHead(call: string, head: Head | undefined, heads: readonly Head[]): void {
  if (head === undefined || heads.includes(head)) return
  const what = `a head of the network (${heads.join(', ')})`
  throw new UsageError(argumentError(call, '--head', what, head).message)
}
