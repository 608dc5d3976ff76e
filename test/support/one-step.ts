import { dirname } from 'node:path'
import { UNet } from '../../lib/model/unet.ts'
import { NoiseSchedule } from '../../lib/schedule/noise-schedule.ts'
import { loadCheckpoint } from '../../lib/training/checkpoint.ts'
import { Trainer } from '../../lib/training/trainer.ts'

/** A small trainer that has done some steps. */
export async function smallTrainer(steps: number): Promise<Trainer> {
  const unet = await UNet.create(
    { imageChannels: 1, modelChannels: 16, normGroups: 8, channelMult: [1, 2], resBlockCount: 1 },
    { seed: 3 },
  )
  const schedule = NoiseSchedule.create({ name: 'cosine', timestepCount: 50 })
  const trainer = await Trainer.create(unet, schedule, { emaRates: [0.9, 0.9995], seed: 3 })
  for (let i = 0; i < steps; i++) await oneStep(trainer)
  return trainer
}

/** One step on fixed pictures. */
export async function oneStep(trainer: Trainer, weight?: Float32Array): Promise<void> {
  const images = {
    data: Uint8Array.from({ length: 128 }, (_, i) => (i * 37) % 256),
    shape: [2, 1, 8, 8] as const,
  }
  await trainer.trainStep({ images, t: Int32Array.of(3, 40), lr: 1e-3, ...(weight && { weight }) })
}

/** A checkpoint's trainer, one step on, and its run's folder. */
export async function checkpointOf(folder: string): Promise<{ trainer: Trainer; run: string }> {
  const { trainer } = await loadCheckpoint(folder)
  await oneStep(trainer)
  return { trainer, run: dirname(dirname(folder)) }
}
