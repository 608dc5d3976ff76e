import { checkInteger, checkKnownOptions, checkNumber, checkOneOf } from '../check.ts'
import { partitionEvenly } from '../curriculum/partition.ts'
import { numbersOf } from './loss-bins.ts'
import { checkDraw, type TimestepSampler } from './sampler.ts'
import { positionStream, STREAMS, type StreamName, timestepAt } from './stream.ts'
import { checkUniformOptions, type UniformSamplerOptions } from './uniform.ts'

/** Options of `curriculumSampler`. */
export interface CurriculumOptions extends UniformSamplerOptions {
  /** Clusters of timesteps of equal length; 20 by default. */
  readonly clusterCount?: number
  /** Steps without progress after which the next cluster opens; 200 by default. */
  readonly patience?: number
  /** By what part of itself the smoothed loss must fall to count as progress; 0.01 by default. */
  readonly tolerance?: number
  /** What the smoothed loss keeps at each step, in [0, 1); 0.98 by default. */
  readonly decay?: number
  /** How the draws of a batch depend on one another; `iid` by default. */
  readonly stream?: StreamName
}

/** `curriculumSampler` and how far it is. */
export interface CurriculumSampler extends TimestepSampler {
  /** Clusters that are open, from the noisiest. */
  readonly openCount: number
}

/**
 * Begins with the noisiest cluster of timesteps and opens the next one when the smoothed loss has not fallen for `patience` steps, until all are
 * open; draws are uniform over what is open (Kim et al. 2024, "Denoising task difficulty-based curriculum", arXiv 2403.10348; patience as here, clusters
 * of equal length). The loss is smoothed anew after each opening.
 */
export function curriculumSampler(options: CurriculumOptions): CurriculumSampler {
  const call = 'curriculumSampler'
  checkKnownOptions(call, options, [
    'timestepCount',
    'seed',
    'clusterCount',
    'patience',
    'tolerance',
    'decay',
    'stream',
  ])
  const {
    clusterCount = 20,
    patience = 200,
    tolerance = 0.01,
    decay = 0.98,
    stream = 'iid',
    ...shared
  } = options
  const { timestepCount, seed } = checkUniformOptions(call, shared)
  checkInteger(call, 'clusterCount', clusterCount, 1, timestepCount)
  checkInteger(call, 'patience', patience, 1)
  checkNumber(call, 'tolerance', tolerance, 0, 1)
  checkNumber(call, 'decay', decay, 0, 1 - 1e-9)
  checkOneOf(call, 'stream', stream, STREAMS)
  const settled = Math.min(Math.ceil(1 / (1 - decay)), patience) // before that one lucky batch decides the average
  const clusters = partitionEvenly(timestepCount, clusterCount)
  const positions = positionStream(stream, seed)
  let openCount = 1
  let seen = 0 // steps since the last opening
  let smoothed = 0
  let best = 0
  let waited = 0 // steps without progress

  return {
    name: 'curriculum',
    unbiased: false,
    get openCount() {
      return openCount
    },
    draw(count, step) {
      checkDraw(`${call}.draw`, count, step)
      const { begin } = clusters[clusterCount - openCount]!
      const t = Int32Array.from(positions(count, step), (u) => begin + timestepAt(u, timestepCount - begin))
      return { t, weight: new Float32Array(count).fill(1) }
    },
    observe({ loss }) {
      const mean = loss.reduce((a, b) => a + b, 0) / loss.length
      if (openCount === clusterCount || !Number.isFinite(mean)) return
      seen++
      smoothed += Math.max(1 - decay, 1 / seen) * (mean - smoothed)
      const isProgress = seen <= settled || smoothed < best * (1 - tolerance)
      if (isProgress) best = smoothed
      waited = isProgress ? 0 : waited + 1
      if (waited < patience) return
      openCount++
      seen = 0
      smoothed = 0
      waited = 0
    },
    state: () => ({ curriculum: [openCount, seen, smoothed, best, waited] }),
    restore(state) {
      const [open, ...rest] = numbersOf(`${call}.restore`, state, 'curriculum', 5)
      checkInteger(`${call}.restore`, 'the number of open clusters', open, 1, clusterCount)
      openCount = open
      ;[seen, smoothed, best, waited] = rest as [number, number, number, number]
    },
  }
}
