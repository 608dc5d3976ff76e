// The main job in small: measure the loss over timesteps, cut slots of equal loss, train three heads slot by slot, sample.
import { rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { z } from 'zod'
import { writeLossCurve } from '../analysis/loss-curve-file.ts'
import { lossCurve, measureTimestepLoss } from '../analysis/timestep-loss.ts'
import { argumentError } from '../check.ts'
import { partitionByLoss } from '../curriculum/partition.ts'
import { roundRobin } from '../curriculum/plan.ts'
import { batches } from '../data/batches.ts'
import { holdOut } from '../data/dataset.ts'
import { digits } from '../data/digits.ts'
import { runtimeInfo } from '../device.ts'
import { exists, makeFolder } from '../folder.ts'
import { NETWORK_PRESETS } from '../model/presets.ts'
import { UNet } from '../model/unet.ts'
import { flag, integer, text } from '../options.ts'
import { writeRunPlots } from '../report/run-plots.ts'
import { combineBySignal } from '../sampling/combine.ts'
import { NoiseSchedule } from '../schedule/noise-schedule.ts'
import type { TimestepSampler } from '../timesteps/sampler.ts'
import { slotSampler } from '../timesteps/slots.ts'
import { stratifiedSampler } from '../timesteps/stratified.ts'
import { saveCheckpoint } from '../training/checkpoint.ts'
import { learningRate } from '../training/learning-rate.ts'
import { train } from '../training/loop.ts'
import { drawImages, writeGrid } from '../training/preview.ts'
import { lockRun } from '../training/run-lock.ts'
import { JsonLines, type StatsRow, statsRow } from '../training/run-stats.ts'
import { Trainer } from '../training/trainer.ts'
import { interruptible } from './interrupt.ts'
import { helpText, parseOptions } from './options.ts'
import { duration, type Progress, streamProgress } from './progress.ts'
import { applyRuntime, RUNTIME_SHAPE } from './runtime-options.ts'
import { measuredPlot, slotTable } from './slot-report.ts'
import { UsageError } from './usage.ts'

const SHAPE = {
  short: flag().default(false).meta({ description: 'the same in under a minute; its digits are blurred' }),
  out: text().default('runs/quickstart').meta({ description: 'folder for pictures, plots and checkpoint' }),
  seed: integer(0).default(0).meta({ description: 'keys weights, noise, timesteps and order' }),
  ...RUNTIME_SHAPE,
} satisfies Record<string, z.ZodType>

/** Sizes of the full quickstart and of the short one. */
const SIZES = {
  full: { uniformSteps: 300, slotSteps: 1100, probeCount: 50, stride: 20, rows: 6, respacing: '50' },
  short: { uniformSteps: 40, slotSteps: 80, probeCount: 20, stride: 50, rows: 2, respacing: '25' },
} as const

const BATCH_SIZE = 32
const SLOT_COUNT = 10
const LEARNING_RATE = 1e-3
const EMA_RATE = 0.99

/** `trislot quickstart`. */
export async function quickstartCommand(argv: readonly string[]): Promise<number> {
  const call = 'trislot quickstart'
  const { options, wantsHelp } = parseOptions(call, argv, SHAPE)
  if (wantsHelp) {
    console.log(
      helpText('Trains on handwritten digits with slots and three heads, and draws some.', call, SHAPE),
    )
    return 0
  }
  const { out } = options
  // A run of trislot train is not this command's to overwrite.
  if (await exists(join(out, 'config.json'))) {
    throw new UsageError(argumentError(call, '--out', 'a folder without a run of trislot train', out).message)
  }
  await makeFolder(out)
  const unlock = await lockRun(out)
  try {
    return await interruptible(
      streamProgress(process.stderr),
      'stopping after this step; Ctrl-C again leaves at once',
      (progress, signal) => quickstart(options, progress, signal),
    )
  } finally {
    await unlock()
  }
}

/** The five parts, into a folder that is this process's alone. */
async function quickstart(
  options: z.output<z.ZodObject<typeof SHAPE>>,
  progress: Progress,
  signal: AbortSignal,
): Promise<number> {
  const { out, seed, short } = options
  const size = short ? SIZES.short : SIZES.full
  const began = performance.now()
  await applyRuntime(options)
  const dataset = await digits()
  const classNames = dataset.classNames ?? []
  const classCount = classNames.length
  const { train: images, heldOut } = holdOut(dataset, size.probeCount, seed)
  const schedule = NoiseSchedule.create({ name: 'cosine', timestepCount: 1000 })
  const unet = await UNet.create({ ...NETWORK_PRESETS.digits, imageChannels: 1, classCount }, { seed })
  const training = {
    seed,
    loss: { choose: 'mean', compare: 'own', space: 'own' },
    emaRates: [EMA_RATE],
  } as const
  const trainer = await Trainer.create(unet, schedule, training)
  const average = await trainer.averaged()
  await rm(join(out, 'stats.jsonl'), { force: true })
  const { lines: stats, rows } = await JsonLines.open<StatsRow>(join(out, 'stats.jsonl'), 0)
  const threads = (await runtimeInfo()).threads
  progress.line(
    `${images.length} digits of MNIST (CC BY-SA 3.0), ${unet.parameterCount} weights, heads ${unet.layout.heads.join(', ')}, ${threads} threads`,
  )

  const totalSteps = size.uniformSteps + size.slotSteps
  const lr = learningRate({ kind: 'cosine', base: LEARNING_RATE, warmupSteps: 30, totalSteps })
  const trainUntil = async (
    stepCount: number,
    sampler: TimestepSampler,
    slotOf?: (step: number) => readonly number[],
  ): Promise<void> => {
    const source = batches(images, {
      batchSize: BATCH_SIZE,
      seed,
      firstStep: trainer.step,
      withLabels: true,
    })
    for await (const report of train({ trainer, sampler, batches: source, lr, stepCount, signal })) {
      const row = statsRow(report, unet.layout.heads, slotOf ? { slot: slotOf(report.step) } : {})
      rows.push(row)
      await stats.write(row)
      const speed = ((1000 * BATCH_SIZE) / report.stepMs).toPrecision(3)
      progress.update(report.step + 1, totalSteps, `loss ${report.loss.toPrecision(3)}  ${speed} images/s`)
    }
    signal.throwIfAborted()
  }

  progress.line(`1. ${size.uniformSteps} steps over all timesteps`)
  await trainUntil(size.uniformSteps, stratifiedSampler({ timestepCount: schedule.timestepCount, seed }))

  progress.line('2. the loss at each timestep, on digits held out')
  const probe = batches(heldOut, { batchSize: size.probeCount, seed, prefetch: 0, withLabels: true })
  const { value: probeImages } = await probe.next()
  const measured = await measureTimestepLoss(average, schedule, {
    images: probeImages,
    timestepStride: size.stride,
    seed,
    training,
    signal,
  })
  const curve = lossCurve(measured, schedule.timestepCount)
  const slots = partitionByLoss(curve, SLOT_COUNT)
  await writeLossCurve(join(out, 'timestep-loss.json'), measured, schedule.timestepCount)
  await writeFile(join(out, 'timestep-loss.svg'), await measuredPlot(measured, schedule.timestepCount, slots))
  progress.line(`3. ${SLOT_COUNT} slots of equal cumulative loss\n${slotTable(slots, curve)}`)

  progress.line(`4. ${size.slotSteps} steps, the slots in turn`)
  const plan = roundRobin(SLOT_COUNT)
  await trainUntil(totalSteps, slotSampler({ slots, plan, seed }), plan.openAt)
  await stats.close()

  progress.line(
    `5. ${size.rows} of each digit in ${size.respacing} steps of DDIM, from the average of the weights`,
  )
  const drawn = await drawImages(average, {
    schedule,
    count: size.rows * classCount,
    image: [1, 28, 28],
    batchSize: 32,
    seed,
    respacing: size.respacing,
    eta: 0,
    combine: combineBySignal(schedule, unet.layout.heads),
    classOf: (k) => k % classCount,
    signal,
  })
  await writeGrid(join(out, 'grid.png'), drawn, { columns: classCount })
  await writeRunPlots(out, rows, 'quickstart')
  const checkpoint = await saveCheckpoint(trainer, out, {
    imagesSeen: totalSteps * BATCH_SIZE,
    extra: { images: { channels: 1, height: 28, width: 28, classNames } },
    keep: 1,
  })
  progress.end()
  console.log(`
Done in ${duration(performance.now() - began)} minutes.
  digits       ${join(out, 'grid.png')}
  loss         ${join(out, 'loss.svg')}, ${join(out, 'heads.svg')}
  timesteps    ${join(out, 'timestep-loss.svg')}
  checkpoint   ${checkpoint}

More digits:   npx trislot sample --run ${out} --count 30 --seed 1`)
  return 0
}
