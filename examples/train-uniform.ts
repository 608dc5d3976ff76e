// How is a diffusion model trained? One head, timesteps spread evenly over each batch; about a minute on one core.
import { join } from 'node:path'
import {
  batches,
  digits,
  drawImages,
  learningRate,
  NoiseSchedule,
  saveCheckpoint,
  systematicSampler,
  Trainer,
  train,
  UNet,
  writeGrid,
} from '../lib/index.ts'

const OUT = 'runs/examples/train-uniform'
const SEED = 0
const STEPS = 400
const BATCH_SIZE = 8
const NETWORK = { imageChannels: 1, modelChannels: 32, channelMult: [1, 2, 2], resBlockCount: 1 }
const LR = learningRate({ base: 2e-3, kind: 'cosine', warmupSteps: 20, totalSteps: STEPS })

const schedule = NoiseSchedule.create({ name: 'linear', timestepCount: 1000 })
const unet = await UNet.create({ ...NETWORK, heads: ['v'] }, { seed: SEED })
const trainer = await Trainer.create(unet, schedule, { seed: SEED, emaRates: [0.98] })
console.log(`${unet.parameterCount} weights, ${STEPS} steps of ${BATCH_SIZE} digits`)

const loop = train({
  trainer,
  sampler: systematicSampler({ timestepCount: schedule.timestepCount, seed: SEED }),
  batches: batches(await digits(), { batchSize: BATCH_SIZE, seed: SEED }),
  lr: LR,
  stepCount: STEPS,
})

// The loss of the last 100 steps, apart for the ten tenths of the timesteps.
console.log(
  `\nmean squared error of v, by timestep\n  step ${row(Array.from({ length: 10 }, (_, k) => `t<${k + 1}00`))}`,
)
let sums = new Float64Array(10)
let counts = new Float64Array(10)
const batchLosses: number[] = []
for await (const { step, t, loss: batchLoss, exampleLoss } of loop) {
  batchLosses.push(batchLoss)
  for (const [i, loss] of exampleLoss.entries()) {
    const tenth = Math.floor((10 * (t[i] as number)) / schedule.timestepCount)
    sums[tenth] = (sums[tenth] as number) + loss
    counts[tenth] = (counts[tenth] as number) + 1
  }
  if ((step + 1) % 100 > 0) continue
  const means = Array.from(sums, (sum, k) => sum / (counts[k] as number))
  console.log(`${String(step + 1).padStart(6)} ${row(means.map((mean) => mean.toFixed(3)))}`)
  sums = new Float64Array(10)
  counts = new Float64Array(10)
}

const last = batchLosses.slice(-100)
const mean = last.reduce((a, b) => a + b, 0) / last.length
const deviation = Math.sqrt(last.reduce((sum, loss) => sum + (loss - mean) ** 2, 0) / last.length)
console.log(`\nspread of the last 100 batch losses (deviation / mean): ${(deviation / mean).toFixed(2)}`)

const average = await trainer.averaged()
const images = await drawImages(average, {
  schedule,
  count: 36,
  batchSize: 12,
  image: [1, 28, 28],
  seed: SEED,
  respacing: '30',
  eta: 0,
  combine: 'v',
})
const checkpoint = await saveCheckpoint(trainer, OUT, { imagesSeen: STEPS * BATCH_SIZE, keep: 1 })
await writeGrid(join(OUT, 'grid.png'), images)
console.log(`\ndigits       ${join(OUT, 'grid.png')}\ncheckpoint   ${checkpoint}`)

function row(cells: readonly string[]): string {
  return cells.map((cell) => cell.padStart(7)).join('')
}
