import { expect } from 'chai'
import { blueWeights, mixtureSquare } from '../../lib/mixing/blue.ts'
import { keyedRandom } from '../../lib/random.ts'

const EXACT = { ridge: 0, limits: [-9, 9] as const }

function expectWeights(weights: readonly number[], wanted: readonly number[], tolerance = 1e-6): void {
  expect(weights).to.have.length(wanted.length)
  for (const [i, w] of wanted.entries()) expect(weights[i]).to.be.closeTo(w, tolerance)
}

describe('blueWeights', () => {
  it('weighs independent errors by their inverse', () => {
    expectWeights(blueWeights([1, 0, 0, 0, 2, 0, 0, 0, 4], EXACT), [4 / 7, 2 / 7, 1 / 7])
  })

  it('does not change with an error that all heads share, however large', () => {
    const shared = [1, 0, 0, 0, 2, 0, 0, 0, 4].map((c) => c + 1000)
    expectWeights(blueWeights(shared, EXACT), [4 / 7, 2 / 7, 1 / 7], 1e-4)
  })

  it('equals the closed form (c22 - c12) / (c11 + c22 - 2 c12) of two correlated heads', () => {
    const [a, b, c] = [1, 1.5, 0.9]
    expectWeights(blueWeights([a, c, c, b], EXACT), [(b - c) / (a + b - 2 * c), (a - c) / (a + b - 2 * c)])
  })

  it('is the smallest mean square among mixtures', () => {
    const products = [1, 0.4, 0.3, 0.4, 1.2, 0.5, 0.3, 0.5, 2]
    const error = (w: readonly number[]): number =>
      w.reduce((sum, a, h) => sum + w.reduce((part, b, g) => part + a * b * products[h * 3 + g]!, 0), 0)
    const best = blueWeights(products, EXACT)
    const [x, y, z] = best as [number, number, number]
    for (const d of [-0.05, 0.05]) {
      expect(error([x + d, y - d, z])).to.be.greaterThan(error(best))
      expect(error([x, y + d, z - d])).to.be.greaterThan(error(best))
    }
  })

  it('keeps weights within limits, and finds the best ones that are', () => {
    const products = [1, 1.3, 1.3, 2] // exact weights 1.75 and -0.75
    expectWeights(blueWeights(products, EXACT), [1.75, -0.75])
    expectWeights(blueWeights(products), [1.2, -0.2])
    const three = blueWeights([1, 1.3, 0.9, 1.3, 2, 1.2, 0.9, 1.2, 1.1])
    expect(three.reduce((a, b) => a + b, 0)).to.be.closeTo(1, 1e-12)
    for (const weight of three) expect(weight).to.be.within(-0.2, 1.2)
  })

  it('finds the best of all mixtures within the limits, whichever of them bind', () => {
    const random = keyedRandom(1, 'probe').at(0)
    const limits = [-0.2, 0.8] as const
    let bound = 0
    for (let trial = 0; trial < 40; trial++) {
      const errors = Array.from({ length: 3 }, () => Array.from({ length: 4 }, () => random.uniform() - 0.4))
      const products = errors.flatMap((a) =>
        errors.map((b) => a.reduce((sum, value, i) => sum + value * b[i]!, 0)),
      )
      const best = blueWeights(products, { ridge: 0, limits })
      expect(best.reduce((a, b) => a + b, 0)).to.be.closeTo(1, 1e-9)
      for (const weight of best) expect(weight).to.be.within(-0.2 - 1e-9, 0.8 + 1e-9)
      if (best.some((w) => w < -0.2 + 1e-9 || w > 0.8 - 1e-9)) bound++
      const least = mixtureSquare(best, products)
      for (let x = -0.2; x <= 0.801; x += 0.05)
        for (let y = -0.2; y <= 0.801; y += 0.05) {
          const weights = [x, y, 1 - x - y]
          if (weights[2]! < -0.2 || weights[2]! > 0.8) continue
          expect(mixtureSquare(weights, products)).to.be.at.least(least - 1e-6)
        }
    }
    expect(bound).to.be.within(10, 39)
  })

  it('shares equally among heads that are the same', () => {
    expectWeights(blueWeights(new Array(9).fill(0.3)), [1 / 3, 1 / 3, 1 / 3])
    expectWeights(blueWeights([0.5]), [1])
  })

  it('hardly moves the others for a head that is useless, and hardly uses it', () => {
    const pair = blueWeights([0.2, 0.19, 0.19, 0.22])
    const three = blueWeights([0.2, 0.19, 0, 0.19, 0.22, 0, 0, 0, 1e4])
    expectWeights(three, [...pair, 0], 1e-3)
  })

  it('says what is wrong', () => {
    expect(() => blueWeights([1, 2, 3])).to.throw(
      'blueWeights: expected products to be a square matrix, got [1, 2, 3]',
    )
    expect(() => blueWeights([1], { ridge: -1 })).to.throw(
      'blueWeights: expected ridge to be a number >= 0, got -1',
    )
    expect(() => blueWeights(new Array(81).fill(1))).to.throw(
      'expected heads to be an integer in [1, 8], got 9',
    )
  })
})
