import { argumentError, checkInteger, checkTimesteps } from '../check.ts'
import type { HeadDecision } from '../mixing/policy.ts'
import type { UNet } from '../model/unet.ts'
import { type Choose, type NativeGramBatch, native, type Space } from '../native.ts'
import type { NoiseSchedule } from '../schedule/noise-schedule.ts'
import { checkImages, type ImageBatch } from '../tensor.ts'
import { headInputs } from '../training/head-inputs.ts'
import { conditionsOf, nativeTrainerConfig, type TrainerOptions, trainerConfig } from '../training/trainer.ts'

/** A batch whose gradient is taken. */
export interface GradientBatch {
  readonly images: ImageBatch
  /** [N] timesteps in [0, T). */
  readonly t: Int32Array
  /** [N] factor on each example's loss; 1 by default. */
  readonly weight?: Float32Array
  /** Heads that enter its loss, and in which space, where that is not what training does. */
  readonly choose?: Choose
  readonly space?: Space
  /** What a strategy says about its heads; nothing by default. */
  readonly decision?: HeadDecision
  /** Key of its noise: the image k of batch (seed, step) has the same noise whatever else is in the batch. */
  readonly seed: number
  readonly step: number
}

/** Inner products of gradients. */
export interface GradientGram {
  /** [G, G] inner products of the gradients of mean(weight x loss), row-major; summed in float64. */
  readonly products: Float64Array
  /** [G] mean(weight x loss). */
  readonly loss: Float64Array
}

/**
 * Inner products of the gradients that several batches have on a network; nothing is updated. What cosines, noise scales and shares
 * of a gradient are made of (math.md, eq. 117).
 *
 * Training in float16 is measured in float32: gradients of single images are too small for float16 without a loss scale.
 *
 * Memory: gradients are held as float32, min(G, memoryBytes / (4 x parameters)) of them and one more. With fewer than G,
 * batches are computed again for each block of held ones.
 *
 * @param options.parameters - names of the parameters that count; all by default
 * @param options.memoryBytes - bound on the gradients held; 512 MiB by default
 */
export async function lossGradientGram(
  unet: UNet,
  schedule: NoiseSchedule,
  batches: readonly GradientBatch[],
  options: {
    readonly training?: TrainerOptions
    readonly parameters?: (name: string) => boolean
    readonly memoryBytes?: number
  } = {},
): Promise<GradientGram> {
  const call = 'lossGradientGram'
  const { training: asked = {}, parameters = () => true, memoryBytes = 512 * 2 ** 20 } = options
  const training: TrainerOptions = asked.precision === 'fp16' ? { ...asked, precision: 'fp32' } : asked
  if (batches.length === 0) throw argumentError(call, 'batches', 'at least one batch', batches)
  checkInteger(call, 'memoryBytes', memoryBytes, 1)
  const config = nativeTrainerConfig(call, unet, trainerConfig(training, unet.layout.learnsVariance))
  const list = batches.map((batch, i): NativeGramBatch => {
    const { images, t, weight, choose, space, decision, seed, step } = batch
    const [count] = images.shape
    checkImages(call, `batches[${i}].images`, images)
    checkTimesteps(call, t, schedule.timestepCount, count)
    checkInteger(call, `batches[${i}].seed`, seed, 0)
    checkInteger(call, `batches[${i}].step`, step, 0, 2 ** 32 - 1)
    if (weight && weight.length !== count) {
      throw argumentError(call, `batches[${i}].weight`, `${count} factors`, weight)
    }
    const loss = { ...config.loss, choose: choose ?? config.loss.choose, space: space ?? config.loss.space }
    // Refuses heads that the network has not.
    nativeTrainerConfig(call, unet, { ...trainerConfig(training, unet.layout.learnsVariance), loss })
    unet.checkInput(call, { x: images, t: { data: t, shape: [count] }, ...conditionsOf(images) })
    return {
      images: { data: images.data, shape: images.shape },
      t,
      weight: { data: weight ?? new Float32Array(count).fill(1), shape: [count] },
      ...conditionsOf(images),
      ...(decision && headInputs(call, decision, loss, [count, unet.layout.heads.length])),
      key: { seed, purpose: 'probe', step, firstSample: 0 },
      loss,
    }
  })
  const chosen = unet.parameters().flatMap(({ name }, i) => (parameters(name) ? [i] : []))
  if (chosen.length === 0) throw argumentError(call, 'parameters', 'true for some parameter', 'none of them')
  const held = Math.max(1, Math.min(batches.length, Math.floor(memoryBytes / (4 * unet.parameterCount))))
  return native().lossGradientGram(unet.handle, schedule.handle, config, list, chosen, held)
}
