import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { writeTensors } from '../../lib/checkpoint-file.ts'
import type { UNet } from '../../lib/model/unet.ts'
import type { HostData } from '../../lib/native.ts'
import { elementCount } from '../../lib/tensor.ts'

/** Gives tensor j of the state dict the weights base + 0.08 sin(0.37 i + 0.71 j); base is 1 for the scales of norms, else 0. */
export async function loadSineWeights(unet: UNet): Promise<void> {
  const weights: Record<string, HostData> = {}
  for (const [j, { name, shape }] of unet.parameters().entries()) {
    const base = shape.length === 1 && name.endsWith('weight') ? 1 : 0
    const data = Float32Array.from(
      { length: elementCount(shape) },
      (_, i) => base + 0.08 * Math.sin(0.37 * i + 0.71 * j),
    )
    weights[name] = { data, shape }
  }
  const folder = await mkdtemp(join(tmpdir(), 'trislot-sine-'))
  try {
    const file = join(folder, 'weights.safetensors')
    await writeTensors(file, weights)
    await unet.loadWeights(file)
  } finally {
    await rm(folder, { recursive: true })
  }
}
