/**
 * The list that never falls and is nearest to `values` in the weighted mean square: neighbours that are out of order share their mean ("pool adjacent violators").
 *
 * @param weights - positive, one a value
 */
export function isotonicFit(values: readonly number[], weights: readonly number[]): number[] {
  const pools: { mean: number; weight: number; count: number }[] = []
  for (const [i, value] of values.entries()) {
    let pool = { mean: value, weight: weights[i]!, count: 1 }
    for (let last = pools.at(-1); last && last.mean >= pool.mean; last = pools.at(-1)) {
      pools.pop()
      const weight = last.weight + pool.weight
      const mean = (last.mean * last.weight + pool.mean * pool.weight) / weight
      pool = { mean, weight, count: last.count + pool.count }
    }
    pools.push(pool)
  }
  return pools.flatMap(({ mean, count }) => new Array<number>(count).fill(mean))
}
