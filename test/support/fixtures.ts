import { readFileSync } from 'node:fs'
import { readTensors } from '../../lib/checkpoint-file.ts'
import type { HostTensor } from '../../lib/tensor.ts'

const folder = new URL('../fixtures/', import.meta.url)

/** The path of a file of test/fixtures. */
export function fixturePath(name: string): string {
  return new URL(name, folder).pathname
}

// biome-ignore lint/suspicious/noExplicitAny: fixtures are described in test/fixtures/README.md
export function fixtureJson(name: string): any {
  return JSON.parse(readFileSync(fixturePath(name), 'utf8'))
}

/** The tensors of a fixture by name; a name that is not there is an error of the test. */
export async function fixtureTensors(name: string): Promise<(tensor: string) => HostTensor> {
  const { tensors } = await readTensors(fixturePath(name))
  return (tensor) => {
    const found = tensors.get(tensor)
    if (!found)
      throw new Error(`${name} holds no ${tensor}; it holds ${[...tensors.keys()].slice(0, 20).join(', ')}`)
    return found
  }
}

/** The numbers of a tensor whatever its integer type. */
export function numbers(tensor: HostTensor): Float64Array {
  return Float64Array.from(tensor.data as ArrayLike<number | bigint>, Number)
}

export function float32(tensor: HostTensor): Float32Array {
  return tensor.data as Float32Array
}

export function int32(tensor: HostTensor): Int32Array {
  return Int32Array.from(numbers(tensor))
}
