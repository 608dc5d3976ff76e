import type { StudyOptions } from './study-file.ts'

/** How the loss is measured in an arm of a sweep: eps and v are what is predicted, F predicts v. */
export const SWEEP_SPACES = ['eps', 'v', 'F'] as const
/** Memory of the moving average and of Adam's beta2: in steps (0.9999 and 0.999) or in images. */
export const SWEEP_HALF_LIVES = ['steps', 'images'] as const

/** What a sweep varies; every combination is an arm. */
export interface SweepOptions {
  readonly name?: string
  readonly out?: string
  /** Images that every arm sees. */
  readonly images: number
  /** 4, 8, 16, 32 and 64 by default. */
  readonly batchSizes?: readonly number[]
  /** Names that `sampler` of a run takes; uniform and systematic by default. */
  readonly samplers?: readonly string[]
  readonly spaces?: readonly (typeof SWEEP_SPACES)[number][]
  readonly halfLives?: readonly (typeof SWEEP_HALF_LIVES)[number][]
  readonly seeds?: readonly number[]
  /** Half-life of the moving average in images; a twentieth of `images` by default. */
  readonly emaHalfLife?: number
  /** Half-life of Adam's beta2 in images; 20,000 by default. */
  readonly beta2HalfLife?: number
  /** Options of `run` that all arms share. */
  readonly base: Readonly<Record<string, unknown>>
  readonly evaluate?: Readonly<Record<string, unknown>>
}

/**
 * The study that a sweep is: batch sizes x samplers x loss spaces x half-lives at equal images, every step logged, against the
 * first arm.
 *
 * @example
 * await runStudy(sweepStudy({ images: 24000, batchSizes: [4, 64], base: { data: 'digits', preset: 'digits' } }))
 */
export function sweepStudy(options: SweepOptions): StudyOptions {
  const { name = 'sweep', out, images, seeds, base, evaluate } = options
  const { batchSizes = [4, 8, 16, 32, 64], samplers = ['uniform', 'systematic'] } = options
  const { spaces = SWEEP_SPACES, halfLives = SWEEP_HALF_LIVES } = options
  const { emaHalfLife = Math.max(1, Math.round(images / 20)), beta2HalfLife = 20_000 } = options
  const raw = evaluate?.bothWeights === false ? [] : ['F.clipped.raw']
  const arms: Record<string, Record<string, unknown>> = {}
  for (const batchSize of batchSizes) {
    for (const sampler of samplers) {
      for (const space of spaces) {
        for (const halfLife of halfLives) {
          arms[`b${batchSize}-${sampler}-${space}-${halfLife}`] = {
            ...{ batchSize, sampler, heads: [space === 'eps' ? 'eps' : 'v'] },
            ...(space === 'F' && { space }),
            ...(halfLife === 'images'
              ? { emaHalfLife: [emaHalfLife], beta2HalfLife }
              : { emaRates: [0.9999], emaWarmsUp: false, beta2: 0.999 }), // a warm-up would forget in images until step 90,000
          }
        }
      }
    }
  }
  return {
    name,
    title: 'Batch sizes, samplers, loss spaces and half-lives at equal images',
    ...(out !== undefined && { out }),
    images,
    stopAt: [images / 24, images / 12, images / 6, images / 3, (2 * images) / 3].map(Math.round),
    base: { ...base, logEvery: 1 },
    arms,
    ...(seeds && { seeds }),
    ...(evaluate && { evaluate }),
    compare: { metrics: ['F.clipped', 'F.geometric', ...raw, 'v.clipped'] },
  }
}
