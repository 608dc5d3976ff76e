// How do samplers, numbers of steps and heads differ? One row each, every row from the same noise.
// `npx tsx examples/sample.ts runs/digits` takes the newest checkpoint of a run (without classes or a small
// picture, its heads trained alike); without a run a small network is trained first.
import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import {
  batches,
  type Combine,
  combineBySignal,
  digits,
  drawImages,
  imageGrid,
  latestCheckpoint,
  loadForSampling,
  NoiseSchedule,
  type Solver,
  saveCheckpoint,
  systematicSampler,
  Trainer,
  train,
  UNet,
  type Visits,
  writePng,
} from '../lib/index.ts'

const OUT = 'runs/examples/sample'
const SEED = 0
const COUNT = 8
const TRAIN_STEPS = 300
const BATCH_SIZE = 8
const NETWORK = { imageChannels: 1, modelChannels: 32, channelMult: [1, 2, 2], resBlockCount: 1 }

const given = process.argv[2]
const checkpoint = (await latestCheckpoint(given ?? OUT)) ?? (await trainFirst())
const { unet, schedule, state } = await loadForSampling(checkpoint)
const stored = (state.extra as { images?: { channels: number; height: number; width: number } } | null)
  ?.images
const { channels, height, width } = stored ?? { channels: 1, height: 28, width: 28 }
const { heads } = unet.config!
console.log(`${checkpoint}: step ${state.step}, heads ${heads.join(', ')}`)

const signal = combineBySignal(schedule, heads)
const rows: [name: string, respacing: Visits, solver: Solver, combine: Combine][] = [
  ['DDIM,  10 steps, all heads', '10', 'ddim', signal],
  ['DPM++, 10 steps, all heads', { spacing: 'karras', steps: 10 }, 'dpmpp2m', signal],
  ['Heun,   5 steps, all heads', { spacing: 'karras', steps: 5 }, 'heun', signal],
  ['DDIM,  50 steps, all heads', '50', 'ddim', signal],
  ['DDPM,  50 steps, all heads', '50', 'ddpm', signal],
  ...heads.map((head): (typeof rows)[number] => [`DDIM,  50 steps, ${head} alone`, '50', 'ddim', head]),
]
const size = COUNT * channels * height * width
const data = new Float32Array(rows.length * size)
for (const [row, [name, respacing, solver, combine]] of rows.entries()) {
  const began = performance.now()
  const image = [channels, height, width] as const
  const images = await drawImages(unet, {
    schedule,
    count: COUNT,
    image,
    seed: SEED,
    respacing,
    solver,
    combine,
  })
  data.set(images.data, row * size)
  console.log(
    `row ${row + 1}  ${name.padEnd(32)}${((performance.now() - began) / 1000).toFixed(1).padStart(6)} s`,
  )
}
const grid = imageGrid(
  { data, shape: [rows.length * COUNT, channels, height, width] },
  { columns: COUNT, scale: 3 },
)
await mkdir(OUT, { recursive: true })
await writePng(join(OUT, 'rows.png'), grid)
console.log(`picture  ${join(OUT, 'rows.png')}`)

/** Trains a network with three heads for half a minute, and keeps it for the next time. */
async function trainFirst(): Promise<string> {
  if (given !== undefined) throw new Error(`expected a run with a checkpoint, got ${given}`)
  console.log(`no checkpoint in ${OUT} yet: training ${TRAIN_STEPS} steps first`)
  const schedule = NoiseSchedule.create()
  const unet = await UNet.create({ ...NETWORK, heads: ['xStart', 'v', 'eps'] }, { seed: SEED })
  const trainer = await Trainer.create(unet, schedule, { seed: SEED, emaRates: [0.98] })
  const source = batches(await digits(), { batchSize: BATCH_SIZE, seed: SEED })
  const sampler = systematicSampler({ timestepCount: schedule.timestepCount, seed: SEED })
  for await (const { step, loss } of train({
    trainer,
    sampler,
    batches: source,
    lr: 2e-3,
    stepCount: TRAIN_STEPS,
  })) {
    if ((step + 1) % 100 === 0) console.log(`step ${step + 1}, loss ${loss.toFixed(3)}`)
  }
  return saveCheckpoint(trainer, OUT, { imagesSeen: TRAIN_STEPS * BATCH_SIZE, keep: 1 })
}
