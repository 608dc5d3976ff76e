import { expect } from 'chai'
import { measureTimestepLoss } from '../../lib/analysis/timestep-loss.ts'
import type { HeadPolicy } from '../../lib/mixing/policy.ts'
import type { UNetOptions } from '../../lib/model/unet.ts'
import { native } from '../../lib/native.ts'
import type { ImageBatch } from '../../lib/tensor.ts'
import type { StepLosses } from '../../lib/timesteps/sampler.ts'
import { uniformSampler } from '../../lib/timesteps/uniform.ts'
import { train } from '../../lib/training/loop.ts'
import {
  CHOICES,
  type LossOptions,
  nativeTrainerConfig,
  type TrainerOptions,
  type TrainStepInput,
} from '../../lib/training/trainer.ts'
import { expectClose } from '../support/close.ts'
import { rejection } from '../support/rejection.ts'
import { tinyBatch, tinyTimesteps, tinyTrainer } from '../support/tiny.ts'

/** [4, 3], with rows that add up to 1, one that is 0 and one of a single head. */
const SHARE = Float32Array.of(0.2, 0.3, 0.5, 0, 0, 0, 0, 1, 0, 0.6, 0.3, 0.1)
const WEIGHT = Float32Array.of(1, 2, 0.5, 0, 3, 1, 1, 1, 2, 0.1, 0.2, 0.3)
const MIXTURE = Float32Array.of(0.2, 0.3, 0.5, 1.2, -0.1, -0.1, 0, 1, 0, 0.6, 0.3, 0.1)
const IMAGES = tinyBatch()
const REFERENCE = tinyBatch(6)

type Inputs = Omit<TrainStepInput, 'images' | 't' | 'lr'>

async function step(inputs: Inputs, training: TrainerOptions, network: Partial<UNetOptions> = {}) {
  const { trainer } = await tinyTrainer({ clipNorm: 0, ...training }, network)
  return trainer.trainStep({ images: IMAGES, t: tinyTimesteps(), lr: 1e-3, ...inputs })
}

const GIVEN: TrainerOptions = { loss: { choose: 'given', space: 'F' } }

describe('What a step says about the heads', () => {
  const steps: [string, LossOptions, Inputs][] = [
    ['shares', { choose: 'given', space: 'v' }, { share: SHARE }],
    ['weights of heads', { choose: 'minPixel', compare: 'xStart', space: 'v' }, { headWeight: WEIGHT }],
    ['a mixture', { choose: 'mean', space: 'F' }, { mixture: { weight: MIXTURE, factor: 0.5 } }],
    ['references', { choose: 'relaxed', compare: 'xStart' }, { floor: 0.2, reference: REFERENCE }],
    ['a temperature', { choose: 'softmin', compare: 'v' }, { temperature: 0.3 }],
  ]
  for (const [what, loss, inputs] of steps) {
    it(`has the same numbers in micro-batches with ${what}`, async () => {
      const whole = await step(inputs, { loss })
      for (const microBatch of [1, 3]) {
        const parts = await step(inputs, { loss, microBatch })
        const tolerance = { relative: 1e-4, absolute: 1e-6 }
        expectClose([parts.gradNorm], [whole.gradNorm], { ...tolerance, what: 'gradient norm' })
        for (const name of ['exampleLoss', 'perHead', 'errorProducts', 'meanError'] as const) {
          expectClose(parts[name] as Float32Array, whole[name] as Float32Array, { ...tolerance, what: name })
        }
        expect(parts.chosen).to.deep.equal(whole.chosen)
      }
    })
  }

  it('names the head with the largest share, and none where several have it', async () => {
    const chosen = async (floor: number) => (await step({ floor }, { loss: { choose: 'relaxed' } })).chosen
    const smallest = [...(await chosen(0.1))]
    expect(Math.min(...smallest)).to.be.at.least(0)
    expect([...(await chosen(0))]).to.deep.equal(smallest)
    expect([...(await chosen(2 / 3))]).to.deep.equal([-1, -1, -1, -1]) // all alike
    expect([...(await chosen(0.9))]).to.deep.equal([-1, -1, -1, -1]) // the two others have more
  })

  it('makes every choice from shares, when they are the right ones', async () => {
    const min = await step({}, { loss: { choose: 'min', space: 'v' } })
    const share = new Float32Array(12)
    for (const [i, head] of min.chosen.entries()) share[i * 3 + head] = 1
    const given = await step({ share }, { loss: { choose: 'given', space: 'v' } })
    expect(given).to.deep.equal(min)
    for (const [choose, inputs, as] of [
      ['relaxed', { floor: 0 }, 'min'],
      ['softmin', { temperature: 1e-6 }, 'min'],
      ['softmin', { temperature: 1e6 }, 'mean'],
    ] as const) {
      const soft = await step(inputs, { loss: { choose, space: 'v' } })
      const hard = await step({}, { loss: { choose: as, space: 'v' } })
      expectClose(soft.exampleLoss, hard.exampleLoss, { relative: 1e-5, what: choose })
      expectClose([soft.gradNorm], [hard.gradNorm], { relative: 1e-4, what: choose })
    }
  })

  it('trains heads by their mixture alone where all shares are 0', async () => {
    const weight = Float32Array.of(0, 1, 0, 0, 1, 0, 0, 1, 0, 0, 1, 0)
    const mixture = { weight, factor: 1 }
    const mixed = await step({ share: new Float32Array(12), mixture }, GIVEN)
    const single = await step({}, { loss: { choose: 'v', space: 'F' } })
    expectClose(mixed.exampleLoss, single.exampleLoss, { relative: 1e-5, what: 'loss' })
    expectClose([mixed.gradNorm], [single.gradNorm], { relative: 1e-5, what: 'gradient norm' })
    expect(Array.from(mixed.chosen)).to.deep.equal([-1, -1, -1, -1])
  })

  it('says how the errors of heads go together, and nothing of a single head', async () => {
    const { perHead, errorProducts, meanError } = await step({}, {})
    const alphaBar = (await tinyTrainer()).schedule.tables.alphaBar
    for (const [i, t] of tinyTimesteps().entries()) {
      const ab = alphaBar[t] as number
      for (const [head, factor] of [1 / (1 - ab), 1, 1 / ab].entries()) {
        const own = errorProducts?.[i * 9 + head * 4] as number
        expect(own).to.be.closeTo((perHead[i * 3 + head] as number) * factor, 1e-5 * own)
        expect(Math.abs(meanError?.[i * 3 + head] as number)).to.be.below(
          Math.sqrt(own * (1 - ab)) * (1 + 1e-6),
        )
      }
    }
    const single = await step({}, {}, { heads: ['v'] })
    expect(single).to.not.have.any.keys('errorProducts', 'meanError')
  })

  it('runs every choice and input on the meta device, so that no tensor is made on the wrong one', async () => {
    for (const choose of CHOICES) {
      for (const space of ['own', 'F'] as const) {
        const { unet, schedule, trainer } = await tinyTrainer({ loss: { choose, compare: 'xStart', space } })
        const config = nativeTrainerConfig('test', unet, trainer.config)
        const shapes = await native().lossShapes(unet.nativeConfig, schedule.handle, config, [4, 1, 8, 8])
        expect(shapes).to.deep.equal({ loss: [4], perHead: [4, 3], gradientCount: unet.parameters().length })
      }
    }
  })

  const refusals: [string, Inputs, TrainerOptions, Partial<UNetOptions>, string][] = [
    [
      'no shares where they are given',
      {},
      GIVEN,
      {},
      'share to be a Float32Array of 4 x 3 shares, one a head of each example, got undefined',
    ],
    [
      'shares that nothing takes',
      { share: SHARE },
      {},
      {},
      'share to be absent with loss.choose mean, got Float32Array(12); it belongs to given',
    ],
    ['a share above 1', { share: SHARE.map((x) => 2 * x) }, GIVEN, {}, 'share[7] to be in [0, 1], got 2'],
    [
      'shares that are no parts of a whole',
      { share: SHARE.map((x) => x / 2) },
      GIVEN,
      {},
      'the sum of share of example 0 to be 1 or 0, got 0.5',
    ],
    [
      'negative weights of heads',
      { headWeight: WEIGHT.map((x) => x - 1) },
      {},
      {},
      'headWeight[2] to be finite and >= 0, got -0.5',
    ],
    [
      'a temperature of 0',
      { temperature: 0 },
      { loss: { choose: 'softmin' } },
      {},
      'temperature to be a number >= 0.000001, got 0',
    ],
    [
      'a temperature of a hard choice',
      { temperature: 1 },
      { loss: { choose: 'min' } },
      {},
      'temperature to be absent with loss.choose min, got 1; it belongs to softmin',
    ],
    [
      'a floor above 1',
      { floor: 1.5 },
      { loss: { choose: 'relaxed' } },
      {},
      'floor to be a number in [0, 1], got 1.5',
    ],
    [
      'a floor that nothing has',
      { floor: 0.1 },
      { loss: { choose: 'softmin' } },
      {},
      'floor to be absent with loss.choose softmin, got 0.1; it belongs to relaxed',
    ],
    [
      'a mixture in no common space',
      { mixture: { weight: MIXTURE, factor: 1 } },
      {},
      {},
      'mixture.factor to be absent with loss.space own, got 1; a mixture has no unit of its own',
    ],
    [
      'a mixture of too much',
      { mixture: { weight: MIXTURE.map((x) => 2 * x), factor: 1 } },
      { loss: { space: 'F' } },
      {},
      'the sum of mixture.weight of example 0 to be 1, got 2',
    ],
    [
      'a negative factor of the mixture',
      { mixture: { weight: MIXTURE, factor: -1 } },
      { loss: { space: 'F' } },
      {},
      'mixture.factor to be a number >= 0, got -1',
    ],
    [
      'weights of heads beside the bound alone',
      { headWeight: new Float32Array(4) },
      { loss: { kind: 'kl' } },
      { heads: ['eps'] },
      'headWeight to be absent with loss.kind kl, got Float32Array(4); the bound is no error of a head',
    ],
    [
      'references of another size',
      { reference: tinyBatch(2, 1, 4) },
      {},
      {},
      'reference.shape to be [R, 1, 8, 8], like the images, got [2, 1, 4, 4]',
    ],
    [
      'references of the bound alone',
      { reference: REFERENCE },
      { loss: { kind: 'kl' } },
      { heads: ['eps'] },
      'reference to be absent with loss.kind kl, got [6, 1, 8, 8]; the bound has no target but the image',
    ],
  ]
  for (const [what, inputs, training, network, message] of refusals) {
    it(`refuses ${what}`, async () => {
      const error = await rejection(step(inputs, training, network))
      expect(error.message).to.equal(`trainer.trainStep: expected ${message}`)
    })
  }

  it('refuses references of a network with classes', async () => {
    const { trainer } = await tinyTrainer({}, { classCount: 3 })
    const images: ImageBatch = { ...IMAGES, labels: Int32Array.of(0, 1, 2, 0) }
    const error = await rejection(
      trainer.trainStep({ images, t: tinyTimesteps(), reference: REFERENCE, lr: 0 }),
    )
    expect(error.message).to.equal(
      'trainer.trainStep: expected reference to be absent for a conditional network, got [6, 1, 8, 8]; its images would need the condition of every example',
    )
  })
})

describe('train with a policy of heads', () => {
  it('asks before each step, tells after it, and passes the references of the step', async () => {
    const asked: [Int32Array, number][] = []
    const told: StepLosses[] = []
    const mixing: HeadPolicy = {
      name: 'halves',
      decide(t, step) {
        asked.push([t, step])
        return { share: new Float32Array(12).fill(step === 0 ? 1 / 3 : 0) }
      },
      observe: (losses) => told.push(losses),
    }
    const { trainer } = await tinyTrainer({ loss: { choose: 'given', space: 'F' } })
    const referenceSteps: number[] = []
    const reference = (step: number) => {
      referenceSteps.push(step)
      return REFERENCE
    }
    const sampler = uniformSampler({ timestepCount: 1000, seed: 1 })
    const batches = [IMAGES, IMAGES]
    const reports = []
    for await (const report of train({ trainer, sampler, mixing, reference, batches, lr: 1e-3 }))
      reports.push(report)
    expect(asked).to.deep.equal(reports.map(({ t, step }) => [t, step]))
    expect(referenceSteps).to.deep.equal([0, 1])
    expect(reports[0]?.loss).to.be.greaterThan(0)
    expect(reports[1]?.loss).to.equal(0)
    for (const [i, losses] of told.entries()) {
      const { t, exampleLoss, perHead, chosen, errorProducts, meanError } = reports[i]!
      expect(losses).to.deep.include({ t, loss: exampleLoss, perHead, chosen, errorProducts, meanError })
      expect(losses.heads).to.deep.equal(['xStart', 'v', 'eps'])
    }
    expect(told.length).to.equal(2)
  })
})

describe('measureTimestepLoss of several heads', () => {
  it('averages products of errors and of brightness over the images', async () => {
    const { unet, schedule } = await tinyTrainer()
    const measured = await measureTimestepLoss(unet, schedule, { images: IMAGES, timestepStride: 600 })
    const ab = schedule.tables.alphaBar
    expect(measured.errorProducts?.length).to.equal(18)
    for (const [row, t] of measured.t.entries()) {
      const noise = 1 - (ab[t] as number)
      const error = measured.errorProducts?.[row * 9] as number
      const xStart = measured.perHead[row * 3] as number
      expect(error * noise).to.be.closeTo(xStart, 1e-5 * xStart)
      const brightness = measured.brightnessProducts?.[row * 9] as number
      expect(brightness).to.be.greaterThan(0).and.below(xStart)
      const of = (a: number, b: number) => measured.brightnessProducts?.[row * 9 + a * 3 + b] as number
      expect(of(0, 2)).to.equal(of(2, 0))
      expect(of(0, 2) ** 2).to.be.at.most(of(0, 0) * of(2, 2) * (1 + 1e-9))
    }
    const single = await tinyTrainer({}, { heads: ['v'] })
    const alone = await measureTimestepLoss(single.unet, schedule, { images: IMAGES, timestepStride: 600 })
    expect(alone).to.not.have.any.keys('errorProducts', 'brightnessProducts')
  })

  it('gives equal shares where only a step would say them', async () => {
    const { unet, schedule } = await tinyTrainer()
    const options = { images: IMAGES, timestepStride: 900 }
    const given = await measureTimestepLoss(unet, schedule, {
      ...options,
      training: { loss: { choose: 'given' } },
    })
    const mean = await measureTimestepLoss(unet, schedule, {
      ...options,
      training: { loss: { choose: 'mean' } },
    })
    expect(given).to.deep.equal(mean)
  })
})
