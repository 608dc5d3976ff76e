import { open } from 'node:fs/promises'
import { elementCount } from '../../lib/tensor.ts'

/** A safetensors file of float32 zeros that takes no room on the disk: its data is a hole. */
export async function sparseFile(
  path: string,
  tensors: readonly { readonly name: string; readonly shape: readonly number[] }[],
): Promise<void> {
  let end = 0
  const header = Object.fromEntries(
    tensors.map(({ name, shape }) => {
      const begin = end
      end += 4 * elementCount(shape)
      return [name, { dtype: 'F32', shape, data_offsets: [begin, end] }]
    }),
  )
  const text = Buffer.from(JSON.stringify(header))
  const length = Buffer.alloc(8)
  length.writeBigUInt64LE(BigInt(text.length))
  const file = await open(path, 'w')
  await file.write(Buffer.concat([length, text]))
  await file.truncate(8 + text.length + end)
  await file.close()
}
