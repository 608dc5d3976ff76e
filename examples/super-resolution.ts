// Can a small picture be made larger? 16x16 to 64x64 on colour pictures, in about a minute on two cores; needs the package emoji-datasource-google.
import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import {
  batches,
  drawImages,
  emojiPictures,
  holdOut,
  learningRate,
  NoiseSchedule,
  systematicSampler,
  Trainer,
  train,
  UNet,
  withLowRes,
  writeSuperResolution,
} from '../lib/index.ts'

const OUT = 'runs/examples/super-resolution'
const SEED = 0
const STEPS = 250
const BATCH_SIZE = 8
const SHOWN = 12
const NETWORK = { modelChannels: 16, channelMult: [1, 2, 2], resBlockCount: 1, normGroups: 8 }
const LR = learningRate({ base: 3e-3, kind: 'cosine', warmupSteps: 20, totalSteps: STEPS })

// Each batch carries `lowRes`, the area means of its own images; 100 pictures are never trained.
const { train: pictures, heldOut } = holdOut(withLowRes(await emojiPictures(), 4), 100, SEED)
const schedule = NoiseSchedule.create({ name: 'linear', timestepCount: 1000 })
// xStart is learned soonest here: the low-resolution image is most of the answer already.
const unet = await UNet.create({ ...NETWORK, heads: ['xStart'], lowRes: true }, { seed: SEED })
const trainer = await Trainer.create(unet, schedule, { seed: SEED, emaRates: [0.98] })
console.log(`${unet.parameterCount} weights, ${STEPS} steps of ${BATCH_SIZE} pictures`)

const loop = train({
  trainer,
  sampler: systematicSampler({ timestepCount: schedule.timestepCount, seed: SEED }),
  batches: batches(pictures, { batchSize: BATCH_SIZE, seed: SEED, flip: true }),
  lr: LR,
  stepCount: STEPS,
})
for await (const { step, loss } of loop)
  if ((step + 1) % 25 === 0) console.log(`step ${step + 1}  loss ${loss.toFixed(3)}`)

const { value: shown } = await batches(heldOut, { batchSize: SHOWN, seed: SEED }).next()
const images = await drawImages(await trainer.averaged(), {
  schedule,
  count: SHOWN,
  image: [3, 64, 64],
  lowRes: shown.lowRes,
  seed: SEED,
  respacing: '25',
  eta: 0,
  combine: 'xStart',
})

// Errors against the originals, whose pixels lie in [-1, 1].
const original = Float32Array.from(shown.data, (value: number) => value / 127.5 - 1)
const error = (pixel: (i: number) => number): string => {
  const sum = original.reduce((total, value, i) => total + (pixel(i) - value) ** 2, 0)
  return Math.sqrt(sum / original.length).toFixed(3)
}
const small = shown.lowRes.data as Float32Array
const enlarged = (i: number): number => {
  const [plane, y, x] = [Math.floor(i / 4096), Math.floor(i / 64) % 64, i % 64]
  return small[plane * 256 + Math.floor(y / 4) * 16 + Math.floor(x / 4)] as number
}
console.log(`\nroot mean squared error, pixels enlarged as they are: ${error(enlarged)}`)
console.log(`root mean squared error, super-resolved:             ${error((i) => images.data[i] as number)}`)

await mkdir(OUT, { recursive: true })
await writeSuperResolution(join(OUT, 'pictures.png'), shown.lowRes, images, shown)
console.log(`\nlow resolution, super-resolved, original: ${join(OUT, 'pictures.png')}`)
