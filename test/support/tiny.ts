import { UNet, type UNetOptions } from '../../lib/model/unet.ts'
import { NoiseSchedule } from '../../lib/schedule/noise-schedule.ts'
import type { ImageBatch } from '../../lib/tensor.ts'
import { Trainer, type TrainerOptions } from '../../lib/training/trainer.ts'

/** Options of the smallest network that has every kind of part. */
export const TINY: UNetOptions = {
  imageChannels: 1,
  modelChannels: 8,
  channelMult: [1, 2],
  resBlockCount: 1,
  attentionResolutions: [2],
  attentionHeads: 2,
  normGroups: 4,
}

/** A tiny trainer on 8x8 images of one channel. */
export async function tinyTrainer(training: TrainerOptions = {}, network: Partial<UNetOptions> = {}) {
  const unet = await UNet.create({ ...TINY, ...network }, { seed: 1 })
  const schedule = NoiseSchedule.create({ name: 'linear' })
  const trainer = await Trainer.create(unet, schedule, { emaRates: [0.9], ...training })
  return { unet, schedule, trainer }
}

/** A deterministic batch of uint8 images. */
export function tinyBatch(count = 4, channels = 1, size = 8): ImageBatch {
  const data = Uint8Array.from(
    { length: count * channels * size * size },
    (_, i) => (i * 37 + (i >> 3) * 11) % 256,
  )
  return { data, shape: [count, channels, size, size] }
}

export const tinyTimesteps = (count = 4): Int32Array =>
  Int32Array.from({ length: count }, (_, i) => (i * 249) % 1000)
