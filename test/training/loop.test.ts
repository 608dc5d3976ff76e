import { expect } from 'chai'
import { systematicSampler } from '../../lib/timesteps/stratified.ts'
import { type TrainOptions, train } from '../../lib/training/loop.ts'
import { Trainer } from '../../lib/training/trainer.ts'
import { rejection } from '../support/rejection.ts'
import { tinyBatch, tinyTrainer } from '../support/tiny.ts'

describe('train', () => {
  it('refuses options that are wrong or unknown before the first step', async () => {
    const { trainer, unet, schedule } = await tinyTrainer()
    const sampler = systematicSampler({ timestepCount: 1000 })
    const fine = { trainer, sampler, batches: [tinyBatch()], lr: 1e-3 }
    const message = async (change: object) =>
      (await rejection(train({ ...fine, ...change } as TrainOptions).next())).message
    expect(await message({ stepCount: Number.NaN })).to.equal(
      'train: expected stepCount to be an integer >= 0, got NaN',
    )
    expect(await message({ stepcount: 3 })).to.contain('unknown stepcount (did you mean stepCount?)')
    expect(await message({ lr: Number.NaN })).to.contain('expected lr to be a number >= 0, got NaN')
    expect(await message({ sampler: undefined })).to.contain('expected sampler to be a sampler of timesteps')
    expect(await message({ batches: tinyBatch() })).to.contain('expected batches to be an iterable')
    const promised = Promise.resolve(trainer)
    expect(await message({ trainer: promised })).to.equal(
      'train: expected trainer to be a Trainer, got a Promise; await it first',
    )
    expect(trainer.step).to.equal(0)
    const created = Trainer.create(Promise.resolve(unet) as never, schedule)
    expect((await rejection(created)).message).to.equal(
      'Trainer.create: expected unet to be a UNet, got a Promise; await it first',
    )
    trainer.dispose()
  })
})
