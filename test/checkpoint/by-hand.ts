// Checkpoint files made and read without the library, byte by byte.
import { zipSync } from 'fflate'
import { elementCount } from '../../lib/tensor.ts'

/** A safetensors file of any header, true or not, before `data`. */
export function safetensors(header: string | object, data: Uint8Array | number = 0): Buffer {
  const text = Buffer.from(typeof header === 'string' ? header : JSON.stringify(header))
  const length = Buffer.alloc(8)
  length.writeBigUInt64LE(BigInt(text.length))
  return Buffer.concat([length, text, typeof data === 'number' ? Buffer.alloc(data, 1) : data])
}

/** A tensor as a safetensors file has it. */
export interface RawTensor {
  readonly dtype: string
  readonly shape: readonly number[]
  readonly bytes: Buffer
}

/** The whole of a safetensors file, by JSON.parse: an independent reader. */
export function parseSafetensors(file: Buffer): {
  readonly tensors: Map<string, RawTensor>
  readonly metadata: Record<string, string>
  readonly dataBegin: number
} {
  const dataBegin = 8 + Number(file.readBigUInt64LE())
  const { __metadata__: metadata = {}, ...entries } = JSON.parse(file.toString('utf8', 8, dataBegin))
  const tensors = new Map<string, RawTensor>()
  for (const [name, { dtype, shape, data_offsets }] of Object.entries<{
    dtype: string
    shape: number[]
    data_offsets: [number, number]
  }>(entries)) {
    const [begin, end] = data_offsets
    tensors.set(name, { dtype, shape, bytes: file.subarray(dataBegin + begin, dataBegin + end) })
  }
  return { tensors, metadata, dataBegin }
}

/** What torch.save writes for an OrderedDict of float32 tensors. */
export function torchFile(
  tensors: readonly {
    readonly name: string
    readonly shape: readonly number[]
    readonly data: Float32Array
  }[],
): Uint8Array {
  const text = (value: string) =>
    Buffer.concat([Buffer.from('X'), int32(Buffer.byteLength(value)), Buffer.from(value)])
  const number = (value: number) => Buffer.concat([Buffer.from('J'), int32(value)])
  const tuple = (...items: Buffer[]) => Buffer.concat([Buffer.from('('), ...items, Buffer.from('t')])
  const global = (name: string) => Buffer.from(`c${name.replace(/\.(?=\w+$)/, '\n')}\n`)
  const emptyDict = Buffer.concat([global('collections.OrderedDict'), Buffer.from(')R')])

  const entries: Record<string, Uint8Array> = {}
  const items = tensors.flatMap(({ name, shape, data }, i) => {
    entries[`top/data/${i}`] = new Uint8Array(data.buffer, data.byteOffset, data.byteLength)
    const storage = tuple(
      text('storage'),
      global('torch.FloatStorage'),
      text(`${i}`),
      text('cpu'),
      number(data.length),
    )
    const strides = shape.map((_, axis) => number(elementCount(shape.slice(axis + 1))))
    const view = [number(0), tuple(...shape.map(number)), tuple(...strides), Buffer.from([0x89]), emptyDict]
    const rebuilt = tuple(Buffer.concat([storage, Buffer.from('Q')]), ...view)
    return [text(name), global('torch._utils._rebuild_tensor_v2'), rebuilt, Buffer.from('R')]
  })
  const pickle = [Buffer.from([0x80, 2]), emptyDict, Buffer.from('('), ...items, Buffer.from('u.')]
  return zipSync({ 'top/data.pkl': Buffer.concat(pickle), ...entries }, { level: 0 })
}

function int32(value: number): Buffer {
  const bytes = Buffer.alloc(4)
  bytes.writeInt32LE(value)
  return bytes
}
