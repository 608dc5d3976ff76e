// alphaBar of two schedules written out as in docs/math.md, so that the samplers test without the addon.

/** Linear. */
export function linearAlphaBar(count = 1000): Float64Array {
  let product = 1
  const scale = 1000 / count
  return Float64Array.from({ length: count }, (_, t) => {
    const beta = scale * (0.0001 + ((0.02 - 0.0001) * t) / (count - 1))
    product *= 1 - beta
    return product
  })
}

/** Cosine. */
export function cosineAlphaBar(count = 1000): Float64Array {
  const f = (x: number): number => Math.cos((((x + 0.008) / 1.008) * Math.PI) / 2) ** 2
  let product = 1
  return Float64Array.from({ length: count }, (_, t) => {
    product *= 1 - Math.min(1 - f((t + 1) / count) / f(t / count), 0.999)
    return product
  })
}
