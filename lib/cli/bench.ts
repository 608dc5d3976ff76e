import type { z } from 'zod'
import type { MemoryEstimate } from '../analysis/memory-estimate.ts'
import { freeMemory } from '../free-memory.ts'
import { parameterCount } from '../model/layers.ts'
import { UNet, type UNetOptions, unetConfig } from '../model/unet.ts'
import { flag, integer, text } from '../options.ts'
import { gigabytes, PROCESS_BYTES, stepMemory } from '../training/memory-fit.ts'
import { openImages, settleRuntime, trainerOptions } from '../training/run.ts'
import {
  networkOptions,
  RUN_SHAPE,
  type RunConfig,
  type RunOptions,
  runConfig,
} from '../training/run-config.ts'
import { measureSpeed, type TrainingSpeed } from '../training/speed.ts'
import { runSchedule } from '../training/timestep-options.ts'
import { Trainer } from '../training/trainer.ts'
import { parseWithConfig } from './config-option.ts'
import { interruptible } from './interrupt.ts'
import { helpText } from './options.ts'
import { streamProgress } from './progress.ts'
import { asUsage } from './usage.ts'

const about = <T extends z.ZodType>(description: string, schema: T): T =>
  schema.meta({ description, group: 'bench' }) as T

const SHAPE = {
  timedSteps: about('steps that are timed, after two that are not', integer(1).default(10)),
  estimate: about('estimate memory and train nothing', flag().default(false)),
  json: about('one JSON object instead of lines', flag().default(false)),
  config: about('config.json of a run, whose options others override', text().optional()),
  ...RUN_SHAPE,
  data: RUN_SHAPE.data.optional().meta({
    description: 'images whose size, channels and classes are taken; without it --size and --channels count',
    group: 'data',
  }),
  steps: RUN_SHAPE.steps.optional().meta({ description: 'of no effect here', group: 'training' }),
} satisfies Record<string, z.ZodType>

const NOTES = `Takes the options of trislot train, so that "train" in a command may become "bench". Without --data, images are
made up: 32x32 with 3 channels unless --size and --channels say otherwise.
The estimate is of tensors, for two-dimensional networks in fp32 and bf16 on the CPU.`

/** What is timed: a network and its images. */
interface Subject {
  readonly network: UNetOptions
  readonly size: readonly [number, number]
}

/** `trislot bench`: how fast and how large training with given options is on this machine. */
export async function benchCommand(argv: readonly string[]): Promise<number> {
  const call = 'trislot bench'
  const { options, given, wantsHelp } = await asUsage(() => parseWithConfig(call, argv, SHAPE))
  if (wantsHelp) {
    const usage = `${call} --preset digits --size 28 --channels 1 --batch-size 32`
    console.log(helpText('Times training steps, and estimates what fits into memory.', usage, SHAPE, NOTES))
    return 0
  }
  const { timedSteps, estimate: estimatesOnly, json, data } = options
  const isMadeUp = data === undefined
  // Without defaults, which a preset or a recipe may fill in otherwise.
  const { timedSteps: _, estimate: __, json: ___, config: ____, ...asked } = given
  const config = await asUsage(() =>
    runConfig({ ...asked, data: data ?? 'made-up', steps: options.steps ?? 1 } as RunOptions, call),
  )
  return interruptible(streamProgress(process.stderr, 'timing'), 'stopping', async (progress, signal) => {
    const subject = await asUsage(() => describeSubject(config, isMadeUp))
    const free = freeMemory()
    const estimate = await asUsage(() => stepMemory(subject.network, subject.size, config))
    const { fitting, fittingRecomputed } = whatFits(subject, config, free)
    const network = unetConfig(subject.network)
    const facts = {
      parameterCount: parameterCount(network),
      image: [network.imageChannels, ...subject.size],
      batchSize: config.batchSize,
      microBatch: config.microBatch,
      precision: config.precision,
      estimate,
      freeBytes: free,
      largestBatch: fitting,
      largestBatchWithRecompute: fittingRecomputed,
    }
    if (!json) say(facts)
    const isTooLarge = estimate.totalBytes + PROCESS_BYTES > free
    let speed: TrainingSpeed | undefined
    let threads: number | undefined
    if (!estimatesOnly && !isTooLarge) {
      threads = (await settleRuntime(config)).threads
      speed = await measure(subject, config, timedSteps, signal, (done, total) =>
        progress.update(done, total),
      )
      progress.end()
    }
    if (json) console.log(JSON.stringify({ ...facts, threads, ...speed }, undefined, 1))
    else if (speed) saySpeed(speed, threads as number)
    if (!isTooLarge || estimatesOnly) return 0
    progress.line(
      `${call}: expected a step to fit into ${gigabytes(free)} of free memory, got an estimate of ` +
        `${gigabytes(estimate.totalBytes + PROCESS_BYTES)}; use a smaller --batch-size, --micro-batch or --recompute`,
    )
    return 1
  })
}

async function describeSubject(config: RunConfig, isMadeUp: boolean): Promise<Subject> {
  if (isMadeUp) {
    const side = config.size ?? 32
    return { network: networkOptions(config, config.channels ?? 3, 0), size: [side, side] }
  }
  const { channels, height, width, classNames } = await openImages(config)
  const classCount = config.classes === 'none' ? 0 : (classNames?.length ?? 0)
  return { network: networkOptions(config, channels, classCount), size: [height, width] }
}

/** The largest batches, powers of two, whose estimate fits; 0 where not even one image does. */
function whatFits(subject: Subject, config: RunConfig, free: number) {
  const largest = (recompute: boolean): number => {
    const network = { ...subject.network, recompute }
    let batch = 0
    for (let next = 1; next <= 2 ** 16; next *= 2) {
      const { totalBytes } = stepMemory(network, subject.size, { ...config, microBatch: 0, batchSize: next })
      if (totalBytes + PROCESS_BYTES > free) break
      batch = next
    }
    return batch
  }
  return { fitting: largest(subject.network.recompute ?? false), fittingRecomputed: largest(true) }
}

async function measure(
  { network, size }: Subject,
  config: RunConfig,
  stepCount: number,
  signal: AbortSignal,
  onStep: (done: number, total: number) => void,
): Promise<TrainingSpeed> {
  const schedule = runSchedule(config)
  const unet = await UNet.create(network, { device: config.device })
  const trainer = await Trainer.create(unet, schedule, trainerOptions(config))
  try {
    return await measureSpeed(trainer, { batchSize: config.batchSize, size, stepCount, signal, onStep })
  } finally {
    for (const owner of [trainer, unet, schedule]) owner.dispose()
  }
}

function say(facts: {
  parameterCount: number
  image: readonly number[]
  batchSize: number
  microBatch: number
  precision: string
  estimate: MemoryEstimate
  freeBytes: number
  largestBatch: number
  largestBatchWithRecompute: number
}): void {
  const { parameterCount, image, batchSize, microBatch, precision, estimate, freeBytes } = facts
  const [channels, height, width] = image
  const micro = microBatch > 0 && microBatch < batchSize ? ` in parts of ${microBatch}` : ''
  console.log(
    `network   ${parameterCount.toLocaleString('en')} weights; images ${height}x${width}, ${channels} channels`,
  )
  console.log(`batch     ${batchSize}${micro}, ${precision}`)
  const { stateBytes, gradientBytes, activationBytes, workingBytes, totalBytes } = estimate
  const parts = `weights, optimizer, averages ${megabytes(stateBytes)}; gradients ${megabytes(gradientBytes)}; activations ${megabytes(activationBytes)}; at work ${megabytes(workingBytes)}`
  console.log(`estimate  ${megabytes(totalBytes)} of tensors at the peak (${parts})`)
  const { largestBatch, largestBatchWithRecompute } = facts
  console.log(
    `fits      batch ${largestBatch} in ${gigabytes(freeBytes)} of free memory; with --recompute ${largestBatchWithRecompute}`,
  )
}

function saySpeed(speed: TrainingSpeed, threads: number): void {
  const { stepMs, stepMsRange, imagesPerSecond, peakTensorBytes, peakProcessBytes } = speed
  const [fastest, slowest] = stepMsRange
  console.log(
    `speed     ${stepMs.toFixed(1)} ms a step (${fastest.toFixed(1)} to ${slowest.toFixed(1)}), ` +
      `${imagesPerSecond.toPrecision(4)} images/s, ${threads} threads`,
  )
  console.log(
    `memory    ${megabytes(peakTensorBytes)} of tensors at the peak; ${megabytes(peakProcessBytes)} the process`,
  )
}

const megabytes = (bytes: number): string => `${Math.round(bytes / 2 ** 20)} MiB`
