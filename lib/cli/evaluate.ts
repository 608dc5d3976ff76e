import { stat, writeFile } from 'node:fs/promises'
import { dirname } from 'node:path'
import type { z } from 'zod'
import { type Closing, closingAfter } from '../closing.ts'
import type { ImageDataset } from '../data/dataset.ts'
import { npzOnDisk } from '../data/npz.ts'
import { openDataset } from '../data/open.ts'
import { makeFolder } from '../folder.ts'
import { type Evaluation, evaluate, type Reference } from '../metrics/evaluate.ts'
import { FeatureNetwork } from '../metrics/feature-network.ts'
import { makeReference, readReference } from '../metrics/reference.ts'
import { device, flag, integer, text } from '../options.ts'
import { interruptible } from './interrupt.ts'
import { helpText, parseOptions } from './options.ts'
import { checkOutputFile } from './output.ts'
import { type Progress, streamProgress } from './progress.ts'
import { applyRuntime, RUNTIME_SHAPE } from './runtime-options.ts'
import { UsageError } from './usage.ts'

const about = <T extends z.ZodType>(description: string, schema: T): T => schema.meta({ description }) as T

const SHAPE = {
  samples: about('a .npz of samples, or a folder of pictures', text().optional()),
  reference: about('what they are compared with: guided-diffusion’s .npz, or images', text()),
  features: about('TorchScript feature network, Inception as a rule (see below)', text().optional()),
  makeReference: about(
    'write the statistics of --reference, with --features, to --out instead',
    flag().default(false),
  ),
  out: about('JSON file to write too; with --make-reference the .npz', text().optional()),
  size: about('crop of folders of pictures', integer(1).optional()),
  keep: about('--make-reference: images kept in the file (default 10000)', integer(1).optional()),
  batchSize: about('images at once', integer(1).default(64)),
  seed: about('keys random subsets and directions', integer(0).default(0)),
  device: about('cpu, cuda or cuda:N', device().default('cpu')),
  ...RUNTIME_SHAPE,
} satisfies Record<string, z.ZodType>

const NOTES = `Without --features only pixels are compared: their sliced Wasserstein distance, and pixelSpread, how much the
samples differ from each other as a share of the reference (too few steps: below 1). The feature network is a
TorchScript file. It gets float32 images [N, 3, H, W], 0 to 255, and gives pool features [N, D] (FID, KID,
precision and recall), or a tuple or dict of pool, spatial (sFID) and logits (Inception score).
NVIDIA's inception-2015-12-05.pt has no spatial features. The result is JSON on standard output.`

/** `trislot evaluate`. */
export async function evaluateCommand(argv: readonly string[]): Promise<number> {
  const call = 'trislot evaluate'
  const { options, wantsHelp } = parseOptions(call, argv, SHAPE)
  if (wantsHelp) {
    const usage = `${call} --samples samples.npz --reference reference.npz --features inception.pt`
    console.log(helpText('Compares samples with a reference.', usage, SHAPE, NOTES))
    return 0
  }
  const needs = (name: string, value: string | undefined): string => {
    if (value !== undefined) return value
    const when = options.makeReference ? 'with --make-reference' : 'without --make-reference'
    throw new UsageError(`${call}: expected --${name} to be given ${when}, got none`)
  }
  for (const name of options.makeReference ? (['features', 'out'] as const) : (['samples'] as const)) {
    needs(name, options[name])
  }
  const useless = options.makeReference ? 'samples' : 'keep'
  if (options[useless] !== undefined) {
    const when = `absent ${options.makeReference ? 'with' : 'without'} --make-reference`
    throw new UsageError(`${call}: expected --${useless} to be ${when}, got ${options[useless]}`)
  }
  if (options.out !== undefined) await checkOutputFile(call, '--out', options.out)
  return interruptible(streamProgress(process.stderr), 'stopping', (_, signal) =>
    closingAfter(async (closing) => {
      const onProgress = phases()
      await applyRuntime(options)
      const { features, size, batchSize, seed } = options
      const network =
        features === undefined ? undefined : await FeatureNetwork.load(features, { device: options.device })
      closing.push(() => network?.dispose())
      if (network && options.makeReference) {
        const out = options.out as string
        const images = await openImages('reference', options.reference, size, closing)
        await makeFolder(dirname(out))
        await makeReference(out, {
          ...{ images, network, seed, batchSize, signal },
          ...(options.keep !== undefined && { keep: options.keep }),
          onProgress: (done, total) => onProgress('reference', done, total),
        })
        console.log(out)
        return 0
      }
      const result = await evaluate({
        samples: await openImages('samples', options.samples as string, size, closing),
        reference: await openReference(options.reference, size, closing),
        ...(network && { network }),
        ...{ batchSize, seed, signal, device: options.device },
        onProgress,
      })
      const json = JSON.stringify(result satisfies Evaluation, undefined, 2)
      console.log(json) // first: it is there whatever becomes of the file
      if (options.out !== undefined) {
        await makeFolder(dirname(options.out))
        await writeFile(options.out, `${json}\n`)
      }
      return 0
    }),
  )
}

/** A progress line for each part of the work, so that each has its own estimate of the time that is left. */
function phases(): (what: string, done: number, total: number) => void {
  let [current, progress]: [string, Progress | undefined] = ['', undefined]
  return (what, done, total) => {
    if (what !== current) progress = streamProgress(process.stderr, what)
    current = what
    progress?.update(done, total)
    if (done === total) progress?.end()
  }
}

async function openReference(source: string, size: number | undefined, closing: Closing): Promise<Reference> {
  if (!source.toLowerCase().endsWith('.npz')) {
    const images = await openImages('reference', source, size, closing)
    return { name: images.name, images }
  }
  const reference = await readReference(source)
  closing.push(() => reference.close())
  return reference
}

async function openImages(
  option: 'samples' | 'reference',
  source: string,
  size: number | undefined,
  closing: Closing,
): Promise<ImageDataset> {
  if (source.toLowerCase().endsWith('.npz')) {
    const images = await npzOnDisk(source)
    closing.push(() => images.close())
    return images
  }
  const isFolder = (await stat(source).catch(() => undefined))?.isDirectory() ?? false
  const crop = isFolder && size !== undefined ? { size, check: 'none' as const, cacheBytes: 0 } : {}
  return openDataset(source, crop, 'trislot evaluate', `--${option}`)
}
