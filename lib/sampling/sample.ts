import { argumentError, checkInteger, checkKnownOptions } from '../check.ts'
import type { DeviceTensor } from '../device-tensor.ts'
import type { VarianceType } from '../native.ts'
import { checkShape, type ImageShape } from '../tensor.ts'
import type { Denoiser } from './denoiser.ts'
import { type Solver, type SolverSettings, type StepProgress, solve, solverSettings } from './solver.ts'

/** Options of `sample`. */
export interface SampleOptions {
  readonly denoiser: Denoiser
  /** Images to draw, as [N, C, H, W]. */
  readonly shape: ImageShape
  /** Image k of a seed is the same image whatever the batch it is drawn in. */
  readonly seed: number
  /** Index of the batch's first image. */
  readonly firstImage?: number
  /** The sampler; `ddim` where `eta` is given, else `ddpm`. */
  readonly solver?: Solver | undefined
  /** Short for `solver: { name: 'ddim', eta }`. */
  readonly eta?: number
  /** Variance of ancestral steps: what the network learned, else `fixedLarge`. */
  readonly variance?: VarianceType
  /** Called after each step. */
  readonly onStep?: (progress: StepProgress) => void
  /** Stops between two steps by throwing the signal's reason. */
  readonly signal?: AbortSignal
}

const OPTIONS = [
  'denoiser', 'shape', 'seed', 'firstImage', 'solver', 'eta', 'variance', 'onStep', 'signal',
] as const satisfies readonly (keyof SampleOptions)[] // biome-ignore format: one list

/**
 * Draws images by walking the denoiser's process from the noisiest step to the cleanest.
 *
 * @returns float32 in about [-1, 1], [N, C, H, W], row-major
 * @throws RangeError, TypeError for options that are wrong; the signal's reason where it stops
 *
 * @example
 * const denoiser = new Denoiser(unet, schedule.respace({ spacing: 'karras', steps: 20 }), { combine: 'v' })
 * const images = await sample({ denoiser, shape: [16, 1, 28, 28], seed: 7, solver: 'dpmpp2m' })
 */
export async function sample(options: SampleOptions): Promise<Float32Array> {
  const { denoiser, shape, seed, firstImage = 0, variance, onStep, signal } = options
  checkKnownOptions('sample', options, OPTIONS)
  checkShape('sample', 'shape', shape)
  checkInteger('sample', 'firstImage', firstImage, 0, 2 ** 32 - shape[0]) // which the noise counts in 32 bits
  const solver = chosenSolver(options)
  let xt = await denoiser.noise(shape, seed, firstImage)
  try {
    if (solver.name !== 'ddpm' && solver.name !== 'ddim') {
      const predictXStart = async (x: DeviceTensor, k: number): Promise<DeviceTensor> => {
        const { xStart, ...others } = await denoiser.predictXStart(x, k)
        for (const tensor of Object.values(others)) tensor.dispose()
        const gradient = await denoiser.classifierGradient(x, k)
        if (!gradient) return xStart
        try {
          return await denoiser.guidedXStart(xStart, gradient, k)
        } finally {
          xStart.dispose()
          gradient.dispose()
        }
      }
      const { process } = denoiser
      const solved = await solve({ process, predictXStart, start: xt, solver, onStep, signal })
      xt.dispose()
      xt = solved
      return (await xt.toHost()).data as Float32Array
    }
    const eta = solver.name === 'ddim' ? (solver.eta ?? 0) : undefined
    const total = denoiser.process.timestepCount
    for (let k = total - 1; k >= 0; k--) {
      signal?.throwIfAborted()
      const { xStart, variance: varianceValues, mean } = await denoiser.predictXStart(xt, k)
      let xPrev: DeviceTensor
      let gradient: DeviceTensor | undefined
      try {
        gradient = await denoiser.classifierGradient(xt, k)
        const step = { xt, xStart, k, eta, varianceValues, mean, gradient, seed, firstImage }
        xPrev = await denoiser.reverseStep(variance ? { ...step, variance } : step)
      } finally {
        xStart.dispose()
        varianceValues?.dispose()
        gradient?.dispose()
        mean?.dispose()
      }
      xt.dispose()
      xt = xPrev
      onStep?.({ done: total - k, total, t: denoiser.process.tables.timestepMap[k] as number })
    }
    return (await xt.toHost()).data as Float32Array
  } finally {
    xt.dispose()
  }
}

/** `solver`, or what its short form `eta` means. */
function chosenSolver({ solver, eta }: SampleOptions): SolverSettings {
  if (solver === undefined) {
    return eta === undefined ? { name: 'ddpm' } : solverSettings('sample', { name: 'ddim', eta })
  }
  if (eta !== undefined) throw argumentError('sample', 'eta', 'given inside solver', eta)
  return solverSettings('sample', solver)
}
