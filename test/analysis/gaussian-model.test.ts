import { expect } from 'chai'
import { gaussianEpsLoss } from '../../lib/analysis/gaussian-model.ts'

describe('gaussianEpsLoss', () => {
  it('is near 1 without noise and near snr x variance without signal', () => {
    const [clean, noisy] = gaussianEpsLoss({ size: 16, alphaBar: [1 - 1e-7, 1e-6] })
    expect(clean).to.be.closeTo(1, 1e-3)
    expect(noisy! / (0.25 * 1e-6)).to.be.closeTo(1, 1e-3)
  })

  it('is the scalar Bayes error for white images', () => {
    const [signal, noise] = [0.3, 0.7]
    const error = (0.25 * noise) / (signal * 0.25 + noise)
    const [loss] = gaussianEpsLoss({ size: 8, alphaBar: [signal], exponent: 0 })
    expect(loss).to.be.closeTo((signal / noise) * error, 1e-12)
  })

  it('falls from t to t, over five orders of magnitude on the linear schedule', () => {
    let product = 1
    const alphaBar = Float64Array.from(
      { length: 1000 },
      (_, t) => (product *= 1 - (1e-4 + (t * 0.0199) / 999)),
    )
    const loss = gaussianEpsLoss({ size: 32, alphaBar })
    expect(loss.every((value, t) => t === 0 || value < loss[t - 1]!)).to.equal(true)
    expect(loss[0]! / loss[999]!).to.be.closeTo(9.9e4, 0.1e4)
  })

  it('refuses timesteps without noise or without signal', () => {
    expect(() => gaussianEpsLoss({ size: 8, alphaBar: [0.5, 1] })).to.throw(
      RangeError,
      'gaussianEpsLoss: expected alphaBar[1] to be in (0, 1), got 1',
    )
  })
})
