import { argumentError, checkKnownOptions, checkNumber, checkOneOf } from '../check.ts'
import { DeviceTensor } from '../device-tensor.ts'
import { native } from '../native.ts'
import type { NoiseSchedule } from '../schedule/noise-schedule.ts'

/** Solvers of the probability-flow ODE; math.md, "Solvers", has their formulas and docs/solvers.md their orders. */
export const ODE_SOLVERS = ['euler', 'heun', 'dpmpp2m'] as const
/** All samplers: DDPM's ancestral one, DDIM, and the solvers of `ODE_SOLVERS`. */
export const SOLVERS = ['ddpm', 'ddim', ...ODE_SOLVERS] as const
/** One of `SOLVERS`. */
export type SolverName = (typeof SOLVERS)[number]

/** A sampler with its settings. */
export type SolverSettings =
  /** The ancestral sampler; where its variance comes from is an option of `sample`. */
  | { readonly name: 'ddpm' }
  /** eta in [0, 1] is the share of DDPM's noise; 0 by default. */
  | { readonly name: 'ddim'; readonly eta?: number }
  /** Order 1; the same steps as DDIM with eta 0, but for rounding. */
  | { readonly name: 'euler' }
  /** Order 2, with two predictions a step but for the last (EDM, algorithm 1 without churn). */
  | { readonly name: 'heun' }
  /**
   * DPM-Solver++(2M): order 2 with one prediction a step. `lowerOrderFinal` (default true, as in the authors' code) takes
   * the step onto the lowest noise with order 1, which is steadier; the order of the whole stays 2. In 5 to 10 steps `false` keeps
   * more of the spread of the images (docs/solvers.md).
   */
  | { readonly name: 'dpmpp2m'; readonly lowerOrderFinal?: boolean }

/** A sampler, by name or with its settings. */
export type Solver = SolverName | SolverSettings

/** Checks a solver and gives its settings. */
export function solverSettings(call: string, solver: Solver): SolverSettings {
  const settings = (typeof solver === 'string' ? { name: solver } : solver) as SolverSettings
  checkOneOf(call, 'solver', settings?.name, SOLVERS)
  const own = { ddpm: [], ddim: ['eta'], euler: [], heun: [], dpmpp2m: ['lowerOrderFinal'] }
  checkKnownOptions(call, settings, ['name', ...own[settings.name]])
  if (settings.name === 'ddim' && settings.eta !== undefined)
    checkNumber(call, 'solver.eta', settings.eta, 0, 1)
  return settings
}

/** Options of `solve`. */
export interface SolveOptions {
  readonly process: NoiseSchedule
  /** The clean image seen in xt at step k, [N, C, ...]: a network, or any function. What it returns is disposed of here. */
  readonly predictXStart: (xt: DeviceTensor, k: number) => Promise<DeviceTensor>
  /** Images at the noisiest step of the process, float32 or float64; not changed. */
  readonly start: DeviceTensor
  readonly solver: Exclude<Solver, 'ddpm' | 'ddim' | { readonly name: 'ddpm' | 'ddim' }>
  /** Where to stop: at the clean image (default), or at the process's lowest noise, without its last step. */
  readonly until?: 'clean' | 'lowestNoise'
  /** Called after each step. */
  readonly onStep?: ((progress: StepProgress) => void) | undefined
  /** Stops between two steps by throwing the signal's reason. */
  readonly signal?: AbortSignal | undefined
}

/** How far a sampler is: `done` of `total` steps, the last one taken from timestep t. */
export interface StepProgress {
  readonly done: number
  readonly total: number
  /** Timestep of the trained process, possibly fractional. */
  readonly t: number
}

/**
 * Solves the probability-flow ODE of a process from its noisiest step down (math.md, "Solvers").
 *
 * @returns images [N, C, ...] on the device of `start`
 * @throws RangeError or TypeError for options that are wrong
 *
 * @example
 * const process = schedule.respace({ spacing: 'logSnr', steps: 20 })
 * const images = await solve({ process, start, solver: 'dpmpp2m', predictXStart: (xt, k) => exact(xt, k) })
 */
export async function solve(options: SolveOptions): Promise<DeviceTensor> {
  const { process, predictXStart, start, until = 'clean', onStep, signal } = options
  const settings = solverSettings('solve', options.solver)
  checkOneOf('solve', 'solver', settings.name, ODE_SOLVERS)
  checkOneOf('solve', 'until', until, ['clean', 'lowestNoise'] as const)
  const { snr, timestepMap } = process.tables
  const count = process.timestepCount
  const last = until === 'clean' ? 0 : 1
  if (count === last) throw argumentError('solve', 'process', 'at least two timesteps', count)
  const isLowerOrder = settings.name === 'dpmpp2m' && (settings.lowerOrderFinal ?? true)
  let xt = start
  let before: DeviceTensor | undefined

  /** From step k to k - 1, given the prediction at k. */
  const step = async (xStart: DeviceTensor, k: number): Promise<DeviceTensor> => {
    const euler = async () =>
      new DeviceTensor(await native().reverseEuler(process.handle, xStart.handle, xt.handle, k))
    if (k === 0) return euler() // nothing but the prediction itself
    if (settings.name === 'heun' && snr[k] !== 0) {
      const guess = await euler()
      let ahead: DeviceTensor | undefined
      try {
        ahead = await predictXStart(guess, k - 1)
        const { handle } = process
        return new DeviceTensor(await native().reverseHeun(handle, xStart.handle, ahead.handle, xt.handle, k))
      } finally {
        guess.dispose()
        ahead?.dispose()
      }
    }
    if (settings.name === 'dpmpp2m' && before && !(k === 1 && isLowerOrder)) {
      const { handle } = process
      return new DeviceTensor(
        await native().reverseDpmpp2m(handle, xStart.handle, before.handle, xt.handle, k),
      )
    }
    return euler()
  }

  try {
    for (let k = count - 1; k >= last; k--) {
      signal?.throwIfAborted()
      const xStart = await predictXStart(xt, k)
      let xPrev: DeviceTensor
      try {
        xPrev = await step(xStart, k)
      } finally {
        before?.dispose()
        before = xStart
      }
      if (xt !== start) xt.dispose()
      xt = xPrev
      onStep?.({ done: count - k, total: count - last, t: timestepMap[k] as number })
    }
    return xt
  } catch (error) {
    if (xt !== start) xt.dispose()
    throw error
  } finally {
    before?.dispose()
  }
}
