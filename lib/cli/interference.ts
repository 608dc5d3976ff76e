import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { z } from 'zod'
import { gradientConflict } from '../analysis/gradient-conflict.ts'
import { type Interference, interference } from '../analysis/interference.ts'
import { interferenceInstrument } from '../analysis/interference-instrument.ts'
import { argumentError } from '../check.ts'
import { UNet, type UNetConfig } from '../model/unet.ts'
import { decimal, flag, integer, numbers, oneOf, positive } from '../options.ts'
import type { RunConfig } from '../training/run-config.ts'
import { Trainer } from '../training/trainer.ts'
import { decideOf, firstBatch, measuredImages, trainingOf } from './held-out-images.ts'
import { commandOf, INSTRUMENT_SHAPE, printInstrument } from './instrument-options.ts'
import { interruptible } from './interrupt.ts'
import { imagesFor, networkForSampling, type SamplingNetwork } from './network-for-sampling.ts'
import { helpText, kebab, parseOptions } from './options.ts'
import { checkInstrumentOutput } from './output.ts'
import { streamProgress } from './progress.ts'
import { applyRuntime } from './runtime-options.ts'
import { instrumentSlots, SLOTS_SHAPE } from './slots-for-instrument.ts'
import { UsageError } from './usage.ts'

const about = <T extends z.ZodType>(description: string, schema: T): T => schema.meta({ description }) as T

const SHAPE = {
  ...INSTRUMENT_SHAPE,
  ...SLOTS_SHAPE,
  training: about('train copies on slots and measure the others', flag().default(true)),
  steps: about('steps of each copy', integer(1).default(60)),
  lr: about('learning rate of the copies; the run’s, else 1e-4', positive().optional()),
  batchSize: about('images a step of the copies', integer(1).default(16)),
  seeds: about('seeds, one repetition each', numbers('a list of seeds').default([1, 2, 3])),
  optimizer: about(
    'continued: weights and Adam’s averages as the run left them; fresh: --weights, and Adam from nothing; continued where it can be',
    oneOf(['continued', 'fresh']).optional(),
  ),
  count: about('held-out images that are measured', integer(1).default(64)),
  timestepsPerSlot: about('timesteps measured in each slot', integer(1).default(4)),
  sigmaData: about('deviation of the pixels, for space F', decimal(1e-6).default(0.5)),
  gradients: about('compare the gradients of slots', flag().default(true)),
  draws: about('independent batches of each slot for them', integer(4).default(8)),
  drawSize: about('images in each', integer(1).default(8)),
  memoryMb: about('MiB of gradients that may be held; fewer cost time', integer(1).default(512)),
} satisfies Record<string, z.ZodType>

/** Options that only the copies read, and those that only the gradients do. */
const OF_TRAINING = ['steps', 'lr', 'batchSize', 'seeds', 'optimizer', 'count', 'timestepsPerSlot', 'sigmaData'] as const // biome-ignore format: one list
const OF_GRADIENTS = ['draws', 'drawSize', 'memoryMb'] as const

/** `trislot interference`. */
export async function interferenceCommand(argv: readonly string[]): Promise<number> {
  const call = 'trislot interference'
  const { options, given, wantsHelp } = parseOptions(call, argv, SHAPE)
  if (wantsHelp) {
    const what =
      'Trains copies of a network on one slot of timesteps each and measures the others; compares gradients.'
    console.log(helpText(what, `${call} --run runs/digits`, SHAPE))
    return 0
  }
  refuseUseless(call, options, given)
  await checkInstrumentOutput(call, options)
  return interruptible(
    streamProgress(process.stderr, 'interference'),
    'stopping',
    async (progress, signal) => {
      await applyRuntime(options)
      const network = await networkForSampling(call, options, given, progress.line)
      const { unet, schedule, state } = network
      const optimizer = options.optimizer ?? (state ? 'continued' : 'fresh')
      if (optimizer === 'continued' && !state) {
        throw new UsageError(
          `${call}: expected --optimizer to be fresh for a file of weights, got "continued"`,
        )
      }
      const config = await imagesFor(call, options, network)
      const { heldOut, train, isHeldOut } = await measuredImages(config)
      const { seed, seeds, steps, batchSize, timestepsPerSlot, sigmaData, draws, drawSize, memoryMb, count } =
        options
      const withLabels = config.classes !== 'none'
      const { slots, source } = await instrumentSlots(call, options, given, network, heldOut.height)
      const lr = options.lr ?? (state?.extra as { run?: RunConfig } | null)?.run?.lr ?? 1e-4
      const shared = { signal, onProgress: (done: number, total: number) => progress.update(done, total) }
      const [training, decide] = [trainingOf(network), decideOf(network)]
      let found: Interference | undefined
      if (options.training) {
        const { copy, release } = await copies(network, optimizer)
        try {
          found = await interference({
            ...{
              slots,
              copy,
              train,
              seeds,
              steps,
              lr,
              batchSize,
              timestepsPerSlot,
              sigmaData,
              decide,
              ...shared,
            },
            heldOut: await firstBatch(heldOut, count, seed, withLabels, progress.line),
          })
        } finally {
          await release()
        }
      }
      const gradients = options.gradients
        ? await gradientConflict(unet, schedule, {
            ...{ slots, images: train, withLabels, draws, batchSize: drawSize, seed, training, decide },
            memoryBytes: memoryMb * 2 ** 20,
            ...shared,
          })
        : undefined
      progress.end()
      const notes = [
        `Slots: ${source}.`,
        ...(found
          ? [`Copies: ${optimizer === 'fresh' ? 'fresh optimizer' : 'weights and optimizer continued'}.`]
          : []),
      ]
      const parts = { ...(found && { interference: found }), ...(gradients && { gradients }), notes }
      await printInstrument(
        interferenceInstrument(parts, commandOf(call, given)),
        options,
        network,
        isHeldOut,
      )
      unet.dispose()
      schedule.dispose()
      return 0
    },
  )
}

/** Options of the part that is left out, both parts left out, and seeds that would be counted twice. */
function refuseUseless(
  call: string,
  { training, gradients, seeds }: z.output<z.ZodObject<typeof SHAPE>>,
  given: Record<string, unknown>,
): void {
  const refuse = (name: string, what: string, got: unknown): never => {
    throw new UsageError(argumentError(call, name, what, got).message)
  }
  if (!training && !gradients) refuse('--no-training and --no-gradients', 'given one at a time', 'both')
  for (const [isOn, without, keys] of [
    [training, '--no-training', OF_TRAINING],
    [gradients, '--no-gradients', OF_GRADIENTS],
  ] as const) {
    const useless = isOn ? undefined : keys.find((key) => given[key] !== undefined)
    if (useless) refuse(`--${kebab(useless)}`, `absent with ${without}`, given[useless])
  }
  const twice = seeds.find((seed, i) => seeds.indexOf(seed) !== i)
  if (twice !== undefined) refuse('--seeds', 'a list without repetitions', seeds)
}

/** Makes trainers over copies of a network; `release` when no more are needed. */
async function copies(
  network: SamplingNetwork,
  optimizer: 'continued' | 'fresh',
): Promise<{ copy: (seed: number) => Promise<Trainer>; release: () => Promise<void> }> {
  const { unet, schedule, state, path } = network
  if (state && optimizer === 'continued') {
    const copy = async (seed: number): Promise<Trainer> => {
      const weights = await UNet.create(state.network, { device: unet.device })
      const trainer = await Trainer.create(weights, schedule, { ...state.trainer, seed })
      await trainer.loadTensors(path)
      return trainer
    }
    return { copy, release: async () => {} }
  }
  const folder = await mkdtemp(join(tmpdir(), 'trislot-copy-'))
  const file = join(folder, 'weights.safetensors')
  await unet.saveWeights(file)
  return {
    copy: async (seed) => {
      const weights = await UNet.create(unet.config as UNetConfig, { device: unet.device })
      await weights.loadWeights(file)
      return Trainer.create(weights, schedule, { ...trainingOf(network), seed, emaRates: [] })
    },
    release: () => rm(folder, { recursive: true }),
  }
}
