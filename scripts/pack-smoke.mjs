// Run by pack-check in an empty project that has installed the tarball: trains and samples, as a first script would.
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import {
  batches,
  Denoiser,
  digits,
  NoiseSchedule,
  sample,
  Trainer,
  train,
  UNet,
  uniformSampler,
  writeReport,
} from 'trislot'

const schedule = NoiseSchedule.create({ name: 'cosine' })
const unet = await UNet.create({ imageChannels: 1, modelChannels: 32, channelMult: [1, 2], resBlockCount: 1 })
const trainer = await Trainer.create(unet, schedule, { loss: { space: 'v' } })
const sampler = uniformSampler({ timestepCount: schedule.timestepCount, seed: 1 })
const images = batches(await digits(), { batchSize: 8, seed: 1 })
for await (const { step, loss } of train({ trainer, sampler, batches: images, lr: 1e-3, stepCount: 5 })) {
  console.log(`step ${step}: loss ${loss.toFixed(3)}`)
}
const pictures = await sample({
  denoiser: new Denoiser(unet, schedule.respace('ddim5')),
  shape: [2, 1, 28, 28],
  seed: 7,
  eta: 0,
})
if (pictures.length !== 2 * 28 * 28 || !pictures.every(Number.isFinite))
  throw new Error('sampling went wrong')

const cjs = createRequire(import.meta.url)('trislot')
if (cjs.NoiseSchedule.create().timestepCount !== 1000) throw new Error('require gives another library')

mkdirSync('run')
writeFileSync('run/stats.jsonl', '{"step":1,"loss":1}\n{"step":2,"loss":0.5}\n')
const pages = [
  await writeReport(['run'], { out: 'esm.html' }),
  await cjs.writeReport(['run'], { out: 'cjs.html' }),
]
const [page, other] = pages.map((file) => readFileSync(file, 'utf8'))
if (page !== other || !page.includes('<svg')) throw new Error('import and require write different pages')
