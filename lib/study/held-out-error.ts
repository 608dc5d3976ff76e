import { argumentError, checkInteger } from '../check.ts'
import { DeviceTensor } from '../device-tensor.ts'
import type { UNet } from '../model/unet.ts'
import { F_HEAD_SIGMA_DATA, type Head } from '../prediction/heads.ts'
import { signalWeights } from '../prediction/signal-weights.ts'
import type { Combine } from '../sampling/denoiser.ts'
import { headWeights } from '../sampling/head-weights.ts'
import type { NoiseSchedule } from '../schedule/noise-schedule.ts'
import { checkImages, type ImageBatch } from '../tensor.ts'
import { spaceFactor } from '../timesteps/weighting.ts'

/** What `heldOutError` measured: how the errors of a network's heads go together, for every timestep and image. */
export interface HeldOutError {
  readonly heads: readonly Head[]
  /** [K] timesteps that were measured. */
  readonly t: Int32Array
  /** [K] those of the process before it was respaced for training: what the network and `combine` are told. */
  readonly timestepMap: Float64Array
  /** [K] signal-to-noise ratio of power, within [1e-12, 1e12] (math.md, eq. 14). */
  readonly snr: Float64Array
  readonly imageCount: number
  /**
   * [K, N, H, H] mean over pixels of the product of two heads' errors in v space, row-major; the diagonal holds the heads'
   * squared errors (math.md, eq. 100).
   */
  readonly products: Float64Array
  /** [K, N, H] mean over pixels of each head's error in xStart: how much too bright it sees the image. */
  readonly brightness: Float64Array
  /**
   * [K, N] mean squared error in v space of the combined prediction after xStart is clipped to [-1, 1], as samplers do. Without
   * it the last timesteps, where eps says next to nothing about xStart, decide the mean of a network that predicts eps.
   */
  readonly clipped: Float64Array
  /** [K, N] the same without clipping, where `combine` was `gate`, which no products of errors tell. */
  readonly gated?: Float64Array
}

/** Options of `heldOutError`. */
export interface HeldOutErrorOptions {
  /** Images that were not trained, [N, C, H, W]. */
  readonly images: ImageBatch
  /** Timesteps to measure, ascending. */
  readonly timesteps: Int32Array
  /** Which prediction of xStart `clipped` is about; `signalWeights` by default. */
  readonly combine?: Combine
  /** Keys the noise: one pattern an image, the same at every timestep and for every network. */
  readonly seed?: number
  /** The network is told t x 1000 / T. */
  readonly rescalesTimesteps?: boolean
  /** Images a forward pass; 64 by default. */
  readonly batchSize?: number
  readonly signal?: AbortSignal | undefined
}

/**
 * Noises images with one frozen pattern each and measures what the network's heads get wrong, for all of them in one
 * forward pass a timestep, so that the error of every combination of heads follows (`combinedError`).
 *
 * @throws RangeError for a network whose head is xPrev, which has no error in v space, and for a `combine` of heads, or of a gate,
 * that it does not have
 */
export async function heldOutError(
  unet: UNet,
  schedule: NoiseSchedule,
  options: HeldOutErrorOptions,
): Promise<HeldOutError> {
  const call = 'heldOutError'
  const { images, timesteps, combine, seed = 0, rescalesTimesteps = false, batchSize = 64, signal } = options
  checkImages(call, 'images', images)
  checkInteger(call, 'batchSize', batchSize, 1)
  const { heads } = unet.layout
  if (heads.includes('xPrev')) throw new RangeError(`${call}: expected heads without xPrev, got xPrev`)
  const [count, channels, height, width] = images.shape
  const { sqrtAlphaBar, sqrtOneMinusAlphaBar, timestepMap } = schedule.tables
  const snr = schedule.tables.snr.map((value) => Math.min(Math.max(value, 1e-12), 1e12))
  const size = channels * height * width
  const square = heads.length ** 2
  const products = new Float64Array(timesteps.length * count * square)
  const brightness = new Float64Array(timesteps.length * count * heads.length)
  const clipped = new Float64Array(timesteps.length * count)
  const gated = combine === 'gate' ? new Float64Array(timesteps.length * count) : undefined
  if (gated && !unet.layout.gate) {
    throw argumentError(call, 'combine', 'another word for a network without a gate', combine)
  }
  const toldScale = rescalesTimesteps ? 1000 / schedule.options.timestepCount : 1

  for (let first = 0; first < count; first += batchSize) {
    const n = Math.min(batchSize, count - first)
    const shape = [n, channels, height, width] as const
    const xStart = slice(images, first, n, size)
    const key = { seed, purpose: 'probe', step: 0, firstSample: first } as const
    const drawn = await DeviceTensor.noise(shape, key)
    const eps = (await drawn.toHost()).data as Float32Array
    drawn.dispose()
    const { labels, lowRes } = images
    const y = labels && { data: labels.slice(first, first + n), shape: [n] }
    const low = lowRes && sliceLowRes(lowRes, first, n)
    const xt = new Float32Array(n * size)
    for (const [k, t] of timesteps.entries()) {
      signal?.throwIfAborted()
      checkInteger(call, `timesteps[${k}]`, t, 0, schedule.timestepCount - 1)
      const alpha = sqrtAlphaBar[t] as number
      const sigma = sqrtOneMinusAlphaBar[t] as number
      for (let i = 0; i < xt.length; i++) xt[i] = alpha * xStart[i]! + sigma * eps[i]!
      const told = timestepMap[t] as number
      const out = await unet.forward({
        x: { data: xt, shape },
        t: { data: new Float32Array(n).fill(told * toldScale), shape: [n] },
        ...(y && { y }),
        ...(low && { lowRes: low }),
      })
      const output = out.data as Float32Array
      const stride = output.length / n
      // Errors are residuals of the outputs, each times the factor that takes it to v space, signs included.
      const scale = Math.hypot(F_HEAD_SIGMA_DATA * alpha, sigma)
      const factors = {
        ...{ xStart: 1 / sigma, v: -1, eps: -1 / Math.max(alpha, 1e-6) },
        ...{ xPrev: 0, F: F_HEAD_SIGMA_DATA / scale },
      }
      const toV = heads.map((head) => factors[head])
      // What each should say, of xStart and eps.
      const targets = {
        ...{ xStart: [1, 0], v: [-sigma, alpha], eps: [0, 1], xPrev: [0, 0] },
        F: [sigma / (F_HEAD_SIGMA_DATA * scale), (-F_HEAD_SIGMA_DATA * alpha) / scale],
      }
      const alphaBar = alpha ** 2
      const fixed = combine === 'gate' ? [] : weightsAt(call, combine, told, snr[t] as number, heads)
      const residual = heads.map(() => new Float64Array(size))
      for (let i = 0; i < n; i++) {
        for (const [h, head] of heads.entries()) {
          const row = residual[h] as Float64Array
          const at = i * stride + h * size
          const [a, b] = targets[head] as [number, number]
          const factor = toV[h] as number
          let sum = 0
          for (let p = 0; p < size; p++) {
            const target = a * xStart[i * size + p]! + b * eps[i * size + p]!
            row[p] = factor * (output[at + p]! - target)
            sum += row[p]!
          }
          brightness[(k * count + first + i) * heads.length + h] = (sigma * sum) / size
        }
        const gate =
          gated && output.subarray((i + 1) * stride - heads.length * height * width, (i + 1) * stride)
        const byPixel = gate && gateWeights(gate, heads, alphaBar)
        let [clippedSum, gatedSum] = [0, 0]
        for (let p = 0; p < size; p++) {
          const weights = byPixel?.[p % (height * width)] ?? fixed
          let error = 0
          for (let h = 0; h < heads.length; h++) error += weights[h]! * residual[h]![p]!
          gatedSum += error ** 2
          const truth = xStart[i * size + p]!
          const seen = Math.min(1, Math.max(-1, truth + sigma * error))
          clippedSum += ((seen - truth) / sigma) ** 2
        }
        clipped[k * count + first + i] = clippedSum / size
        if (gated) gated[k * count + first + i] = gatedSum / size
        const place = (k * count + first + i) * square
        for (let g = 0; g < heads.length; g++) {
          for (let h = g; h < heads.length; h++) {
            const [left, right] = [residual[g] as Float64Array, residual[h] as Float64Array]
            let sum = 0
            for (let p = 0; p < size; p++) sum += left[p]! * right[p]!
            products[place + g * heads.length + h] = products[place + h * heads.length + g] = sum / size
          }
        }
      }
    }
  }
  const at = (table: Float64Array): Float64Array => Float64Array.from(timesteps, (t) => table[t] as number)
  return {
    heads,
    t: timesteps,
    timestepMap: at(timestepMap),
    snr: at(snr),
    imageCount: count,
    products,
    brightness,
    clipped,
    ...(gated && { gated }),
  }
}

/** Weights of the heads at each pixel, from a gate's raw values [heads, pixels]: a softmax with the signal as its prior (math.md, "Gate"). */
function gateWeights(gate: Float32Array, heads: readonly Head[], alphaBar: number): number[][] {
  const pixels = gate.length / heads.length
  const prior = signalWeights(alphaBar, heads)
  return Array.from({ length: pixels }, (_, p) => {
    const values = heads.map((_, h) => gate[h * pixels + p] as number)
    const largest = Math.max(...values)
    const parts = heads.map((head, h) => (prior[head] ?? 0) * Math.exp((values[h] as number) - largest))
    const sum = parts.reduce((a, b) => a + b, 0)
    return parts.map((part) => part / sum)
  })
}

/** How `combinedError` reads what was measured. */
export interface CombinedErrorOptions {
  /** Which prediction of xStart; `signalWeights` by default. */
  readonly combine?: Combine
  /** Standard deviation of the pixels, for F; 0.5 by default. */
  readonly sigmaData?: number
  /** How many of the images, from the first; all by default. */
  readonly imageCount?: number
}

/**
 * Mean squared error of a combination of heads at each measured timestep.
 *
 * @param space - v, or EDM's F: v times (snr + 1 / sigmaData^2) / (snr + 1)
 * @returns [K]
 */
export function combinedError(
  measured: HeldOutError,
  space: 'v' | 'F',
  options: CombinedErrorOptions = {},
): Float64Array {
  const call = 'combinedError'
  const { heads, timestepMap, snr, products } = measured
  const { combine, sigmaData = 0.5, imageCount = measured.imageCount } = options
  checkInteger(call, 'imageCount', imageCount, 1, measured.imageCount)
  if (combine === 'gate') {
    if (!measured.gated) throw argumentError(call, 'combine', 'what was measured: no gate was', combine)
    return meanOverImages({ ...measured, errors: measured.gated }, space, { sigmaData, imageCount })
  }
  const H = heads.length
  return Float64Array.from(timestepMap, (told, k) => {
    const w = weightsAt(call, combine, told, snr[k] as number, heads)
    let sum = 0
    for (let i = 0; i < imageCount; i++) {
      const place = (k * measured.imageCount + i) * H * H
      for (let g = 0; g < H; g++)
        for (let h = 0; h < H; h++) sum += w[g]! * w[h]! * products[place + g * H + h]!
    }
    return (sum / imageCount) * fromV(space, snr[k] as number, sigmaData)
  })
}

/** As `combinedError`, of the combination that was clipped to [-1, 1]; [K]. */
export function clippedError(
  measured: HeldOutError,
  space: 'v' | 'F',
  options: Omit<CombinedErrorOptions, 'combine'> = {},
): Float64Array {
  return meanOverImages({ ...measured, errors: measured.clipped }, space, options)
}

/** Means of errors in v space, [K, N], over the first images; [K]. */
function meanOverImages(
  {
    t,
    snr,
    errors,
    imageCount: count,
  }: Pick<HeldOutError, 't' | 'snr' | 'imageCount'> & { readonly errors: Float64Array },
  space: 'v' | 'F',
  { sigmaData = 0.5, imageCount = count }: Omit<CombinedErrorOptions, 'combine'>,
): Float64Array {
  return Float64Array.from(t, (_, k) => {
    let sum = 0
    for (let i = 0; i < imageCount; i++) sum += errors[k * count + i]!
    return (sum / imageCount) * fromV(space, snr[k] as number, sigmaData)
  })
}

/** What an error of 1 in v is in a space (math.md, eq. 14). */
export function fromV(space: 'v' | 'F', snr: number, sigmaData: number): number {
  return spaceFactor(space, snr, sigmaData) / spaceFactor('v', snr)
}

function weightsAt(
  call: string,
  combine: Exclude<Combine, 'gate'> | undefined,
  told: number,
  snr: number,
  heads: readonly Head[],
): number[] {
  const chosen =
    typeof combine === 'function' ? combine(told) : (combine ?? signalWeights(snr / (1 + snr), heads))
  if (chosen === 'gate') throw argumentError(call, 'combine', 'gate at all timesteps or at none', chosen)
  return headWeights(call, chosen, heads)
}

/**
 * Timesteps at which networks are compared: the first, the last, and between them the quantiles of log snr when t is
 * uniform, or as many steps of equal log snr.
 *
 * @param spacing - `quantiles`: the mean over them is nearly the mean over uniform t (its ends count twice); `logSnr`: every octave of noise counts the same
 */
export function comparedTimesteps(
  schedule: NoiseSchedule,
  count: number,
  spacing: 'quantiles' | 'logSnr' = 'quantiles',
): Int32Array {
  const call = 'comparedTimesteps'
  const last = schedule.timestepCount - 1
  checkInteger(call, 'count', count, 2, schedule.timestepCount)
  const share = Array.from({ length: count }, (_, i) => i / (count - 1))
  if (spacing === 'quantiles') return Int32Array.from(share, (u) => Math.round(u * last))
  const logSnr = Array.from(schedule.tables.snr, (snr) => Math.log(Math.max(snr, 1e-20)))
  const [top, bottom] = [logSnr[0] as number, logSnr[last] as number]
  const found = share.map((u) => {
    const wanted = top + u * (bottom - top)
    const after = logSnr.findIndex((value) => value <= wanted)
    if (after <= 0) return after === 0 ? 0 : last
    return logSnr[after - 1]! - wanted < wanted - logSnr[after]! ? after - 1 : after
  })
  for (let i = 1; i < count; i++) found[i] = Math.max(found[i]!, found[i - 1]! + 1)
  for (let i = count - 1; i >= 0; i--) found[i] = Math.min(found[i]!, last - (count - 1 - i))
  return Int32Array.from(found)
}

/** Images [first, first + n) as numbers in [-1, 1]. */
function slice({ data }: Pick<ImageBatch, 'data'>, first: number, n: number, size: number): Float32Array {
  const part = data.subarray(first * size, (first + n) * size)
  return part instanceof Uint8Array ? Float32Array.from(part, (value) => value / 127.5 - 1) : part
}

function sliceLowRes(lowRes: NonNullable<ImageBatch['lowRes']>, first: number, n: number) {
  const [, c, h, w] = lowRes.shape
  const data = slice(lowRes, first, n, c * h * w)
  return { data, shape: [n, c, h, w] as const }
}
