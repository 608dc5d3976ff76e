import { checkDraw, type TimestepSampler } from './sampler.ts'
import { positionStream, type StreamName, timestepAt } from './stream.ts'
import { checkUniformOptions, type UniformSamplerOptions } from './uniform.ts'

/**
 * Cuts [0, T) into as many equal strata as the batch has examples and draws one timestep from each:
 * t_i = floor(T (i + u_i) / B) (math.md, eq. 19).
 * Example i always gets stratum i, which is harmless when images are shuffled.
 */
export function stratifiedSampler(options: UniformSamplerOptions): TimestepSampler {
  return spread('stratifiedSampler', 'stratified', options)
}

/**
 * Spreads the batch evenly over [0, T) from one random offset: t_i = floor(T ((u + i / B) mod 1)) (math.md,
 * eq. 20; Kingma et al. 2021, "Variational diffusion models", low-discrepancy sampler). With B = 2 the pair
 * is antithetic.
 */
export function systematicSampler(options: UniformSamplerOptions): TimestepSampler {
  return spread('systematicSampler', 'systematic', options)
}

/**
 * Follows one low-discrepancy sequence through all steps: t_n = floor(T ((u + n (sqrt(5) - 1) / 2) mod 1)) with n = step x B + i
 * (math.md, eq. 83). Any few steps together cover all timesteps evenly, which a batch of 4 cannot do by itself; what Adam and the
 * moving averages see is the mean over such a window.
 */
export function goldenSampler(options: UniformSamplerOptions): TimestepSampler {
  return spread('goldenSampler', 'golden', options)
}

function spread(call: string, name: StreamName, options: UniformSamplerOptions): TimestepSampler {
  const { timestepCount, seed } = checkUniformOptions(call, options)
  const positions = positionStream(name, seed)
  return {
    name,
    unbiased: true,
    draw(count, step) {
      checkDraw(`${call}.draw`, count, step)
      const t = Int32Array.from(positions(count, step), (u) => timestepAt(u, timestepCount))
      return { t, weight: new Float32Array(count).fill(1) }
    },
  }
}
