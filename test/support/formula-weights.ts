import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { writeTensors } from '../../lib/checkpoint-file.ts'
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

/** A network whose weights have names and can be loaded. */
interface Loadable {
  parameters(): readonly { readonly name: string; readonly shape: readonly number[] }[]
  loadWeights(path: string): Promise<unknown>
}

/** Gives a network the formula weights, through a file, as a user would. */
export async function loadFormulaWeights(network: Loadable): Promise<void> {
  await loadThroughFile(network, formulaWeights(network.parameters()))
}

/** Gives a network waves: base + 0.08 sin(0.37 i + 0.71 j) at element i of tensor j; base 1 for the weights of norms. */
export async function loadWaveWeights(network: Loadable): Promise<void> {
  const weights = network.parameters().map(({ name, shape }, j): [string, HostData] => {
    const base = shape.length === 1 && name.endsWith('.weight') ? 1 : 0
    const wave = (_: unknown, i: number) => base + 0.08 * Math.sin(0.37 * i + 0.71 * j)
    return [name, { data: Float32Array.from({ length: elementCount(shape) }, wave), shape }]
  })
  await loadThroughFile(network, new Map(weights))
}

/** Gives a network weights by name, through a file. */
export async function loadThroughFile(network: Loadable, weights: Map<string, HostData>): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), 'trislot-formula-'))
  try {
    const path = join(folder, 'weights.safetensors')
    await writeTensors(path, weights)
    await network.loadWeights(path)
  } finally {
    await rm(folder, { recursive: true })
  }
}
