import { keyedRandom } from '../random.ts'

/** Inner products of the gradients of `groups` slots with `draws` independent batches each: [groups x draws]^2, row-major. */
export interface GroupedGram {
  readonly products: Float64Array
  readonly groups: number
  readonly draws: number
}

/**
 * Unbiased inner products of the groups' mean gradients, [groups, groups]: a draw never meets itself, nor its twin in another group,
 * which may be the same images (math.md, eq. 118).
 *
 * @param without - a draw to leave out of every group
 */
export function meanProducts(gram: GroupedGram, without = -1): Float64Array {
  const { products, groups, draws } = gram
  const size = groups * draws
  const result = new Float64Array(groups * groups)
  for (let a = 0; a < groups; a++) {
    for (let b = a; b < groups; b++) {
      let [sum, count] = [0, 0]
      for (let i = 0; i < draws; i++) {
        for (let j = 0; j < draws; j++) {
          if (i === j || i === without || j === without) continue
          sum += products[(a * draws + i) * size + b * draws + j]!
          count++
        }
      }
      result[a * groups + b] = result[b * groups + a] = sum / count
    }
  }
  return result
}

/**
 * Mean squared norm of a batch's gradient in each group, [groups].
 *
 * @param without - a draw to leave out of every group
 */
export function meanSquares({ products, groups, draws }: GroupedGram, without = -1): Float64Array {
  const size = groups * draws
  const kept = Array.from({ length: draws }, (_, i) => i).filter((i) => i !== without)
  return Float64Array.from({ length: groups }, (_, a) => {
    return kept.reduce((sum, i) => sum + products[(a * draws + i) * (size + 1)]!, 0) / kept.length
  })
}

/** Traces of the covariance of one example's gradient in each group, [groups], from batches of `batchSize` (math.md, eq. 120). */
export function traces(gram: GroupedGram, batchSize: number, without = -1): number[] {
  const { groups } = gram
  const mean = meanProducts(gram, without)
  return Array.from(meanSquares(gram, without), (square, k) => {
    return Math.max(0, batchSize * (square - mean[k * (groups + 1)]!))
  })
}

/** Gradient noise scales of the groups in images, [groups] (math.md, eq. 120); null where a squared norm is not positive. */
export function noiseScales(gram: GroupedGram, batchSize: number, without = -1): (number | null)[] {
  const { groups } = gram
  const mean = meanProducts(gram, without)
  return traces(gram, batchSize, without).map((trace, k) => {
    const squaredNorm = mean[k * (groups + 1)]!
    return squaredNorm > 0 ? trace / squaredNorm : null
  })
}

/** Cosines of groups from their inner products; null where a squared norm is not positive. */
export function cosines(products: Float64Array, groups: number): (number | null)[] {
  return Array.from(products, (product, at) => {
    const [a, b] = [Math.floor(at / groups), at % groups]
    const norms = products[a * (groups + 1)]! * products[b * (groups + 1)]!
    return products[a * (groups + 1)]! > 0 && products[b * (groups + 1)]! > 0
      ? product / Math.sqrt(norms)
      : null
  })
}

/** Standard errors of noise-corrected cosines by leaving one batch of each group out at a time (jackknife). */
export function cosineErrors(gram: GroupedGram): (number | null)[] {
  return jackknife(gram, (left) => cosines(meanProducts(gram, left), gram.groups))
}

/** Standard errors of noise scales in the same way, [groups]. */
export function noiseScaleErrors(gram: GroupedGram, batchSize: number): (number | null)[] {
  return jackknife(gram, (left) => noiseScales(gram, batchSize, left))
}

/** Standard errors of what `of` gives without one draw; null where there are too few draws, or one of them decides whether there is a value. */
function jackknife({ draws }: GroupedGram, of: (left: number) => (number | null)[]): (number | null)[] {
  const each = Array.from({ length: draws }, (_, left) => of(left))
  return each[0]!.map((_, at) => {
    if (draws < 3) return null
    const values = each.map((one) => one[at]!)
    if (values.some((value) => value === null)) return null
    const mean = values.reduce((a, b) => a + b, 0) / draws
    return Math.sqrt(((draws - 1) / draws) * values.reduce((a, b) => a + (b - mean) ** 2, 0))
  })
}

/**
 * Cosine of the mean gradients of two halves of a group's batches, averaged over random splits, [groups]: what two measurements of
 * one and the same gradient would show with this noise, the ceiling of cosines that are not corrected (math.md, eq. 119).
 */
export function splitHalves({ products, groups, draws }: GroupedGram, splits = 32): Float64Array {
  const size = groups * draws
  const random = keyedRandom(0, 'probe')
  return Float64Array.from({ length: groups }, (_, group) => {
    let sum = 0
    for (let split = 0; split < splits; split++) {
      const stream = random.at(3, split)
      const order = Array.from({ length: draws }, (_, i) => i)
      for (let i = draws - 1; i > 0; i--) {
        const j = stream.integer(0, i + 1)
        ;[order[i], order[j]] = [order[j]!, order[i]!]
      }
      const half = Math.floor(draws / 2)
      const [first, second] = [order.slice(0, half), order.slice(half, 2 * half)]
      const dot = (left: number[], right: number[]): number =>
        left.reduce(
          (total, i) =>
            total +
            right.reduce((row, j) => row + products[(group * draws + i) * size + group * draws + j]!, 0),
          0,
        )
      sum += dot(first, second) / Math.sqrt(dot(first, first) * dot(second, second))
    }
    return sum / splits
  })
}
