import { checkInteger, checkKnownOptions } from '../check.ts'
import { keyedRandom } from '../random.ts'
import { checkDraw, type TimestepSampler } from './sampler.ts'

/** What all samplers over [0, T) need. */
export interface UniformSamplerOptions {
  /** Timesteps T of the noise schedule. */
  readonly timestepCount: number
  /** A whole number in [0, 2^53); 0 by default. */
  readonly seed?: number
}

/** Draws every timestep equally often, each example by itself (DDPM, algorithm 1). */
export function uniformSampler(options: UniformSamplerOptions): TimestepSampler {
  const { timestepCount, seed } = checkUniformOptions('uniformSampler', options)
  const random = keyedRandom(seed, 'timesteps')
  return {
    name: 'uniform',
    unbiased: true,
    draw(count, step) {
      checkDraw('uniformSampler.draw', count, step)
      const stream = random.at(step)
      const t = Int32Array.from({ length: count }, () => stream.integer(0, timestepCount))
      return { t, weight: new Float32Array(count).fill(1) }
    },
  }
}

/** Checks the options that all samplers over [0, T) share. */
export function checkUniformOptions(
  call: string,
  options: UniformSamplerOptions,
): Required<UniformSamplerOptions> {
  checkKnownOptions(call, options, ['timestepCount', 'seed'])
  const { timestepCount, seed = 0 } = options
  checkInteger(call, 'timestepCount', timestepCount, 1, 2 ** 31 - 1)
  checkInteger(call, 'seed', seed, 0)
  return { timestepCount, seed }
}
