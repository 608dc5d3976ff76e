import { DeviceTensor } from '../device-tensor.ts'
import type { Denoiser } from '../sampling/denoiser.ts'
import type { NoisyWeights } from './replacement-windows.ts'

/** A DDIM walk with everything that it met. */
export interface DdimTrajectory {
  /** x at each step k, [K] of [N x C x H x W]. */
  readonly x: readonly Float32Array[]
  /** Prediction of xStart at each step k, as the step used it. */
  readonly xStart: readonly Float32Array[]
  /** The image that the last step gives. */
  readonly final: Float32Array
}

/** What takes the place of the prediction of xStart at a step; undefined where the network is asked. */
export type Replace = (x: Float32Array, k: number) => Float32Array | undefined

/** Changes a prediction of xStart at a step. */
export type Disturb = (xStart: Float32Array, k: number) => Float32Array

/**
 * Walks DDIM from x at step `from` to the image.
 *
 * @param start - [N, C, H, W], float32
 * @param options.eta - share of DDPM's noise, 0 by default; walks of one seed have the same noise at each step
 */
export async function walkDdim(
  denoiser: Denoiser,
  start: Float32Array,
  shape: readonly number[],
  from: number,
  options: {
    readonly replace?: Replace
    readonly disturb?: Disturb
    readonly eta?: number
    readonly seed?: number
    readonly signal?: AbortSignal | undefined
  } = {},
): Promise<DdimTrajectory> {
  const { replace, disturb, eta = 0, seed = 0, signal } = options
  const { device } = denoiser.unet
  const x: Float32Array[] = []
  const xStarts: Float32Array[] = []
  let here = start
  for (let k = from; k >= 0; k--) {
    signal?.throwIfAborted()
    x[k] = here
    const xt = await DeviceTensor.from({ data: here, shape }, device)
    let used = replace?.(here, k)
    if (!used) {
      const { xStart, ...others } = await denoiser.predictXStart(xt, k)
      used = (await xStart.toHost()).data as Float32Array
      for (const tensor of [xStart, ...Object.values(others)]) tensor.dispose()
    }
    if (disturb) used = disturb(used, k)
    xStarts[k] = used
    const xStart = await DeviceTensor.from({ data: used, shape }, device)
    const next = await denoiser.reverseStep({ xt, xStart, k, eta, seed })
    here = (await next.toHost()).data as Float32Array
    for (const tensor of [xt, xStart, next]) tensor.dispose()
  }
  return { x, xStart: xStarts, final: here }
}

/**
 * x at step 0 by the sum that DDIM is, from the predictions of xStart and the noises alone (math.md, eq. 126): the same as `x[0]` up to
 * rounding.
 *
 * @param noiseAt - the unit noise of a step; asked only where the weights have some
 */
export async function openLoopSum(
  { x, xStart }: DdimTrajectory,
  weights: NoisyWeights,
  noiseAt: (k: number) => Promise<Float32Array>,
): Promise<Float64Array> {
  const last = x.length - 1
  const sum = Float64Array.from(x[last]!, (value) => weights.start * value)
  const add = (values: Float32Array, weight: number): void => {
    for (let i = 0; i < sum.length; i++) sum[i]! += weight * values[i]!
  }
  for (let k = last; k >= 1; k--) {
    add(xStart[k]!, weights.xStart[k]!)
    if (weights.noise[k]! > 0) add(await noiseAt(k), weights.noise[k]!)
  }
  return sum
}
