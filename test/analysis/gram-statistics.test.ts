import { expect } from 'chai'
import {
  cosineErrors,
  cosines,
  meanProducts,
  meanSquares,
  noiseScaleErrors,
  noiseScales,
  splitHalves,
} from '../../lib/analysis/gram-statistics.ts'
import { keyedRandom } from '../../lib/random.ts'

/** `draws` noisy copies of each mean, [groups][draws]. */
function copiesOf(means: number[][], draws: number, noise: number, seed = 4): number[][][] {
  const random = keyedRandom(seed, 'probe')
  return means.map((mean, group) =>
    Array.from({ length: draws }, (_, draw) => {
      const stream = random.at(group, draw)
      return mean.map((value) => value + noise * stream.normal())
    }),
  )
}

/** Gram matrix of such copies. */
function gramOf(means: number[][], draws: number, noise: number, seed = 4) {
  const vectors = copiesOf(means, draws, noise, seed).flat()
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

  it('have the noise scale and its jackknife error that the gradients themselves give', () => {
    const [draws, batchSize] = [6, 3]
    const groups = copiesOf([first, second], draws, 0.3)
    const gram = gramOf([first, second], draws, 0.3)
    const dot = (a: number[], b: number[]) => a.reduce((sum, value, i) => sum + value * b[i]!, 0)
    // The squared norm without bias is that of the mean gradient less the variance of the mean.
    const scale = (vectors: number[][]): number => {
      const n = vectors.length
      const mean = first.map((_, i) => vectors.reduce((sum, vector) => sum + vector[i]!, 0) / n)
      const variance =
        (vectors.reduce((sum, vector) => sum + dot(vector, vector), 0) - n * dot(mean, mean)) / (n - 1)
      return (batchSize * variance) / (dot(mean, mean) - variance / n)
    }
    for (const [k, vectors] of groups.entries()) {
      expect(noiseScales(gram, batchSize)[k]).to.be.closeTo(scale(vectors), 1e-9)
      const left = vectors.map((_, i) => scale(vectors.filter((_, j) => j !== i)))
      const mean = left.reduce((a, b) => a + b, 0) / draws
      const error = Math.sqrt(
        ((draws - 1) / draws) * left.reduce((sum, value) => sum + (value - mean) ** 2, 0),
      )
      expect(noiseScaleErrors(gram, batchSize)[k]).to.be.closeTo(error, 1e-9)
    }
  })

  it('scatter by about that error from one measurement of the noise scale to the next', () => {
    const repeated = Array.from({ length: 60 }, (_, seed) => gramOf([first], 12, 0.5, seed))
    const scales = repeated.map((gram) => noiseScales(gram, 1)[0]!)
    const mean = scales.reduce((a, b) => a + b, 0) / scales.length
    const deviation = Math.sqrt(
      scales.reduce((sum, value) => sum + (value - mean) ** 2, 0) / (scales.length - 1),
    )
    const error = repeated.reduce((sum, gram) => sum + noiseScaleErrors(gram, 1)[0]!, 0) / repeated.length
    expect(mean).to.be.closeTo((0.25 * size) / 20, (4 * deviation) / Math.sqrt(scales.length))
    expect(error / deviation).to.be.within(0.7, 1.4)
  })

  it('have no error of a noise scale from two draws, or where a gradient drowns in noise', () => {
    expect(noiseScaleErrors(gramOf([first], 2, 0.3), 1)).to.deep.equal([null])
    const signs = [1, 1, -1, -1] // a gradient that cancels out
    const drowned = {
      products: Float64Array.from(signs.flatMap((a) => signs.map((b) => a * b))),
      groups: 1,
      draws: 4,
    }
    expect(noiseScales(drowned, 1)).to.deep.equal([null])
    expect(noiseScaleErrors(drowned, 1)).to.deep.equal([null])
  })

  it('leave a cosine out where a gradient drowns in noise', () => {
    expect(cosines(Float64Array.of(4, 1, 1, -2), 2)).to.deep.equal([1, null, null, null])
  })
})
