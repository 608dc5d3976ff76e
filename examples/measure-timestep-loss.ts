// How much does the loss differ from timestep to timestep, and how much of that is the unit it is measured in?
import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import {
  batches,
  digits,
  gaussianEpsLoss,
  holdOut,
  lossCurve,
  measureTimestepLoss,
  NoiseSchedule,
  partitionByLoss,
  systematicSampler,
  Trainer,
  timestepLossPlot,
  train,
  UNet,
  writeLossCurve,
} from '../lib/index.ts'

const OUT = 'runs/examples/measure-timestep-loss'
const SEED = 0
const STEPS = 250
const BATCH_SIZE = 8
const SLOT_COUNT = 10
const NETWORK = { imageChannels: 1, modelChannels: 32, channelMult: [1, 2, 2], resBlockCount: 1 }

const data = holdOut(await digits(), 100, SEED)
const schedule = NoiseSchedule.create()
const { timestepCount } = schedule
const unet = await UNet.create({ ...NETWORK, heads: ['xStart', 'v', 'eps'] }, { seed: SEED })
const trainer = await Trainer.create(unet, schedule, { seed: SEED, emaRates: [0.98] })
const source = batches(data.train, { batchSize: BATCH_SIZE, seed: SEED })
const sampler = systematicSampler({ timestepCount, seed: SEED })
for await (const { step, loss } of train({ trainer, sampler, batches: source, lr: 2e-3, stepCount: STEPS })) {
  if ((step + 1) % 50 === 0) console.log(`step ${step + 1}, loss ${loss.toFixed(3)}`)
}

// The same images and the same noise at every timestep, so that only the timestep differs.
const { value: images } = await batches(data.heldOut, { batchSize: 32, seed: SEED, prefetch: 0 }).next()
const measured = await measureTimestepLoss(await trainer.averaged(), schedule, {
  images,
  timestepStride: 10,
  seed: SEED,
})

const { heads, t, perHead, standardError } = measured
console.log(
  `\nmean squared error of each head in its own unit, ± standard error over ${images.shape[0]} digits`,
)
console.log(`    t${heads.map((head) => head.padStart(20)).join('')}`)
for (const [row, timestep] of t.entries()) {
  if (timestep % 100 !== 0) continue
  const cells = heads.map((_, head) => {
    const at = row * heads.length + head
    return `${(perHead[at] as number).toExponential(2)} ± ${(standardError[at] as number).toExponential(0)}`.padStart(
      20,
    )
  })
  console.log(`  ${String(timestep).padStart(3)}${cells.join('')}`)
}

const curves = Object.fromEntries(heads.map((head) => [head, lossCurve(measured, timestepCount, head)]))
console.log('\n             largest / smallest   edges of ten slots of equal cumulative loss')
for (const [name, curve] of [
  ...Object.entries(curves),
  ['eps, theory', gaussianEpsLoss({ size: 28, alphaBar: schedule.tables.alphaBar })] as const,
]) {
  const slots = partitionByLoss(curve, SLOT_COUNT)
  const span = curve.reduce((a, b) => Math.max(a, b)) / curve.reduce((a, b) => Math.min(a, b))
  console.log(
    `${name.padEnd(12)}${span.toPrecision(3).padStart(19)}   ${slots.map(({ end }) => end).join(', ')}`,
  )
}
console.log('(theory: a perfect network on Gaussian images with the spectrum of photographs)')

await mkdir(OUT, { recursive: true })
await writeFile(join(OUT, 'timestep-loss.svg'), await timestepLossPlot({ perHead: curves }))
await writeLossCurve(join(OUT, 'timestep-loss.json'), measured, timestepCount)
console.log(`\nplot     ${join(OUT, 'timestep-loss.svg')}\nvalues   ${join(OUT, 'timestep-loss.json')}`)
