import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { z } from 'zod'
import { type BitsPerDim, bitsPerDim } from '../analysis/bits-per-dim.ts'
import { imagesInOrder } from '../data/batches.ts'
import type { ImageDataset } from '../data/dataset.ts'
import { writeNpz } from '../data/npz.ts'
import { PRECISIONS } from '../device.ts'
import { makeFolder } from '../folder.ts'
import { device, flag, integer, oneOf, text } from '../options.ts'
import { boundPlot } from '../report/run-plots.ts'
import { Denoiser } from '../sampling/denoiser.ts'
import { openMeasuredImages } from './held-out-images.ts'
import { interruptible } from './interrupt.ts'
import { MODEL_SHAPE } from './model-options.ts'
import {
  COMBINE_SHAPE,
  combineFor,
  IMAGES_SHAPE,
  imagesFor,
  networkForSampling,
  SOURCE_SHAPE,
} from './network-for-sampling.ts'
import { helpText, parseOptions } from './options.ts'
import { checkOutputFolder } from './output.ts'
import { streamProgress } from './progress.ts'
import { applyRuntime, RUNTIME_SHAPE } from './runtime-options.ts'
import { asUsage } from './usage.ts'

const about = <T extends z.ZodType>(description: string, schema: T): T => schema.meta({ description }) as T

const SHAPE = {
  ...SOURCE_SHAPE,
  ...IMAGES_SHAPE,
  count: about('images, the first of the data in their order; all by default', integer(1).optional()),
  batchSize: about('images at once', integer(1).default(16)),
  respacing: about(
    'timesteps that are visited: 250, ddim25, or counts of sections 10,15,20; all by default',
    text().optional(),
  ),
  clip: about('clip the predicted xStart to [-1, 1]', flag().default(true)),
  ...COMBINE_SHAPE,
  seed: about('keys the noise', integer(0).default(0)),
  out: about('folder to write into; nll/ of the run by default', text().optional()),
  precision: about('of convolutions and attention', oneOf(PRECISIONS).default('fp32')),
  device: about('cpu, cuda or cuda:N', device().default('cpu')),
  ...RUNTIME_SHAPE,
  ...MODEL_SHAPE,
} satisfies Record<string, z.ZodType>

const NOTES = `Writes nll.json (bits per dimension of all images and of each, and the terms of each timestep), nll.svg, and the terms
as guided-diffusion does: vb_terms.npz, mse_terms.npz, xstart_mse_terms.npz with arr_0 [T], the noisiest timestep first.`

/** `trislot nll`. */
export async function nllCommand(argv: readonly string[]): Promise<number> {
  const call = 'trislot nll'
  const { options, given, wantsHelp } = parseOptions(call, argv, SHAPE)
  if (wantsHelp) {
    const title =
      'Bounds the negative log-likelihood of images under a trained network, in bits per dimension.'
    console.log(helpText(title, `${call} --run runs/digits --count 100`, SHAPE, NOTES))
    return 0
  }
  const folder = options.out ?? (options.run === undefined ? 'nll' : join(options.run, 'nll'))
  await checkOutputFolder(call, '--out', folder)
  return interruptible(streamProgress(process.stderr, 'evaluating'), 'stopping', async (progress, signal) => {
    await applyRuntime(options)
    const network = await networkForSampling(call, options, given, progress.line)
    const { unet, schedule, state, variance } = network
    const combine = options.combine ?? network.combine
    const config = await imagesFor(call, options, network)
    const dataset = await openMeasuredImages(config)
    const count = Math.min(options.count ?? dataset.length, dataset.length)
    const steps = await asUsage(() => schedule.respace(options.respacing ?? ''))
    const denoiser = new Denoiser(unet, steps, {
      combine: await combineFor(combine, network, progress.line),
      clip: options.clip,
      rescalesTimesteps: network.rescalesTimesteps,
      precision: options.precision,
    })
    const { seed } = options
    const parts: BitsPerDim[] = []
    let sum = 0
    for (let first = 0; first < count; first += options.batchSize) {
      const n = Math.min(options.batchSize, count - first)
      const images = await imagesInOrder(dataset, first, n, config.classes !== 'none')
      const soFar = first > 0 ? `${(sum / first).toFixed(4)} bits/dim` : ''
      const part = await asUsage(() =>
        bitsPerDim({
          ...{ denoiser, images, variance, seed, firstImage: first, signal },
          onTimestep: (done, total) => progress.update(first * total + n * done, count * total, soFar),
        }),
      )
      sum += part.total.reduce((a, b) => a + b, 0)
      parts.push(part)
    }
    progress.end()
    const report = summary(parts)
    await makeFolder(folder)
    await writeTerms(folder, report, dataset)
    const { weights } = options
    const settings = { network: network.path, step: state?.step, weights, data: dataset.name, seed, variance }
    const { clip, respacing = null, precision } = options
    const json = { ...report, ...settings, clip, combine, respacing, precision }
    await writeFile(join(folder, 'nll.json'), `${JSON.stringify(json, undefined, 2)}\n`)
    console.log(
      `${report.bitsPerDim.toFixed(4)} bits/dim over ${count} images (standard error ${report.standardError.toFixed(4)})`,
    )
    console.log(folder)
    for (const object of [steps, unet, schedule]) object.dispose()
    return 0
  })
}

/** What nll.json says; lists over timesteps are ascending, means over the images. */
interface Summary {
  readonly bitsPerDim: number
  /** Of the mean over the images. */
  readonly standardError: number
  readonly prior: number
  readonly count: number
  readonly timesteps: readonly number[]
  readonly bound: readonly number[]
  readonly xStartMse: readonly number[]
  readonly epsMse: readonly number[]
  /** Bits per dimension of each image. */
  readonly images: readonly number[]
}

function summary(parts: readonly BitsPerDim[]): Summary {
  const images = parts.flatMap(({ total }) => [...total])
  const count = images.length
  const mean = (values: readonly number[]): number => values.reduce((a, b) => a + b, 0) / count
  const bits = mean(images)
  const variance = images.reduce((a, b) => a + (b - bits) ** 2, 0) / Math.max(1, count - 1)
  const timesteps = Array.from((parts[0] as BitsPerDim).t)
  const perTimestep = (name: 'bound' | 'xStartMse' | 'epsMse'): number[] => {
    const sums = timesteps.map(() => 0)
    for (const part of parts) {
      for (const [i, term] of part[name].entries()) (sums[i % sums.length] as number) += term
    }
    return sums.map((sum) => sum / count)
  }
  return {
    bitsPerDim: bits,
    standardError: Math.sqrt(variance / count),
    prior: mean(parts.flatMap(({ prior }) => [...prior])),
    count,
    timesteps,
    bound: perTimestep('bound'),
    xStartMse: perTimestep('xStartMse'),
    epsMse: perTimestep('epsMse'),
    images,
  }
}

/** The three files of guided-diffusion's image_nll, and the plot. */
async function writeTerms(folder: string, report: Summary, dataset: ImageDataset): Promise<void> {
  const files = { vb_terms: 'bound', mse_terms: 'epsMse', xstart_mse_terms: 'xStartMse' } as const
  for (const [file, name] of Object.entries(files)) {
    const data = Float64Array.from(report[name]).reverse()
    await writeNpz(join(folder, `${file}.npz`), { arr_0: { data, shape: [data.length] } })
  }
  const subtitle = `${report.bitsPerDim.toFixed(4)} bits/dim over ${report.count} images of ${dataset.name}`
  await writeFile(join(folder, 'nll.svg'), await boundPlot({ ...report, t: report.timesteps, subtitle }))
}
