import { expect } from 'chai'
import { gradientMoments } from '../../lib/analysis/gradient-moments.ts'
import { headShares } from '../../lib/analysis/head-gradients.ts'
import { lossGradientGram } from '../../lib/analysis/loss-gradient.ts'
import { measureTimestepLoss } from '../../lib/analysis/timestep-loss.ts'
import type { HeadDecision } from '../../lib/mixing/policy.ts'
import type { TrainerOptions } from '../../lib/training/trainer.ts'
import { expectClose } from '../support/close.ts'
import { tinyBatch, tinyTimesteps, tinyTrainer } from '../support/tiny.ts'

const images = tinyBatch()
const t = tinyTimesteps()
const OWN: TrainerOptions = { loss: { choose: 'mean', space: 'own' } }

/** The same row for each example. */
const rows = (count: number, row: readonly number[]): Float32Array =>
  Float32Array.from({ length: count * row.length }, (_, i) => row[i % row.length]!)

/** A network whose trunk has a gradient: its last convolution is no longer zero. */
async function trained(training: TrainerOptions = OWN) {
  const made = await tinyTrainer({ ...training, emaRates: [] })
  const share = training.loss?.choose === 'given' ? { share: rows(4, [1 / 3, 1 / 3, 1 / 3]) } : {}
  for (let step = 0; step < 3; step++) await made.trainer.trainStep({ images, t, lr: 1e-2, ...share })
  return made
}

describe('Instruments of a network that a strategy of several heads trains', () => {
  it('measure the loss that the strategy trains: its factors, its shares, its mixture', async () => {
    const { unet, schedule } = await trained()
    const measure = async (loss: TrainerOptions['loss'], decision?: HeadDecision) =>
      measureTimestepLoss(unet, schedule, {
        ...{ images, timestepStride: 333, seed: 3, training: { loss: loss! } },
        ...(decision && {
          decide: (at: Int32Array) => {
            expect([...at]).to.deep.equal(new Array(4).fill(at[0]))
            return decision
          },
        }),
      })
    const plain = await measure(OWN.loss)
    const of = (head: number) => plain.loss.map((_, row) => plain.perHead[row * 3 + head]!)
    const weighed = await measure(OWN.loss, { headWeight: rows(4, [3, 0, 6]) })
    const expected = of(0).map((value, row) => value + 2 * of(2)[row]!)
    expectClose(weighed.loss, expected, { relative: 1e-5, what: 'weighed' })
    const one = await measure({ choose: 'given', space: 'own' }, { share: rows(4, [0, 1, 0]) })
    expectClose(one.loss, of(1), { relative: 1e-5, what: 'shares' })
    // A mixture that is v alone has v's error, and no head adds its own.
    const mixture = { weight: rows(4, [0, 1, 0]), factor: 2 }
    const mixed = await measure({ choose: 'given', space: 'v' }, { share: rows(4, [0, 0, 0]), mixture })
    expectClose(
      mixed.loss,
      of(1).map((value) => 2 * value),
      { relative: 1e-3, what: 'mixture' },
    )
  })

  it('take its gradients, too', async () => {
    const { unet, schedule } = await trained()
    const options = { images, count: 2, timestepCount: 3, seed: 2, training: OWN }
    const [plain, twice] = [
      await gradientMoments(unet, schedule, options),
      await gradientMoments(unet, schedule, {
        ...options,
        decide: (at) => ({ headWeight: rows(at.length, [2, 2, 2]) }),
      }),
    ]
    expect(Math.min(...plain.mean)).to.be.greaterThan(0)
    expectClose(
      twice.mean,
      plain.mean.map((value) => 4 * value),
      { relative: 1e-4, what: 'moments' },
    )
  })

  it('know that heads which are not chosen, or not weighed, give nothing to the trunk', async () => {
    const { unet, schedule } = await trained()
    // The same noise in all draws, so that no gradient drowns in it.
    const draws = [0, 1, 2].map(() => ({ images, t, seed: 4, step: 0 }))
    const shares = async (loss: TrainerOptions['loss'], decision: HeadDecision) =>
      headShares(unet, schedule, draws, { training: { loss: loss! }, decide: () => decision })
    const plain = await headShares(unet, schedule, draws, { training: OWN })
    expect(Math.min(...plain.share.map(Number))).to.be.greaterThan(0.001)
    expectClose((await shares(OWN.loss, {})).share.map(Number), plain.share.map(Number), {
      ...{ relative: 1e-4, what: 'all heads alike' },
    })
    const one = await shares({ choose: 'given', space: 'own' }, { share: rows(4, [0, 1, 0]) })
    expect(one.share).to.deep.equal([0, 1, 0])
    const [a, , c] = plain.share.map(Number)
    const two = await shares(OWN.loss, { headWeight: rows(4, [2, 0, 1]) })
    expectClose(two.share.map(Number), [(4 * a!) / (4 * a! + c!), 0, c! / (4 * a! + c!)], {
      ...{ relative: 1e-3, what: 'weighed' },
    })
    // Of the smallest error of each example: the gradients of the heads add up to that of the loss.
    const minimum = { loss: { choose: 'min', compare: 'own', space: 'own' } } as const
    const { products } = await lossGradientGram(
      unet,
      schedule,
      [
        ...[0, 1, 2].map((head) => ({
          ...draws[0]!,
          decision: {
            headWeight: rows(
              4,
              [0, 1, 2].map((other) => Number(other === head)),
            ),
          },
        })),
        draws[0]!,
      ],
      { training: minimum },
    )
    const sum = [0, 1, 2].reduce((total, head) => total + products[head * 4 + 3]!, 0)
    expect(sum).to.be.closeTo(products[15]!, 1e-4 * products[15]!)
    const mixture = { weight: rows(4, [0.5, 0, 0.5]), factor: 1 }
    const merged = await shares({ choose: 'given', space: 'F' }, { share: rows(4, [0, 0, 0]), mixture })
    expect([merged.share, merged.mixtureShare]).to.deep.equal([[0, 0, 0], 1])
  })

  it('leave the direction of v out of the shares', async () => {
    const { unet, schedule } = await trained()
    const draws = [0, 1].map(() => ({ images, t, seed: 4, step: 0 }))
    const training = { loss: { directionWeight: 5 } }
    const found = await headShares(unet, schedule, draws, { training })
    expect(found.share.every((value) => value !== null)).to.equal(true)
    expect(found).to.deep.equal(await headShares(unet, schedule, draws))
  })
})
