// How should three heads be trained together? The paper back-propagates the smallest of the three raw errors. The other
// way here, the library's default, trains all heads all the time, each with its own error.
import { join } from 'node:path'
import {
  batches,
  combineBySignal,
  digits,
  drawImages,
  holdOut,
  type LossOptions,
  measureTimestepLoss,
  NoiseSchedule,
  saveCheckpoint,
  systematicSampler,
  Trainer,
  train,
  UNet,
  writeGrid,
} from '../lib/index.ts'

const OUT = 'runs/examples/train-three-heads'
const SEED = 0
const STEPS = 200
const BATCH_SIZE = 8
const LR = 2e-3
const NETWORK = { imageChannels: 1, modelChannels: 32, channelMult: [1, 2, 2], resBlockCount: 1 }
const LOSSES: Record<string, LossOptions> = {
  min: { choose: 'min', compare: 'own', space: 'own' }, // the paper, read literally
  all: { choose: 'mean', space: 'own' }, // the default
}

const data = holdOut(await digits(), 100, SEED)
const schedule = NoiseSchedule.create()
const { timestepCount } = schedule
const { alphaBar } = schedule.tables
const { value: images } = await batches(data.heldOut, { batchSize: 64, seed: SEED, prefetch: 0 }).next()

for (const [name, loss] of Object.entries(LOSSES)) {
  const unet = await UNet.create({ ...NETWORK, heads: ['xStart', 'v', 'eps'] }, { seed: SEED })
  const trainer = await Trainer.create(unet, schedule, { seed: SEED, loss, emaRates: [0.98] })

  // wins[tenth of the timesteps][head], counted in the second half of the training
  const wins = Array.from({ length: 10 }, () => [0, 0, 0])
  const source = batches(data.train, { batchSize: BATCH_SIZE, seed: SEED })
  const sampler = systematicSampler({ timestepCount, seed: SEED })
  for await (const { step, t, chosen } of train({
    trainer,
    sampler,
    batches: source,
    lr: LR,
    stepCount: STEPS,
  })) {
    if (step < STEPS / 2 || name !== 'min') continue
    for (const [i, head] of chosen.entries()) {
      const row = wins[Math.floor((10 * (t[i] as number)) / timestepCount)] as number[]
      row[head] = (row[head] as number) + 1
    }
  }

  const average = await trainer.averaged()
  const { t, perHead } = await measureTimestepLoss(average, schedule, {
    images,
    timestepStride: 100,
    seed: SEED,
  })
  console.log(
    `\n${name}: error on held-out digits, as error of v${name === 'min' ? ', and how often each head won' : ''}`,
  )
  console.log(`    t${['xStart', 'v', 'eps'].map((head) => head.padStart(10)).join('')}`)
  for (const [row, timestep] of t.entries()) {
    const ab = alphaBar[timestep] as number
    const toV = [1 / (1 - ab), 1, 1 / ab] // docs/math.md, "Loss spaces"
    const errors = toV.map((factor, head) => factor * (perHead[3 * row + head] as number))
    const won = wins[row] as number[]
    const total = won.reduce((a, b) => a + b, 0)
    const shares =
      total > 0 ? `     ${won.map((n) => `${Math.round((100 * n) / total)} %`.padStart(6)).join('')}` : ''
    console.log(
      `  ${String(timestep).padStart(3)}${errors.map((e) => e.toPrecision(3).padStart(10)).join('')}${shares}`,
    )
  }

  const combine = combineBySignal(schedule, unet.config!.heads)
  const shape = { count: 24, batchSize: 12, image: [1, 28, 28] } as const
  const drawn = await drawImages(average, {
    ...shape,
    schedule,
    seed: SEED,
    respacing: '30',
    eta: 0,
    combine,
  })
  await saveCheckpoint(trainer, join(OUT, name), { imagesSeen: STEPS * BATCH_SIZE, keep: 1 })
  await writeGrid(join(OUT, `${name}.png`), drawn)
  console.log(`  digits   ${join(OUT, `${name}.png`)}`)
  unet.dispose()
  trainer.dispose()
}
