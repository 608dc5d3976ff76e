import { expect } from 'chai'
import {
  cosineErrors,
  cosines,
  meanProducts,
  meanSquares,
  splitHalves,
} from '../../lib/analysis/gram-statistics.ts'
import { keyedRandom } from '../../lib/random.ts'

/** Gram matrix of `draws` noisy copies of each mean. */
function gramOf(means: number[][], draws: number, noise: number) {
  const random = keyedRandom(4, 'probe')
  const vectors = means.flatMap((mean, group) =>
    Array.from({ length: draws }, (_, draw) => {
      const stream = random.at(group, draw)
      return mean.map((value) => value + noise * stream.normal())
    }),
  )
  const products = Float64Array.from(
    vectors.flatMap((a) => vectors.map((b) => a.reduce((sum, value, i) => sum + value * b[i]!, 0))),
  )
  return { products, groups: means.length, draws }
}

const size = 60
const first = Array.from({ length: size }, (_, i) => (i < 20 ? 1 : 0))
const second = Array.from({ length: size }, (_, i) => (i >= 10 && i < 30 ? 1 : 0)) // cosine 0.5

describe('Statistics of inner products', () => {
  it('are exact without noise', () => {
    const gram = gramOf([first, second], 4, 0)
    expect(Array.from(meanProducts(gram))).to.deep.equal([20, 10, 10, 20])
    expect(Array.from(meanSquares(gram))).to.deep.equal([20, 20])
    expect(cosines(meanProducts(gram), 2)).to.deep.equal([1, 0.5, 0.5, 1])
    expect(cosineErrors(gram)).to.deep.equal([0, 0, 0, 0])
    for (const value of splitHalves(gram)) expect(value).to.be.closeTo(1, 1e-12)
  })

  it('take the noise out of cosines, norms and traces, where measured means keep it', () => {
    const gram = gramOf([first, second], 60, 1)
    const products = meanProducts(gram)
    const [, cosine] = cosines(products, 2)
    const [, error] = cosineErrors(gram)
    expect(Math.abs(cosine! - 0.5)).to.be.below(3 * error!)
    expect(error).to.be.within(0.01, 0.08)
    expect(products[0]).to.be.closeTo(20, 2)
    expect(meanSquares(gram)[0]! - products[0]!).to.be.closeTo(size, 6) // the trace of the noise
    for (const value of splitHalves(gram)) expect(value).to.be.within(0.85, 0.98) // 20 / (20 + 60 / 30) = 0.91
  })

  it('leave a cosine out where a gradient drowns in noise', () => {
    expect(cosines(Float64Array.of(4, 1, 1, -2), 2)).to.deep.equal([1, null, null, null])
  })
})
