import { DeviceTensor } from '../device-tensor.ts'
import type { Denoiser } from '../sampling/denoiser.ts'
import { openLoopWeights } from './replacement-windows.ts'

/** A deterministic DDIM walk with everything that it met. */
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
 * Walks DDIM with eta 0 from x at step `from` to the image.
 *
 * @param start - [N, C, H, W], float32
 */
export async function walkDdim(
  denoiser: Denoiser,
  start: Float32Array,
  shape: readonly number[],
  from: number,
  options: {
    readonly replace?: Replace
    readonly disturb?: Disturb
    readonly signal?: AbortSignal | undefined
  } = {},
): Promise<DdimTrajectory> {
  const { replace, disturb, signal } = options
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
    const next = await denoiser.reverseStep({ xt, xStart, k, eta: 0, seed: 0 })
    here = (await next.toHost()).data as Float32Array
    for (const tensor of [xt, xStart, next]) tensor.dispose()
  }
  return { x, xStart: xStarts, final: here }
}

/**
 * x at step 0 by the sum that DDIM is, from the predictions of xStart alone (math.md, eq. 123): the same as `x[0]` up to rounding.
 *
 * @param snr - of the process, [K]
 * @param alphaBar - of the process, [K]
 */
export function openLoopSum(
  { x, xStart }: DdimTrajectory,
  snr: Float64Array,
  alphaBar: Float64Array,
): Float64Array {
  const weights = openLoopWeights('xStart', snr)
  const last = snr.length - 1
  const sum = Float64Array.from(x[last]!, (value) => value / Math.sqrt(1 - alphaBar[last]!))
  for (let k = last; k >= 1; k--) {
    const prediction = xStart[k]!
    for (let i = 0; i < sum.length; i++) sum[i]! += weights[k]! * prediction[i]!
  }
  const sigma = Math.sqrt(1 - alphaBar[0]!)
  return sum.map((value) => sigma * value)
}
