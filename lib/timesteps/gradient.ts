/** Slope a timestep: central differences, one-sided at the ends (numpy.gradient); 0 where there is but one value. */
export function gradient(values: Float64Array): Float64Array {
  const last = values.length - 1
  return values.map((_, t) => {
    const [low, high] = [Math.max(t - 1, 0), Math.min(t + 1, last)]
    return high > low ? (values[high]! - values[low]!) / (high - low) : 0
  })
}
