import { keyedRandom } from '../random.ts'
import { checkDraw, type TimestepSampler } from './sampler.ts'
import { checkUniformOptions, type UniformSamplerOptions } from './uniform.ts'

/**
 * Cuts [0, T) into as many equal strata as the batch has examples and draws one timestep from each:
 * t_i = floor(T (i + u_i) / B) (math.md, eq. 19).
 * Example i always gets stratum i, which is harmless when images are shuffled.
 */
export function stratifiedSampler(options: UniformSamplerOptions): TimestepSampler {
  const { timestepCount, seed } = checkUniformOptions('stratifiedSampler', options)
  const random = keyedRandom(seed, 'timesteps')
  return {
    name: 'stratified',
    unbiased: true,
    draw(count, step) {
      checkDraw('stratifiedSampler.draw', count, step)
      const stream = random.at(step)
      const t = Int32Array.from({ length: count }, (_, i) =>
        at((i + stream.uniform()) / count, timestepCount),
      )
      return { t, weight: new Float32Array(count).fill(1) }
    },
  }
}

/**
 * Spreads the batch evenly over [0, T) from one random offset: t_i = floor(T ((u + i / B) mod 1)) (math.md,
 * eq. 20; Kingma et al. 2021, "Variational diffusion models", low-discrepancy sampler). With B = 2 the pair
 * is antithetic.
 */
export function systematicSampler(options: UniformSamplerOptions): TimestepSampler {
  const { timestepCount, seed } = checkUniformOptions('systematicSampler', options)
  const random = keyedRandom(seed, 'timesteps')
  return {
    name: 'systematic',
    unbiased: true,
    draw(count, step) {
      checkDraw('systematicSampler.draw', count, step)
      const offset = random.at(step).uniform()
      const t = Int32Array.from({ length: count }, (_, i) => at((offset + i / count) % 1, timestepCount))
      return { t, weight: new Float32Array(count).fill(1) }
    },
  }
}

/** The timestep at a position in [0, 1]; a sum such as 3 + u may round up to 4, hence the bound. */
function at(position: number, timestepCount: number): number {
  return Math.min(Math.floor(timestepCount * position), timestepCount - 1)
}
