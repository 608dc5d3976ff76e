// What are timestep slots, and what do they change? Noise prediction as in arXiv 2502.01990: measure the loss over the
// timesteps, cut slots of equal cumulative loss, then train on one slot at a time.
import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import {
  batches,
  digits,
  drawImages,
  holdOut,
  lossCurve,
  lossShares,
  measureTimestepLoss,
  NoiseSchedule,
  partitionByLoss,
  roundRobin,
  slotSampler,
  type TimestepSampler,
  Trainer,
  timestepLossPlot,
  train,
  UNet,
  uniformSampler,
  writeGrid,
} from '../lib/index.ts'

const OUT = 'runs/examples/train-slots'
const SEED = 0
const UNIFORM_STEPS = 200
const STEPS = 400
const SLOT_COUNT = 10
const BATCH_SIZE = 8
const LR = 1e-3
const NETWORK = { imageChannels: 1, modelChannels: 32, channelMult: [1, 2, 2], resBlockCount: 1 }

const data = holdOut(await digits(), 100, SEED)
const schedule = NoiseSchedule.create()
const { timestepCount } = schedule
const unet = await UNet.create({ ...NETWORK, heads: ['eps'] }, { seed: SEED })
const trainer = await Trainer.create(unet, schedule, { seed: SEED, emaRates: [0.98] })

/** Trains up to a step and returns the loss of each batch. */
async function trainUntil(stepCount: number, sampler: TimestepSampler): Promise<number[]> {
  const source = batches(data.train, { batchSize: BATCH_SIZE, seed: SEED, firstStep: trainer.step })
  const losses: number[] = []
  for await (const { loss } of train({ trainer, sampler, batches: source, lr: LR, stepCount }))
    losses.push(loss)
  return losses
}

const uniform = await trainUntil(UNIFORM_STEPS, uniformSampler({ timestepCount, seed: SEED }))

const { value: images } = await batches(data.heldOut, { batchSize: 16, seed: SEED, prefetch: 0 }).next()
const measured = await measureTimestepLoss(unet, schedule, { images, timestepStride: 10, seed: SEED })
const curve = lossCurve(measured, timestepCount)
const slots = partitionByLoss(curve, SLOT_COUNT)
await mkdir(OUT, { recursive: true })
await writeFile(
  join(OUT, 'slots.svg'),
  await timestepLossPlot({ perHead: { eps: curve }, slots, tScale: 'log' }),
)

const plan = roundRobin(SLOT_COUNT)
const bySlot = await trainUntil(STEPS, slotSampler({ slots, plan, seed: SEED }))

const shares = lossShares(slots, curve)
console.log('slot  timesteps   share of loss   batch loss: mean   spread (deviation / mean)')
for (const [k, { begin, end }] of slots.entries()) {
  const losses = bySlot.filter((_, i) => plan.openAt(UNIFORM_STEPS + i)[0] === k)
  const range = `${begin}..${end - 1}`.padStart(9)
  console.log(
    `${k}    ${range}  ${(100 * (shares[k] as number)).toFixed(1).padStart(9)} %  ${statistics(losses)}`,
  )
}
console.log(`uniform, last ${UNIFORM_STEPS / 2} steps       ${statistics(uniform.slice(UNIFORM_STEPS / 2))}`)
console.log(`slots in turn, all steps      ${statistics(bySlot)}`)
console.log('One slot scatters less than a uniform batch; from slot to slot the loss still alternates.')
console.log('Pictures of so short a training drift in brightness: at high noise an error of eps grows.')

const average = await trainer.averaged()
const shape = { count: 36, batchSize: 12, image: [1, 28, 28] } as const
const drawn = await drawImages(average, {
  ...shape,
  schedule,
  seed: SEED,
  respacing: '30',
  eta: 0,
  combine: 'eps',
})
await writeGrid(join(OUT, 'grid.png'), drawn)
console.log(`\ndigits   ${join(OUT, 'grid.png')}\nslots    ${join(OUT, 'slots.svg')}`)

function statistics(losses: readonly number[]): string {
  const mean = losses.reduce((a, b) => a + b, 0) / losses.length
  const deviation = Math.sqrt(losses.reduce((sum, loss) => sum + (loss - mean) ** 2, 0) / losses.length)
  return `${mean.toFixed(4).padStart(18)}  ${(deviation / mean).toFixed(2).padStart(15)}`
}
