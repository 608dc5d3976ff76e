import { argumentError, checkTimesteps } from '../check.ts'
import type { StepLosses, TimestepSampler } from './sampler.ts'

/**
 * A sampler whose weights are multiplied by a factor of the timestep. A sampler that learns is told the losses times the factor, which
 * are what it should balance.
 *
 * @param factors - of each timestep, shape [T], positive; of `weightingFactors` as a rule
 */
export function weightedSampler(sampler: TimestepSampler, factors: Float64Array): TimestepSampler {
  const bad = factors.findIndex((factor) => !(factor > 0 && Number.isFinite(factor)))
  if (bad !== -1)
    throw argumentError('weightedSampler', `factors[${bad}]`, 'positive and finite', factors[bad])
  return {
    name: sampler.name,
    unbiased: false,
    draw(count, step) {
      const { t, weight } = sampler.draw(count, step)
      checkTimesteps('weightedSampler.draw', t, factors.length)
      return { t, weight: weight.map((value, i) => value * factors[t[i]!]!) }
    },
    ...(sampler.observe && {
      observe(losses: StepLosses) {
        const loss = losses.loss.map((value, i) => value * factors[losses.t[i]!]!)
        sampler.observe!({ ...losses, loss })
      },
    }),
    ...(sampler.state && { state: () => sampler.state!() }),
    ...(sampler.restore && { restore: (state) => sampler.restore!(state) }),
  } satisfies TimestepSampler
}
