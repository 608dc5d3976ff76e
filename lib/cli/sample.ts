import { mkdir } from 'node:fs/promises'
import { dirname, extname, join } from 'node:path'
import type { z } from 'zod'
import { argumentError } from '../check.ts'
import { writeSamplesNpz } from '../data/npz.ts'
import { setThreads } from '../device.ts'
import { decimal, device, flag, integer, oneOf, text } from '../options.ts'
import { onePicture } from '../report/grid.ts'
import { writePng } from '../report/png.ts'
import { parseCombine } from '../sampling/combine.ts'
import { latestCheckpoint, loadForSampling, type WeightsChoice } from '../training/checkpoint.ts'
import { drawImages, writeGrid } from '../training/preview.ts'
import type { RunImages } from '../training/run.ts'
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
  steps: about('timesteps that are visited, evenly spread', integer(1).optional()),
  respacing: about(
    'timesteps that are visited: 250, ddim25, or counts of sections 10,15,20',
    text().optional(),
  ),
  eta: about('noise of DDIM: 0 none, 1 as much as DDPM', decimal(0, 1).default(0)),
  ddpm: about('the ancestral sampler of DDPM instead of DDIM', flag().default(false)),
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
  height: about('height, for checkpoints that were not made by a run', integer(1).optional()),
  width: about('width, as height', integer(1).optional()),
  precision: about('of convolutions and attention', oneOf(PRECISIONS).default('fp32')),
  device: about('cpu, cuda or cuda:N', device().default('cpu')),
  threads: about('threads of LibTorch', integer(1, 1024).optional()),
} satisfies Record<string, z.ZodType>

/** `trislot sample`. */
export async function sampleCommand(argv: readonly string[]): Promise<number> {
  const call = 'trislot sample'
  const { options, given, wantsHelp } = parseOptions(call, argv, SHAPE)
  if (wantsHelp) {
    console.log(helpText('Draws images from a trained network.', `${call} --run runs/digits`, SHAPE))
    return 0
  }
  exactlyOne(call, given, 'run', 'checkpoint')
  if (given.steps !== undefined && given.respacing !== undefined) {
    throw new UsageError(`${call}: expected one of --steps and --respacing, got both`)
  }
  return interruptible(streamProgress(process.stderr, 'sampling'), 'stopping', async (progress, signal) => {
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
    const respacing = options.respacing ?? String(options.steps ?? Math.min(50, schedule.timestepCount))
    const batch = await drawImages(unet, {
      schedule,
      count: options.count,
      batchSize: options.batchSize,
      image: [config?.imageChannels ?? 3, height, width],
      seed: options.seed,
      respacing,
      eta: options.ddpm ? undefined : options.eta,
      combine: await asUsage(() => parseCombine(options.combine, schedule, unet.layout.heads)),
      variance: trainedVariance(state.trainer, unet),
      rescalesTimesteps: state.trainer.rescalesTimesteps ?? false,
      precision: options.precision,
      classOf: classCount > 0 ? (k) => chosen ?? k % classCount : undefined,
      signal,
      onProgress: (done, total) => progress.update(done, total),
    })
    progress.end()
    const folder = options.run !== undefined ? join(options.run, 'samples') : 'samples'
    console.log(
      await write(batch, options.format, options.out ?? folder, `step-${state.step}-seed-${options.seed}`),
    )
    unet.dispose()
    schedule.dispose()
    return 0
  })
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

/** Writes in the chosen format and returns where. */
async function write(
  batch: Awaited<ReturnType<typeof drawImages>>,
  format: 'grid' | 'png' | 'npz',
  out: string,
  name: string,
): Promise<string> {
  if (format === 'grid') {
    const file = extname(out).toLowerCase() === '.png' ? out : join(out, `${name}.png`)
    await mkdir(dirname(file), { recursive: true })
    await writeGrid(file, batch)
    return file
  }
  await mkdir(out, { recursive: true })
  if (format === 'npz') return writeSamplesNpz(out, batch)
  for (let k = 0; k < batch.shape[0]; k++) {
    await writePng(join(out, `${String(k).padStart(5, '0')}.png`), onePicture(batch, k))
  }
  return out
}
