/**
 * A mean of neighbours on both sides whose weights fall exponentially, so that a curve is not shifted; values that are
 * not finite are passed over.
 *
 * @param halfLife - distance, in values, at which a neighbour counts half
 * @returns [values.length]
 */
export function smoothed(values: ArrayLike<number>, halfLife: number): Float64Array {
  const keep = 0.5 ** (1 / halfLife)
  const count = values.length
  const sums = new Float64Array(count)
  const totals = new Float64Array(count)
  for (const direction of [1, -1]) {
    let sum = 0
    let total = 0
    for (let k = 0; k < count; k++) {
      const i = direction === 1 ? k : count - 1 - k
      sums[i]! += keep * sum // what came before, without the value itself
      totals[i]! += keep * total
      const counts = Number.isFinite(values[i])
      sum = keep * sum + (counts ? values[i]! : 0)
      total = keep * total + (counts ? 1 : 0)
    }
  }
  return sums.map((sum, i) => {
    const counts = Number.isFinite(values[i])
    const total = totals[i]! + (counts ? 1 : 0)
    return total === 0 ? Number.NaN : (sum + (counts ? values[i]! : 0)) / total
  })
}
