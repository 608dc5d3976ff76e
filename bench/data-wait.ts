// The share of training time that is spent waiting for images, for several sources; below 2 % is the aim.
// Usage: npx tsx bench/data-wait.ts [--steps N] [--batch N] [--threads N] [--json FILE]
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import {
  batches,
  digits,
  emojiPictures,
  encodePng,
  type ImageDataset,
  imageFolder,
  keyedRandom,
  NETWORK_PRESETS,
  NoiseSchedule,
  setThreads,
  Trainer,
  train,
  UNet,
  uniformSampler,
} from '../lib/index.ts'

const { values } = parseArgs({
  options: {
    steps: { type: 'string', default: '60' },
    batch: { type: 'string', default: '8' },
    threads: { type: 'string' },
    json: { type: 'string' },
  },
})
if (values.threads) await setThreads(Number(values.threads))
const [steps, batchSize] = [Number(values.steps), Number(values.batch)]

const folder = await mkdtemp(join(tmpdir(), 'trislot-data-wait-'))
const rows: object[] = []
try {
  await writePictures(folder, 200, 96)
  await measure('digits', await digits())
  await measure('emoji', await emojiPictures({ size: 32 }))
  await measure('folder of 96x96 PNGs, cropped to 32x32', await imageFolder(folder, { size: 32 }))
  const uncached = { size: 32, crop: 'random', check: 'none', cacheBytes: 0 } as const
  await measure(
    'the same, decoded anew each time and cropped at random',
    await imageFolder(folder, uncached),
    true,
  )
} finally {
  await rm(folder, { recursive: true, force: true })
}
const result = { command: ['npx tsx bench/data-wait.ts', ...process.argv.slice(2)].join(' '), rows }
if (values.json) await writeFile(values.json, `${JSON.stringify(result, undefined, 1)}\n`)

/** The first batch counts too: it is where decoding is not yet ahead of training. */
async function measure(name: string, dataset: ImageDataset, flip = false): Promise<void> {
  const options = { ...NETWORK_PRESETS.digits, imageChannels: dataset.channels }
  const unet = await UNet.create(options)
  const schedule = NoiseSchedule.create()
  const trainer = await Trainer.create(unet, schedule)
  const sampler = uniformSampler({ timestepCount: schedule.timestepCount })
  const source = batches(dataset, { batchSize, seed: 0, flip })
  let [waited, computed, first] = [0, 0, 0]
  for await (const { waitMs, stepMs, step } of train({
    trainer,
    sampler,
    batches: source,
    lr: 1e-4,
    stepCount: steps,
  })) {
    if (step === 0) first = waitMs
    waited += waitMs
    computed += stepMs
  }
  for (const owner of [trainer, schedule, unet]) owner.dispose()
  const share = waited / (waited + computed)
  const row = { work: `train on ${name}, batch ${batchSize}`, precision: 'fp32', metric: 'data-wait-share' }
  rows.push({ ...row, ours: share, waitMs: waited, stepMs: computed, firstWaitMs: first, steps })
  console.log(
    `${name}: ${(100 * share).toFixed(2)} % of ${((waited + computed) / 1000).toFixed(1)} s waiting (the first batch ${first.toFixed(0)} ms)`,
  )
}

/** Coloured noise: pictures that take as long to decode as any of their size. */
async function writePictures(folder: string, count: number, side: number): Promise<void> {
  const random = keyedRandom(0, 'probe')
  for (let i = 0; i < count; i++) {
    const stream = random.at(i)
    const data = new Uint8Array(3 * side * side).map(() => stream.integer(0, 256))
    await writeFile(
      join(folder, `${i}.png`),
      await encodePng({ data, channels: 3, height: side, width: side }),
    )
  }
}
