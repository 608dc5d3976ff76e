import { expect } from 'chai'
import { learningRate } from '../../lib/training/learning-rate.ts'

describe('learningRate', () => {
  it('is constant by default', () => {
    const lr = learningRate({ base: 1e-4 })
    expect([0, 1, 1e6].map(lr)).to.deep.equal([1e-4, 1e-4, 1e-4])
  })

  it('warms up in equal steps and reaches the base with the last of them', () => {
    const lr = learningRate({ base: 1, warmupSteps: 4 })
    expect([0, 1, 2, 3, 4, 99].map(lr)).to.deep.equal([0.25, 0.5, 0.75, 1, 1, 1])
  })

  it('falls linearly from the end of warm-up to 0 at the last step', () => {
    const lr = learningRate({ kind: 'linear', base: 2, warmupSteps: 2, totalSteps: 6 })
    expect([0, 1, 2, 3, 4, 5, 6, 7].map(lr)).to.deep.equal([1, 2, 2, 1.5, 1, 0.5, 0, 0])
  })

  it('falls along half a cosine', () => {
    const lr = learningRate({ kind: 'cosine', base: 1, totalSteps: 100 })
    expect(lr(0)).to.equal(1)
    expect(lr(50)).to.be.closeTo(0.5, 1e-12)
    expect(lr(25)).to.be.closeTo((1 + Math.SQRT1_2) / 2, 1e-12)
    expect(lr(100)).to.equal(0)
    expect(lr(1000)).to.equal(0)
  })

  it('anneals as the original does: updates 0 and 1 at the full rate, never quite 0', () => {
    const lr = learningRate({ kind: 'guidedDiffusionAnneal', base: 1, totalSteps: 4 })
    expect([0, 1, 2, 3, 4].map(lr)).to.deep.equal([1, 1, 0.75, 0.5, 0.25])
  })

  it('refuses what does not fit together', () => {
    expect(() => learningRate({ base: 0 })).to.throw(
      RangeError,
      'learningRate: expected base to be a number > 0, got 0',
    )
    expect(() => learningRate({ kind: 'linear', base: 1 })).to.throw(
      TypeError,
      'learningRate: expected totalSteps to be an integer >= 1, got undefined',
    )
    expect(() => learningRate({ kind: 'cosine', base: 1, warmupSteps: 10, totalSteps: 10 })).to.throw(
      RangeError,
      'learningRate: expected totalSteps to be an integer >= 11, got 10',
    )
    expect(() =>
      learningRate({ kind: 'guidedDiffusionAnneal', base: 1, warmupSteps: 1, totalSteps: 9 }),
    ).to.throw(
      RangeError,
      'learningRate: expected warmupSteps to be 0 with guidedDiffusionAnneal, got 1; use linear',
    )
    expect(() => learningRate({ kind: 'cosin' as never, base: 1 })).to.throw(
      RangeError,
      'learningRate: expected kind to be one of constant, linear, cosine, guidedDiffusionAnneal, got "cosin"',
    )
    expect(() => learningRate({ base: 1 })(-1)).to.throw(
      RangeError,
      'expected step to be an integer >= 0, got -1',
    )
  })
})
