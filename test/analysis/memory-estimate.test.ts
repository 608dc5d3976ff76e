import { expect } from 'chai'
import {
  estimateMemory,
  measureSpeed,
  NoiseSchedule,
  type Precision,
  Trainer,
  UNet,
  type UNetOptions,
} from '../../lib/index.ts'
import { runChild } from '../support/child.ts'

const NETWORK: UNetOptions = {
  modelChannels: 32,
  channelMult: [1, 2],
  resBlockCount: 1,
  attentionResolutions: [2],
}

interface Question {
  readonly size: readonly [number, number]
  readonly batch: number
  readonly precision: Precision
}

/** Bytes, in a process of its own: here tensors of earlier tests may be collected while the step is measured. */
async function peakOfAStep(network: UNetOptions, question: Question): Promise<number> {
  const { stdout, stderr } = await runChild(`
    const { measureSpeed, NoiseSchedule, Trainer, UNet } = await import('lib/index.ts')
    const { size, batch: batchSize, precision } = ${JSON.stringify(question)}
    const unet = await UNet.create(${JSON.stringify(network)})
    const trainer = await Trainer.create(unet, NoiseSchedule.create(), { precision })
    const { peakTensorBytes } = await measureSpeed(trainer, { batchSize, size, stepCount: 1 })
    console.log(peakTensorBytes)
  `)
  expect(stderr).to.equal('')
  return Number(stdout)
}

describe('estimateMemory', () => {
  const cases: [string, UNetOptions, Precision][] = [
    ['in fp32', NETWORK, 'fp32'],
    ['in bf16', NETWORK, 'bf16'],
    ['with recompute', { ...NETWORK, recompute: true }, 'fp32'],
    ['with residual resampling', { ...NETWORK, resBlockUpDown: true }, 'fp32'],
  ]
  for (const [name, network, precision] of cases) {
    it(`is within 15 % of the tensors of a step ${name}`, async () => {
      const question = { size: [32, 32], batch: 8, precision } as const
      const measured = await peakOfAStep(network, question)
      expect(estimateMemory(network, question).totalBytes / measured).to.be.within(1 / 1.15, 1.15)
    })
  }

  it('times super-resolution with classes too', async () => {
    const unet = await UNet.create({ ...NETWORK, lowRes: true, classCount: 2, nullClass: true })
    const schedule = NoiseSchedule.create()
    const trainer = await Trainer.create(unet, schedule, { labelDropout: 0.5 })
    const { stepMs } = await measureSpeed(trainer, { batchSize: 2, size: [8, 8], stepCount: 1 })
    expect(stepMs).to.be.greaterThan(0)
    for (const owner of [trainer, schedule, unet]) owner.dispose()
  })

  it('is the sum of its parts, and grows with batch, averages and heads', () => {
    const question = { size: [16, 16], batch: 4 } as const
    const { totalBytes, ...parts } = estimateMemory(NETWORK, question)
    expect(totalBytes).to.equal(Object.values(parts).reduce((a, b) => a + b, 0))
    const more = [
      estimateMemory(NETWORK, { ...question, batch: 5 }),
      estimateMemory(NETWORK, { ...question, averageCount: 2 }),
      estimateMemory({ ...NETWORK, learnsVariance: true }, question),
    ]
    for (const other of more) expect(other.totalBytes).to.be.greaterThan(totalBytes)
  })

  it('says which option is wrong', () => {
    const ask = (question: object) => () => estimateMemory(NETWORK, { size: [16, 16], batch: 4, ...question })
    expect(ask({ batch: 0 })).to.throw(RangeError, 'estimateMemory: expected batch to be')
    expect(ask({ size: [16, 1.5] })).to.throw(RangeError, 'estimateMemory: expected size[1] to be')
    expect(ask({ precision: 'fp8' })).to.throw(RangeError, 'estimateMemory: expected precision to be one of')
    expect(ask({ averageCount: -1 })).to.throw(RangeError, 'estimateMemory: expected averageCount to be')
  })
})
