import { withUniformShare } from './law-sampler.ts'
import type { TimestepDraw } from './sampler.ts'
import { cumulate, invert } from './stream.ts'

/** Probabilities in proportion to masses, with a share of uniform draws mixed in; uniform where the masses add up to nothing, or to nothing finite. */
export function probabilitiesOf(masses: Float64Array, uniformShare: number): Float64Array {
  const total = masses.reduce((a, b) => a + b, 0)
  if (!(total > 0 && Number.isFinite(total))) return new Float64Array(masses.length).fill(1 / masses.length)
  return withUniformShare(
    masses.map((mass) => mass / total),
    uniformShare,
  )
}

/** The timesteps at positions in [0, 1) under probabilities [T], with weights 1 / (T p). */
export function drawWeighted(p: Float64Array, positions: Float64Array): TimestepDraw {
  const cumulative = cumulate(p)
  const total = cumulative.at(-1)!
  const t = Int32Array.from(positions, (u) => invert(cumulative, u * total))
  return { t, weight: Float32Array.from(t, (value) => total / (p.length * p[value]!)) }
}
