import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect } from 'chai'
import { readTensors } from '../../lib/checkpoint-file.ts'
import type { UNetOptions } from '../../lib/model/unet.ts'
import { native } from '../../lib/native.ts'
import { nativeTrainerConfig, Trainer, type TrainerOptions } from '../../lib/training/trainer.ts'
import { expectClose } from '../support/close.ts'
import { formulaWeights, loadThroughFile } from '../support/formula-weights.ts'
import { rejection } from '../support/rejection.ts'
import { tinyBatch, tinyTrainer } from '../support/tiny.ts'

const NETWORK: Partial<UNetOptions> = { heads: ['v'], targetAngles: 5 }
const KNOTS = Float32Array.of(-2, -0.5, 0.3, 0.9, 4)
const T = Int32Array.of(0, 100, 600, 999)

/** A trainer of the tiny network with formula weights and these angles. */
async function trainerWith(knots: Float32Array, training: TrainerOptions = {}) {
  const { unet, schedule } = await tinyTrainer({}, NETWORK)
  const weights = formulaWeights(unet.parameters())
  weights.set('target_angle', { data: knots, shape: [5] })
  await loadThroughFile(unet, weights)
  return Trainer.create(unet, schedule, { emaRates: [], clipNorm: 0, loss: { space: 'F' }, ...training })
}

/** A tensor of what a trainer saves. */
async function saved(trainer: Trainer, file: string, name: string): Promise<Float32Array> {
  const folder = await mkdtemp(join(tmpdir(), 'trislot-target-angle-'))
  try {
    await trainer.saveTensors(folder)
    return (await readTensors(join(folder, file))).tensors.get(name)?.data as Float32Array
  } finally {
    await rm(folder, { recursive: true })
  }
}

describe('The learned target angle', () => {
  it('turns what the network says back into v', async () => {
    const turned = await trainerWith(KNOTS)
    const straight = await trainerWith(new Float32Array(5))
    const x = { data: Float32Array.from({ length: 256 }, (_, i) => Math.sin(i)), shape: [4, 1, 8, 8] }
    const input = { x, t: { data: Float32Array.from(T), shape: [4] } }
    const v = (await turned.unet.forward(input)).data as Float32Array
    const y = (await straight.unet.forward(input)).data as Float32Array
    const expected = Array.from(y, (value, i) => {
      const place = ((T[Math.floor(i / 64)] as number) / 999) * 4
      const knot = Math.min(3, Math.floor(place))
      const [a, b] = [KNOTS[knot] as number, KNOTS[knot + 1] as number]
      const d = 1.5 * Math.tanh((a + (b - a) * (place - knot)) / 1.5)
      return (value + Math.sin(d) * (x.data[i] as number)) / Math.cos(d)
    })
    expectClose(v, expected, { absolute: 1e-5, relative: 1e-4, what: 'v' })
  })

  it('has the gradient of finite differences', async () => {
    const loss = async (knots: Float32Array) => {
      const trainer = await trainerWith(knots)
      const { loss } = await trainer.trainStep({ images: tinyBatch(), t: T, lr: 0 })
      return { loss, trainer }
    }
    const { trainer } = await loss(KNOTS)
    const tenth = await saved(trainer, 'optimizer.safetensors', 'exp_avg.target_angle')
    const scale = Math.max(...tenth.map(Math.abs)) * 10
    for (let knot = 0; knot < 5; knot++) {
      const moved = async (by: number) => (await loss(KNOTS.map((z, i) => z + (i === knot ? by : 0)))).loss
      const slope = ((await moved(0.01)) - (await moved(-0.01))) / 0.02
      expect(10 * (tenth[knot] as number)).to.be.closeTo(slope, 2e-3 * scale)
    }
  })

  it('is learned with the network and averaged with its weights', async () => {
    const { trainer } = await tinyTrainer({ loss: { space: 'F' } }, NETWORK)
    const losses: number[] = []
    for (let i = 0; i < 60; i++)
      losses.push((await trainer.trainStep({ images: tinyBatch(), t: T, lr: 3e-3 })).loss)
    expect(losses.at(-1)).to.be.below(0.6 * (losses[0] as number))
    const angles = await saved(trainer, 'model.safetensors', 'target_angle')
    const averaged = await saved(trainer, 'ema-0.9.safetensors', 'target_angle')
    expect(angles.some((angle) => Math.abs(angle) > 0.01)).to.equal(true)
    expectClose(averaged, angles, { absolute: 0.05, what: 'averages' })
  })

  it('runs on the meta device, beside a learned variance', async () => {
    const { unet, schedule, trainer } = await tinyTrainer({}, { ...NETWORK, learnsVariance: true })
    const config = nativeTrainerConfig('test', unet, trainer.config)
    const shapes = await native().lossShapes(unet.nativeConfig, schedule.handle, config, [4, 1, 8, 8])
    expect(shapes).to.deep.equal({ loss: [4], perHead: [4, 1], gradientCount: unet.parameters().length })
  })

  it('is refused of one angle and of other heads', async () => {
    const messages = []
    for (const network of [{ ...NETWORK, targetAngles: 1 }, { targetAngles: 5 }])
      messages.push((await rejection(tinyTrainer({}, network))).message)
    expect(messages).to.deep.equal([
      'UNet.create: expected targetAngles to be 0 or at least 2, got 1',
      'UNet.create: expected targetAngles to be 0 unless the one head is v, got 5',
    ])
  })
})
