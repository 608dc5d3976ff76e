import { expect } from 'chai'
import type { LossOptions } from '../../lib/training/trainer.ts'
import { expectClose } from '../support/close.ts'
import { rejection } from '../support/rejection.ts'
import { tinyBatch, tinyTimesteps, tinyTrainer } from '../support/tiny.ts'

const images = tinyBatch()
const t = tinyTimesteps()

/** A first step with a weight of the direction. */
async function firstStep(loss: LossOptions, microBatch = 0) {
  const { trainer } = await tinyTrainer({ loss, microBatch, clipNorm: 0 })
  return trainer.trainStep({ images, t, weight: Float32Array.of(1, 2, 0.5, 3), lr: 0 })
}

describe('The direction of v in the loss', () => {
  it('adds up to 2 times its weight to each example, and is no head’s error', async () => {
    const [none, one, three] = [
      await firstStep({}),
      await firstStep({ directionWeight: 1 }),
      await firstStep({ directionWeight: 3 }),
    ]
    expect(Array.from(one.perHead)).to.deep.equal(Array.from(none.perHead))
    for (const [i, value] of one.exampleLoss.entries()) {
      const added = value - none.exampleLoss[i]!
      expect(added).to.be.within(0.2, 1.8) // of a network that was never trained
      expect(three.exampleLoss[i]! - none.exampleLoss[i]!).to.be.closeTo(3 * added, 1e-5)
    }
    expect(one.gradNorm).not.to.be.closeTo(none.gradNorm, 1e-3 * none.gradNorm)
  })

  it('is the same in micro-batches', async () => {
    const [whole, parts] = [
      await firstStep({ directionWeight: 1 }),
      await firstStep({ directionWeight: 1 }, 1),
    ]
    expectClose(parts.exampleLoss, whole.exampleLoss, { relative: 1e-5, what: 'loss' })
    expectClose([parts.gradNorm], [whole.gradNorm], { relative: 1e-4, what: 'gradient norm' })
  })

  it('is refused where v is not trained', async () => {
    const messages = []
    for (const [loss, heads] of [
      [{ directionWeight: 1 }, ['xStart', 'eps']],
      [{ directionWeight: 1, choose: 'eps' }, ['v', 'eps']],
      [{ directionWeight: 1, kind: 'kl' }, ['v']],
      [{ directionWeight: -1 }, ['v']],
    ] as const)
      messages.push((await rejection(tinyTrainer({ loss }, { heads }))).message)
    const begin = 'Trainer.create: expected loss.directionWeight to be'
    expect(messages).to.deep.equal([
      `${begin} 0 where v is not trained (heads xStart, eps, choose mean), got 1`,
      `${begin} 0 where v is not trained (heads v, eps, choose eps), got 1`,
      `${begin} 0 with loss.kind kl, got 1`,
      `${begin} a number >= 0, got -1`,
    ])
  })
})
