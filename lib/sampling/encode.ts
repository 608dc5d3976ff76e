import { argumentError, checkFinite } from '../check.ts'
import { DeviceTensor } from '../device-tensor.ts'
import { native, type TensorHandle } from '../native.ts'
import { checkImages, elementCount, type ImageBatch, type ImageShape } from '../tensor.ts'
import type { Denoiser } from './denoiser.ts'

/** What `encode` and `decode` share. */
interface WalkOptions {
  /** Network and process; more steps make the round trip closer. `clip: false` is needed for it to be one. */
  readonly denoiser: Denoiser
  /** Called after each step. */
  readonly onStep?: (progress: { readonly done: number; readonly total: number; readonly t: number }) => void
  /** Stops between two steps by throwing the signal's reason. */
  readonly signal?: AbortSignal
}

/** Options of `encode`. */
export interface EncodeOptions extends WalkOptions {
  /** Images to encode, [N, C, H, W]; classes and low-resolution twins are the denoiser's. */
  readonly images: ImageBatch
}

/** Options of `decode`. */
export interface DecodeOptions extends WalkOptions {
  /** What `encode` gave, [N, C, H, W]. */
  readonly latents: Float32Array
  readonly shape: ImageShape
}

/**
 * Walks images to the noise that DDIM without noise (eta 0) would make them from: `ddim_reverse_sample` at every step of
 * the process but the last (math.md, after eq. 11; DDIM, section 4.3). The images count as step 0, which holds hardly any
 * noise.
 *
 * The way back, `decode`, ends near the images: each step takes the prediction at its beginning for the whole step, so the
 * error falls in proportion to the number of steps. A clipped prediction cannot be walked back: make the denoiser with
 * `clip: false`.
 *
 * @returns [N, C, H, W] at the noisiest step, in about the standard normal distribution for images like those of training
 *
 * @example
 * const denoiser = new Denoiser(unet, schedule.respace('250'), { clip: false })
 * const latents = await encode({ denoiser, images })
 * const again = await decode({ denoiser, latents, shape: images.shape })
 */
export async function encode(options: EncodeOptions): Promise<Float32Array> {
  const { denoiser, images } = options
  checkImages('encode', 'images', images)
  const { process } = denoiser
  const steps = Array.from({ length: process.timestepCount - 1 }, (_, k) => k)
  const start = { data: images.data, shape: images.shape }
  return walk('encode', start, steps, options, (xStart, xt, k) =>
    native().reverseEncode(process.handle, xStart.handle, xt.handle, k),
  )
}

/**
 * Makes images of the noise that `encode` gave: DDIM with eta 0 from a given start.
 *
 * @returns float32 in about [-1, 1], [N, C, H, W]
 */
export async function decode(options: DecodeOptions): Promise<Float32Array> {
  const { denoiser, latents, shape } = options
  const call = 'decode'
  if (!(latents instanceof Float32Array) || latents.length !== elementCount(shape)) {
    const what = `a Float32Array of ${elementCount(shape)} numbers for shape [${shape.join(', ')}]`
    throw argumentError(call, 'latents', what, latents, { kind: 'type' })
  }
  checkFinite(call, 'latents', latents)
  const { process } = denoiser
  const steps = Array.from({ length: process.timestepCount }, (_, i) => process.timestepCount - 1 - i)
  return walk(call, { data: latents, shape }, steps, options, (xStart, xt, k) =>
    native().reverseDdim(process.handle, xStart.handle, xt.handle, undefined, 0, k),
  )
}

async function walk(
  call: string,
  start: { readonly data: Uint8Array | Float32Array; readonly shape: ImageShape },
  steps: readonly number[],
  { denoiser, onStep, signal }: WalkOptions,
  step: (xStart: DeviceTensor, xt: DeviceTensor, k: number) => Promise<TensorHandle>,
): Promise<Float32Array> {
  denoiser.unet.checkImageShape(call, start.shape)
  let xt = await DeviceTensor.from(start, denoiser.unet.device)
  try {
    for (const [i, k] of steps.entries()) {
      signal?.throwIfAborted()
      const said = await denoiser.predictXStart(xt, k)
      let next: DeviceTensor
      try {
        next = new DeviceTensor(await step(said.xStart, xt, k))
      } finally {
        for (const tensor of Object.values(said)) tensor.dispose()
      }
      xt.dispose()
      xt = next
      onStep?.({ done: i + 1, total: steps.length, t: denoiser.process.tables.timestepMap[k] as number })
    }
    return (await xt.toHost()).data as Float32Array
  } finally {
    xt.dispose()
  }
}
