import { argumentError, checkInteger, checkKnownOptions, checkNumber, checkOneOf } from '../check.ts'
import { native, type ScheduleHandle } from '../native.ts'
import { NativeObject } from '../native-object.ts'
import { type StepSpacing, spaceSteps } from './noise-spacing.ts'
import { spaceTimesteps } from './spacing.ts'

/** Named noise schedules: linear and cosine are guided-diffusion's, exact; scaledLinear is latent diffusion's. */
export const SCHEDULE_NAMES = ['linear', 'cosine', 'scaledLinear', 'sigmoid'] as const
/** One of `SCHEDULE_NAMES`. */
export type ScheduleName = (typeof SCHEDULE_NAMES)[number]

/** Options of `NoiseSchedule.create`. */
export interface NoiseScheduleOptions {
  /** `linear` by default. */
  readonly name?: ScheduleName
  /** Diffusion timesteps T; 1000 by default. Linear and scaledLinear need at least 21. */
  readonly timestepCount?: number
  /** Rescale so that the last timestep holds no signal (Lin et al. 2023); then eps cannot be sampled from. */
  readonly zeroTerminalSnr?: boolean
  /** Betas of your own in (0, 1] instead of a named schedule. */
  readonly betas?: Float64Array
}

/** Tables of a process, float64, one entry a timestep (math.md, eq. 1 and 8). */
export interface ScheduleTables {
  /** Variance that each step adds. */
  readonly beta: Float64Array
  /** Share of the signal's power that is left. */
  readonly alphaBar: Float64Array
  /** alphaBar one step nearer to the image, 1 at the first. */
  readonly alphaBarPrev: Float64Array
  /** alphaBar one step further from it, 0 at the last. */
  readonly alphaBarNext: Float64Array
  /** Factor of xStart in xt. */
  readonly sqrtAlphaBar: Float64Array
  /** Factor of eps in xt. */
  readonly sqrtOneMinusAlphaBar: Float64Array
  readonly logOneMinusAlphaBar: Float64Array
  /** 1 / sqrt(alphaBar): factor of xt in xStart where eps is known. */
  readonly sqrtRecipAlphaBar: Float64Array
  /** sqrt(1 / alphaBar - 1): factor of -eps there. */
  readonly sqrtRecipAlphaBarMinusOne: Float64Array
  /** Variance of a reverse step, given xStart. */
  readonly posteriorVariance: Float64Array
  /** Its logarithm, with the second entry in place of the first, which would be that of 0. */
  readonly posteriorLogVarianceClipped: Float64Array
  /** Factor of xStart in the mean of a reverse step. */
  readonly posteriorMeanXStart: Float64Array
  /** Factor of xt there. */
  readonly posteriorMeanXt: Float64Array
  /** Signal-to-noise ratio of power, alphaBar / (1 - alphaBar). */
  readonly snr: Float64Array
  /** The timestep of the trained process that each step of this one visits; may be fractional. */
  readonly timestepMap: Float64Array
}

/**
 * A noise schedule: which share of signal and noise each timestep has. t = 0 holds least noise.
 *
 * @example
 * const schedule = NoiseSchedule.create({ name: 'cosine', timestepCount: 1000 })
 * const process = schedule.respace('ddim25') // 25 of the 1000 timesteps, for sampling
 */
export class NoiseSchedule extends NativeObject<'schedule'> {
  readonly tables: ScheduleTables
  /** Timesteps of this process. */
  readonly timestepCount: number
  readonly options: Required<Omit<NoiseScheduleOptions, 'betas'>>

  private constructor(handle: ScheduleHandle, options: NoiseSchedule['options']) {
    super(handle, 'NoiseSchedule')
    this.tables = native().scheduleTables(handle) as unknown as ScheduleTables
    this.timestepCount = this.tables.beta.length
    this.options = options
  }

  /** Computes the tables in float64. Throws a RangeError or TypeError that names the option. */
  static create(options: NoiseScheduleOptions = {}): NoiseSchedule {
    const call = 'NoiseSchedule.create'
    checkKnownOptions(call, options, ['name', 'timestepCount', 'zeroTerminalSnr', 'betas'])
    const { name = 'linear', betas, zeroTerminalSnr = false } = options
    const timestepCount = options.timestepCount ?? betas?.length ?? 1000
    checkOneOf(call, 'name', name, SCHEDULE_NAMES)
    checkInteger(call, 'timestepCount', timestepCount, 1, 1_000_000)
    if (betas) {
      const bad = betas.findIndex((beta) => !(beta > 0 && beta <= 1))
      if (bad !== -1) throw argumentError(call, `betas[${bad}]`, 'in (0, 1]', betas[bad])
      if (betas.length !== timestepCount) {
        throw argumentError(call, 'betas', `${timestepCount} values, one a timestep`, betas)
      }
    } else if ((name === 'linear' || name === 'scaledLinear') && timestepCount < 21) {
      throw argumentError(call, 'timestepCount', `at least 21 for the ${name} schedule`, timestepCount, {
        hint: 'with fewer, its betas reach 1; use cosine',
      })
    }
    const handle = native().scheduleCreate(name, timestepCount, zeroTerminalSnr, betas)
    return new NoiseSchedule(handle, { name, timestepCount, zeroTerminalSnr })
  }

  /**
   * @internal A process exactly as it was: its betas and, where it was respaced, the timesteps of the original process that
   * they belong to.
   */
  static restored(
    options: NoiseSchedule['options'],
    betas: Float64Array,
    timestepMap?: Float64Array,
  ): NoiseSchedule {
    const { name, timestepCount } = options
    return new NoiseSchedule(native().scheduleCreate(name, timestepCount, false, betas, timestepMap), options)
  }

  /**
   * alphaBar at a timestep between the first and the last that this process visits; between visited ones log snr is linear
   * (math.md, "Step spacing").
   *
   * @param t - as in `tables.timestepMap`, possibly fractional
   * @throws RangeError outside of what this process visits
   */
  alphaBarAt(t: number): number {
    const { alphaBar, snr, timestepMap } = this.tables
    checkNumber('schedule.alphaBarAt', 't', t, timestepMap[0], timestepMap.at(-1))
    const above = timestepMap.findIndex((visited) => visited >= t)
    if (timestepMap[above] === t) return alphaBar[above]!
    const share = (timestepMap[above]! - t) / (timestepMap[above]! - timestepMap[above - 1]!)
    const logSnr = share * Math.log(snr[above - 1]!) + (1 - share) * Math.log(snr[above]!)
    return 1 / (1 + Math.exp(-logSnr))
  }

  /**
   * The process that visits only some timesteps, for sampling in fewer steps.
   *
   * @param visits - `'250'`, `'ddim25'`, or sections such as `'10,15,20'` or `[10, 15, 20]` (see `spaceTimesteps`); a
   * `StepSpacing`; the ascending timesteps themselves, whole (Int32Array) or fractional (Float64Array); '' keeps all
   * @throws RangeError for visits that this process does not have
   */
  respace(visits: Visits): NoiseSchedule {
    const kept = timestepsOf(this, visits)
    return new NoiseSchedule(native().scheduleRespace(this.handle, kept), this.options)
  }
}

/** Which timesteps a process visits, in any of the ways that `NoiseSchedule.respace` understands. */
export type Visits = string | readonly number[] | Int32Array | Float64Array | StepSpacing

function timestepsOf(schedule: NoiseSchedule, visits: Visits): Float64Array {
  const chosen = visitedTimesteps(schedule, visits)
  const last = schedule.timestepCount - 1
  const between = schedule.tables.alphaBar[last] === 0 && chosen.find((t) => t > last - 1 && t < last)
  if (between) {
    throw argumentError('respace', 'visits', `none between ${last - 1} and ${last}`, between, {
      hint: 'the last timestep of this schedule holds no signal; take fewer steps',
    })
  }
  return chosen
}

function visitedTimesteps({ timestepCount, tables }: NoiseSchedule, visits: Visits): Float64Array {
  if (visits instanceof Float64Array) {
    if (visits.length === 0) throw argumentError('respace', 'visits', 'at least one timestep', visits)
    for (const [i, t] of visits.entries()) {
      checkNumber('respace', `visits[${i}]`, t, 0, timestepCount - 1)
      if (i > 0 && t <= visits[i - 1]!) {
        throw argumentError('respace', `visits[${i}]`, `above ${visits[i - 1]}, ascending`, t)
      }
    }
    return visits
  }
  if (typeof visits === 'object' && 'spacing' in visits) return spaceSteps(tables.snr, visits)
  return Float64Array.from(spaceTimesteps(timestepCount, visits as string | readonly number[] | Int32Array))
}
