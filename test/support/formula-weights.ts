import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { writeTensors } from '../../lib/checkpoint-file.ts'
import type { UNet } from '../../lib/model/unet.ts'
import type { HostData } from '../../lib/native.ts'
import { elementCount } from '../../lib/tensor.ts'

/** Weights by formula instead of by file: test/fixtures/README.md. `parameters` in state-dict order. */
export function formulaWeights(
  parameters: readonly { readonly name: string; readonly shape: readonly number[] }[],
): Map<string, HostData> {
  const weights = new Map<string, HostData>()
  let n = 0n
  for (const { name, shape } of parameters) {
    const count = elementCount(shape)
    const data = new Float32Array(count)
    const bound = Math.sqrt(3 / (count / (shape[0] as number)))
    for (let i = 0; i < count; i++, n++) {
      const u = hash(n) / 2 ** 31 - 1
      data[i] = shape.length >= 2 ? u * bound : name.endsWith('weight') ? 1 + 0.1 * u : 0.1 * u
    }
    weights.set(name, { data, shape })
  }
  return weights
}

function hash(n: bigint): number {
  let h = Number((n * 2654435761n) & 0xffffffffn)
  h = (h ^ (h >>> 16)) >>> 0
  h = Math.imul(h, 0x45d9f3b) >>> 0
  return (h ^ (h >>> 16)) >>> 0
}

/** Gives a network the formula weights, through a file, as a user would. */
export async function loadFormulaWeights(unet: UNet): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), 'trislot-formula-'))
  try {
    const path = join(folder, 'weights.safetensors')
    await writeTensors(path, formulaWeights(unet.parameters()))
    await unet.loadWeights(path)
  } finally {
    await rm(folder, { recursive: true })
  }
}
