import { argumentError } from './check.ts'
import { type HostData, native } from './native.ts'
import { elementCount, type HostTensor } from './tensor.ts'

/**
 * The tensors of a .safetensors or .pt file, in the file's order. Nothing in the file is executed.
 * Of a .pt that holds several dicts `part` names the one that is read; `inspectWeights` says which it is without it.
 */
export async function readTensors(
  path: string,
  { part = '' }: { readonly part?: string } = {},
): Promise<{ tensors: Map<string, HostTensor>; metadata: Record<string, string> }> {
  const { tensors, metadata } = await native().fileRead(path, part)
  return { tensors: new Map(tensors), metadata }
}

/**
 * Writes tensors as safetensors, whole or not at all; an existing file is replaced only when the new one is complete.
 *
 * @throws RangeError for a name that does not end in .safetensors, under which it could not be read again
 */
export async function writeTensors(
  path: string,
  tensors: ReadonlyMap<string, HostData> | Record<string, HostData>,
  metadata: Record<string, string> = {},
): Promise<void> {
  checkSafetensorsName('writeTensors', 'path', path)
  const list = tensors instanceof Map ? [...tensors] : (Object.entries(tensors) as [string, HostData][])
  for (const [name, { data, shape }] of list) {
    if (data.length !== elementCount(shape)) {
      throw argumentError(
        'writeTensors',
        name,
        `${elementCount(shape)} values for shape [${shape.join(', ')}]`,
        data,
      )
    }
  }
  await native().fileWrite(path, list, metadata)
}

/** @internal Files are read by the ending of their name. */
export function checkSafetensorsName(call: string, name: string, path: string): void {
  if (typeof path === 'string' && path.endsWith('.safetensors')) return
  const kind = typeof path === 'string' ? 'range' : 'type'
  throw argumentError(call, name, 'a file name that ends in .safetensors', path, { kind })
}
