import { stat } from 'node:fs/promises'
import { dirname, extname, join } from 'node:path'
import type { z } from 'zod'
import { argumentError } from '../check.ts'
import { type LowResImages, lowResImages } from '../data/low-res-images.ts'
import { PRECISIONS, runtimeInfo } from '../device.ts'
import { makeFolder } from '../folder.ts'
import type { UNetConfig } from '../model/unet.ts'
import { decimal, device, flag, integer, numbers, oneOf, positive, text } from '../options.ts'
import { drawSamplesNpz, drawSamplesPng } from '../sampling/sample-files.ts'
import { SOLVERS, type SolverSettings } from '../sampling/solver.ts'
import type { NoiseSchedule } from '../schedule/noise-schedule.ts'
import { SPACINGS, type StepSpacing } from '../schedule/noise-spacing.ts'
import type { ImageBatch } from '../tensor.ts'
import { type OpenedClassifier, openClassifier } from '../training/classifier-checkpoint.ts'
import { drawImages, sliceImages, writeGrid, writeSuperResolution } from '../training/preview.ts'
import { lockRun } from '../training/run-lock.ts'
import { interruptible } from './interrupt.ts'
import { MODEL_SHAPE } from './model-options.ts'
import { COMBINE_SHAPE, combineFor, hashOf, networkForSampling } from './network-for-sampling.ts'
import { helpText, kebab, parseOptions } from './options.ts'
import { checkOutputFile, checkOutputFolder } from './output.ts'
import { streamProgress } from './progress.ts'
import { applyRuntime, RUNTIME_SHAPE } from './runtime-options.ts'
import { asUsage, UsageError } from './usage.ts'

const about = <T extends z.ZodType>(description: string, schema: T): T => schema.meta({ description }) as T

const SHAPE = {
  run: about('folder of a run, whose newest checkpoint is used', text().optional()),
  checkpoint: about('folder of a checkpoint', text().optional()),
  weights: about(
    'average (ema), weights themselves (raw), or the rate of an average; without --run and --checkpoint a .pt or .safetensors file',
    text().default('ema'),
  ),
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
  lowerOrderFinal: about(
    'dpmpp2m: order 1 for the step onto the lowest noise; on unless --no-lower-order-final, which 5 to 10 steps want, with --spacing trailing',
    flag().optional(),
  ),
  ddpm: about('the same as --solver ddpm', flag().default(false)),
  ...COMBINE_SHAPE,
  class: about('class of all images, a number or a name; by default they take turns', text().optional()),
  lowRes: about(
    'super-resolution: what is made larger, a picture, a folder, a .npz file or another data set; larger images are shrunk as in training',
    text().optional(),
  ),
  guidanceScale: about(
    'classifier-free guidance, for training with --label-dropout: 1 none, more leads further towards the class, 0 draws without classes',
    decimal(0).default(1),
  ),
  guidanceInterval: about(
    'timesteps BEGIN,END between which guidance-scale holds; elsewhere it is 1',
    numbers('two timesteps BEGIN,END').optional(),
  ),
  classifier: about(
    'classifier guidance: the run of train-classifier, a checkpoint of it, or a file of weights',
    text().optional(),
  ),
  classifierScale: about('factor on the classifier’s gradient', decimal(0).default(1)),
  clipGuided: about(
    'clip predictions after classifier guidance with DDIM and the solvers too, as the original does not; needed for few steps with the cosine schedule',
    flag().default(false),
  ),
  classifierConfig: about(
    'for a classifier’s file of weights: JSON with guided-diffusion’s options, FILE.json by default, or a published classifier by name',
    text().optional(),
  ),
  format: about(
    'one picture, single pictures, or guided-diffusion’s npz',
    oneOf(['grid', 'png', 'npz']).default('grid'),
  ),
  out: about('file or folder; samples/ of the run by default', text().optional()),
  shardSize: about(
    'png, npz: images that are drawn and kept together; the batch size by default',
    integer(1).optional(),
  ),
  height: about('height of the images; that of the images of the run by default', integer(1).optional()),
  width: about('width, as height', integer(1).optional()),
  precision: about('of convolutions and attention', oneOf(PRECISIONS).default('fp32')),
  device: about('cpu, cuda or cuda:N', device().default('cpu')),
  ...RUNTIME_SHAPE,
  ...MODEL_SHAPE,
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
  const solver = chosenSolver(call, options)
  const isGrid = options.format === 'grid'
  for (const [name, isUseless, owner] of [
    ['classifierScale', given.classifier === undefined, '--classifier'],
    ['classifierConfig', given.classifier === undefined, '--classifier'],
    ['clipGuided', given.classifier === undefined, '--classifier'],
    ['guidanceInterval', options.guidanceScale === 1, 'a --guidance-scale other than 1'],
    ['shardSize', isGrid, '--format png and npz'],
  ] as const) {
    if (given[name] === undefined || !isUseless) continue
    throw new UsageError(
      argumentError(call, `--${kebab(name)}`, `absent, it belongs to ${owner}`, given[name]).message,
    )
  }
  if (options.run !== undefined && (await stat(options.run).catch(() => undefined))?.isFile()) {
    const hint = 'a file of weights is given as --weights'
    throw new UsageError(argumentError(call, '--run', 'a folder of a run', options.run, { hint }).message)
  }
  const folder = options.out ?? (options.run !== undefined ? join(options.run, 'samples') : 'samples')
  const isPng = isGrid && extname(folder).toLowerCase() === '.png'
  await (isPng ? checkOutputFile : checkOutputFolder)(call, '--out', folder)
  const notice = isGrid ? 'stopping' : 'stopping; the same command again goes on from here'
  return interruptible(streamProgress(process.stderr, 'sampling'), notice, async (progress, signal) => {
    await applyRuntime(options)
    const network = await networkForSampling(call, options, given, progress.line)
    const { unet, schedule, images } = network
    const { config } = unet
    const classCount = config?.classCount ?? 0
    const [height, width] = [options.height ?? images?.height, options.width ?? images?.width]
    if (height === undefined || width === undefined) {
      throw new UsageError(
        `${call}: expected --height and --width to be given, because ${network.path} does not hold them`,
      )
    }
    const respacing = chosenSteps(call, options, schedule.timestepCount)
    const steps = await asUsage(() => schedule.respace(respacing)) // refused before any work
    if (steps.timestepCount === 1 && steps.tables.timestepMap[0] === 0) {
      progress.line(
        'warning: the only step is at the cleanest timestep, where noise says nothing of an image; --spacing trailing takes the noisiest',
      )
    }
    steps.dispose()
    const { batchSize, seed, precision, guidanceScale, classifierScale, clipGuided } = options
    const words = options.combine ?? network.combine
    const combine = await combineFor(words, network, progress.line)
    const factor = images?.lowResFactor
    const small = await lowResOf(call, config, options, { size: [height, width], factor })
    const opened =
      options.classifier === undefined
        ? undefined
        : await openClassifier(
            options.classifier,
            options.classifierConfig,
            options.device,
            (_, { message }) => progress.line(`warning: ${message}`),
          )
    if (opened) checkClassifier(call, opened, schedule, classCount)
    const classifier = opened?.classifier
    const classes = classCount || (classifier?.config.classCount ?? 0)
    const chosen = chosenClass(call, options.class, classes, images?.classNames ?? opened?.classNames ?? null)
    const classOf = classes > 0 ? (k: number) => chosen ?? small?.labels?.[k] ?? k % classes : undefined
    const count = small ? small.lowRes.shape[0] : options.count
    if (small && classCount > 0 && chosen === undefined && !small.labels) {
      const what = `given, because ${options.lowRes} has no classes`
      throw new UsageError(argumentError(call, '--class', what, undefined).message)
    }
    if (small) progress.line(`${count} of ${small.available} images of ${options.lowRes}`)
    const image = [config?.imageChannels ?? 3, height, width] as const
    const drawing = {
      ...{ schedule, batchSize, image, seed, respacing, solver, combine, precision, classOf, guidanceScale },
      rescalesTimesteps: network.rescalesTimesteps,
      variance: network.variance,
      guidanceInterval: interval(call, options.guidanceInterval, schedule.timestepCount),
      classifier: classifier && { classifier, scale: classifierScale, clip: clipGuided },
      signal,
    }
    const draw = (first: number, n: number): Promise<ImageBatch> =>
      drawImages(unet, {
        ...drawing,
        first,
        count: n,
        lowRes: small && sliceImages(small.lowRes, first, n),
        onProgress: (done, total) =>
          progress.update(
            (first * total) / n + done,
            (count * total) / n,
            count > n ? `${first} of ${count} images in files` : '',
          ),
      })
    if (isGrid) {
      const file = isPng ? folder : join(folder, `${network.name}-seed-${seed}.png`)
      await makeFolder(dirname(file))
      const drawn = await draw(0, count)
      if (small) await writeSuperResolution(file, small.lowRes, drawn, small.original)
      else await writeGrid(file, drawn)
      progress.end()
      console.log(file)
    } else {
      const { threads = '', kernels = '' } = await runtimeInfo()
      const { guidanceInterval, device } = options
      const file = await drawFiles(options.format === 'npz' ? drawSamplesNpz : drawSamplesPng, {
        folder,
        count,
        image,
        shardSize: options.shardSize ?? batchSize,
        settings: {
          network: network.name,
          identity: await network.identity(),
          ...{ seed, batchSize, solver, combine: words, precision, device, guidanceScale },
          respacing: typeof respacing === 'string' ? respacing : { ...respacing },
          ...(typeof combine === 'function' &&
            words !== 'signal' && {
              combineAt: hashOf(Array.from(schedule.tables.timestepMap, combine)),
            }),
          ...(solver.name === 'ddpm' && { variance: network.variance }),
          ...(guidanceInterval && { guidanceInterval: [...guidanceInterval] }),
          ...(opened && { classifier: await opened.identity(), classifierScale, clipGuided }),
          ...(small && {
            lowRes: hashOf(small.lowRes.shape, small.lowRes.data, small.labels ?? new Int32Array()),
          }),
          ...(chosen !== undefined && { class: chosen }),
          ...{ threads: Number(threads), kernels }, // bits depend on them
        },
        draw,
        classOf,
      })
      progress.end()
      console.log(file)
    }
    classifier?.dispose()
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
  await makeFolder(options.folder)
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
    for (const name of ['steps', 'spacing', 'rho'] as const) {
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

function interval(
  call: string,
  given: readonly number[] | undefined,
  timestepCount: number,
): readonly [begin: number, end: number] | undefined {
  if (given === undefined) return undefined
  const [begin = -1, end = -1] = given
  if (given.length === 2 && begin >= 0 && end >= begin && end <= timestepCount) return [begin, end]
  const what = `two timesteps BEGIN,END, 0 <= BEGIN <= END <= ${timestepCount}`
  throw new UsageError(argumentError(call, '--guidance-interval', what, given).message)
}

/** A classifier can only guide a network of its own noise schedule and classes. */
function checkClassifier(
  call: string,
  { classifier, schedule: trained }: OpenedClassifier,
  schedule: NoiseSchedule,
  classCount: number,
): void {
  const { beta } = schedule.tables
  const isSame =
    !trained || (trained.betas.length === beta.length && trained.betas.every((b, t) => b === beta[t]))
  if (!isSame) {
    const shown = ({ name, timestepCount }: { name: string; timestepCount: number }): string =>
      `${name} with ${timestepCount} timesteps`
    const what = `trained with the noise schedule of the network, ${shown(schedule.options)}`
    throw new UsageError(`${call}: expected the classifier to be ${what}, got ${shown(trained)}`)
  }
  const { classCount: count } = classifier.config
  if (classCount > 0 && count !== classCount) {
    throw new UsageError(
      `${call}: expected the classifier to have ${classCount} classes, as the network, got ${count}`,
    )
  }
}

/** What a super-resolution network makes larger; undefined for other networks. */
async function lowResOf(
  call: string,
  config: UNetConfig | undefined,
  options: { readonly lowRes?: string | undefined; readonly count: number },
  made: { readonly size: readonly [height: number, width: number]; readonly factor?: number | undefined },
): Promise<LowResImages | undefined> {
  const isSuperResolution = config?.lowRes ?? false
  if (isSuperResolution !== (options.lowRes !== undefined)) {
    const what = isSuperResolution
      ? 'given, this network makes images larger'
      : 'absent, this network takes none'
    throw new UsageError(argumentError(call, '--low-res', what, options.lowRes).message)
  }
  if (options.lowRes === undefined) return undefined
  return lowResImages(options.lowRes, { channels: config?.imageChannels ?? 3, count: options.count, ...made })
}
