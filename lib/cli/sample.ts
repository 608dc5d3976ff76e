import { createHash } from 'node:crypto'
import { mkdir } from 'node:fs/promises'
import { dirname, extname, join } from 'node:path'
import type { z } from 'zod'
import { argumentError } from '../check.ts'
import { runtimeInfo, setThreads } from '../device.ts'
import { decimal, device, flag, integer, oneOf, positive, text } from '../options.ts'
import { parseCombine } from '../sampling/combine.ts'
import { drawSamplesNpz, drawSamplesPng } from '../sampling/sample-files.ts'
import { SOLVERS, type SolverSettings } from '../sampling/solver.ts'
import { SPACINGS, type StepSpacing } from '../schedule/noise-spacing.ts'
import type { ImageBatch } from '../tensor.ts'
import { latestCheckpoint, loadForSampling, type WeightsChoice } from '../training/checkpoint.ts'
import { drawImages, writeGrid } from '../training/preview.ts'
import type { RunImages } from '../training/run.ts'
import { lockRun } from '../training/run-lock.ts'
import { PRECISIONS, trainedVariance } from '../training/trainer.ts'
import { interruptible } from './interrupt.ts'
import { exactlyOne, helpText, parseOptions } from './options.ts'
import { streamProgress } from './progress.ts'
import { asUsage, UsageError } from './usage.ts'

const about = <T extends z.ZodType>(description: string, schema: T): T => schema.meta({ description }) as T

const SHAPE = {
  run: about('folder of a run, whose newest checkpoint is used', text().optional()),
  checkpoint: about('folder of a checkpoint', text().optional()),
  weights: about('average (ema), weights themselves (raw), or the rate of an average', text().default('ema')),
  count: about('images', integer(1).default(16)),
  batchSize: about('images at once; image k is the same whatever it is', integer(1).default(16)),
  seed: about('keys the noise: image k of a seed is always the same', integer(0).default(0)),
  solver: about('the sampler; ddim by default', oneOf(SOLVERS).optional()),
  steps: about('timesteps that are visited; 50 by default', integer(1).optional()),
  spacing: about('how they lie; uniform by default', oneOf(SPACINGS).optional()),
  rho: about('exponent of karras, 7 by default', positive().optional()),
  respacing: about(
    'timesteps that are visited: 250, ddim25, or counts of sections 10,15,20',
    text().optional(),
  ),
  eta: about('noise of ddim: 0 none, 1 as much as ddpm', decimal(0, 1).optional()),
  lowerOrderFinal: about('dpmpp2m: order 1 for the last step; by default below 15 steps', flag().optional()),
  ddpm: about('the same as --solver ddpm', flag().default(false)),
  combine: about(
    'what predicts xStart: signal, mean, a head, or weights such as xStart=0.3,v=0.7',
    text().default('signal'),
  ),
  class: about('class of all images, a number or a name; by default they take turns', text().optional()),
  format: about(
    'one picture, single pictures, or guided-diffusion’s npz',
    oneOf(['grid', 'png', 'npz']).default('grid'),
  ),
  out: about('file or folder; samples/ of the run by default', text().optional()),
  shardSize: about(
    'png, npz: images that are drawn and kept together; the batch size by default',
    integer(1).optional(),
  ),
  height: about('height, for checkpoints that were not made by a run', integer(1).optional()),
  width: about('width, as height', integer(1).optional()),
  precision: about('of convolutions and attention', oneOf(PRECISIONS).default('fp32')),
  device: about('cpu, cuda or cuda:N', device().default('cpu')),
  threads: about('threads of LibTorch', integer(1, 1024).optional()),
} satisfies Record<string, z.ZodType>

type Options = z.output<z.ZodObject<typeof SHAPE>>

const NOTES = `--format npz and png may be stopped at any time: the same command again goes on and ends with the same files.`

/** `trislot sample`. */
export async function sampleCommand(argv: readonly string[]): Promise<number> {
  const call = 'trislot sample'
  const { options, given, wantsHelp } = parseOptions(call, argv, SHAPE)
  if (wantsHelp) {
    console.log(helpText('Draws images from a trained network.', `${call} --run runs/digits`, SHAPE, NOTES))
    return 0
  }
  exactlyOne(call, given, 'run', 'checkpoint')
  const solver = chosenSolver(call, options)
  const isGrid = options.format === 'grid'
  const notice = isGrid ? 'stopping' : 'stopping; the same command again goes on from here'
  return interruptible(streamProgress(process.stderr, 'sampling'), notice, async (progress, signal) => {
    if (options.threads !== undefined) await setThreads(options.threads)
    const checkpoint = options.checkpoint ?? (await newest(options.run as string, progress.line))
    const weights = weightsChoice(call, options.weights)
    const { unet, schedule, state } = await loadForSampling(checkpoint, { weights, device: options.device })
    const { config } = unet
    const classCount = config?.classCount ?? 0
    const images = (state.extra as { images?: RunImages } | null)?.images
    const [height, width] = [options.height ?? images?.height, options.width ?? images?.width]
    if (height === undefined || width === undefined) {
      throw new UsageError(
        `${call}: expected --height and --width to be given, because ${checkpoint} does not hold them`,
      )
    }
    const chosen = chosenClass(call, options.class, classCount, images?.classNames ?? null)
    const respacing = chosenSteps(call, options, schedule.timestepCount)
    await asUsage(() => schedule.respace(respacing).dispose()) // refused before any work
    const { count, batchSize, seed, combine, precision } = options
    const image = [config?.imageChannels ?? 3, height, width] as const
    const drawing = {
      schedule,
      batchSize,
      image,
      seed,
      respacing,
      solver,
      combine: await asUsage(() => parseCombine(combine, schedule, unet.layout.heads)),
      variance: trainedVariance(state.trainer, unet),
      rescalesTimesteps: state.trainer.rescalesTimesteps ?? false,
      precision,
      classOf: classCount > 0 ? (k: number) => chosen ?? k % classCount : undefined,
      signal,
    }
    const draw = (first: number, n: number): Promise<ImageBatch> =>
      drawImages(unet, {
        ...drawing,
        first,
        count: n,
        onProgress: (done, total) =>
          progress.update(
            (first * total) / n + done,
            (count * total) / n,
            count > n ? `${first} of ${count} images in files` : '',
          ),
      })
    const folder = options.out ?? (options.run !== undefined ? join(options.run, 'samples') : 'samples')
    if (isGrid) {
      const isPng = extname(folder).toLowerCase() === '.png'
      const file = isPng ? folder : join(folder, `step-${state.step}-seed-${seed}.png`)
      await mkdir(dirname(file), { recursive: true })
      await writeGrid(file, await draw(0, count))
      progress.end()
      console.log(file)
    } else {
      const { threads = '' } = await runtimeInfo()
      const file = await drawFiles(options.format === 'npz' ? drawSamplesNpz : drawSamplesPng, {
        folder,
        count,
        image,
        shardSize: options.shardSize ?? batchSize,
        settings: {
          step: state.step,
          checkpoint: createHash('sha256').update(JSON.stringify(state.files)).digest('hex'),
          ...{ weights, seed, batchSize, solver, combine, precision, device: options.device },
          respacing: typeof respacing === 'string' ? respacing : { ...respacing },
          ...(chosen !== undefined && { class: chosen }),
          threads: Number(threads), // bits depend on them
        },
        draw,
        classOf: drawing.classOf,
      })
      progress.end()
      console.log(file)
    }
    unet.dispose()
    schedule.dispose()
    return 0
  })
}

/** Draws into a folder that no other process draws into meanwhile. */
async function drawFiles(
  draw: typeof drawSamplesNpz,
  options: Parameters<typeof drawSamplesNpz>[0],
): Promise<string> {
  await mkdir(options.folder, { recursive: true })
  const unlock = await lockRun(options.folder)
  try {
    return await draw(options)
  } finally {
    await unlock()
  }
}

/** The sampler that the options mean; DDIM by default. */
function chosenSolver(call: string, options: Options): SolverSettings {
  const { eta, lowerOrderFinal } = options
  if (options.ddpm && options.solver !== undefined && options.solver !== 'ddpm') {
    throw new UsageError(`${call}: expected one of --ddpm and --solver ${options.solver}, got both`)
  }
  const name = options.ddpm ? 'ddpm' : (options.solver ?? 'ddim')
  for (const [option, value, owner] of [
    ['--eta', eta, 'ddim'],
    ['--lower-order-final', lowerOrderFinal, 'dpmpp2m'],
  ] as const) {
    if (value !== undefined && name !== owner) {
      throw new UsageError(argumentError(call, option, `absent, which belongs to ${owner}`, value).message)
    }
  }
  if (name === 'ddim') return { name, eta: eta ?? 0 }
  return name === 'dpmpp2m' && lowerOrderFinal !== undefined ? { name, lowerOrderFinal } : { name }
}

/** Which timesteps the options mean; 50 evenly spread ones by default. */
function chosenSteps(call: string, options: Options, timestepCount: number): string | StepSpacing {
  const { respacing, steps, spacing, rho } = options
  if (respacing !== undefined) {
    for (const name of ['steps', 'spacing'] as const) {
      if (options[name] !== undefined) {
        throw new UsageError(`${call}: expected one of --${name} and --respacing, got both`)
      }
    }
    return respacing
  }
  return {
    spacing: spacing ?? 'uniform',
    steps: steps ?? Math.min(50, timestepCount),
    ...(rho !== undefined && { rho }),
  }
}

async function newest(run: string, line: (text: string) => void): Promise<string> {
  const found = await latestCheckpoint(run, { onUnreadable: (_, error) => line(`warning: ${error.message}`) })
  if (!found) throw new Error(`trislot sample: expected a checkpoint in ${run}, got none; train first`)
  return found
}

function weightsChoice(call: string, weights: string): WeightsChoice {
  if (weights === 'ema' || weights === 'raw') return weights
  const rate = Number(weights)
  if (weights.trim() !== '' && rate >= 0 && rate <= 1) return rate
  throw new UsageError(
    argumentError(call, '--weights', 'ema, raw or the rate of an average', weights).message,
  )
}

function chosenClass(
  call: string,
  text: string | undefined,
  classCount: number,
  names: readonly string[] | null,
): number | undefined {
  if (text === undefined) return undefined
  const byName = names?.indexOf(text) ?? -1
  const index = byName !== -1 ? byName : /^\d+$/.test(text) ? Number(text) : -1
  if (index >= 0 && index < classCount) return index
  const what =
    classCount === 0 ? 'absent, the network has no classes' : `a class in [0, ${classCount - 1}] or its name`
  throw new UsageError(argumentError(call, '--class', what, text).message)
}
