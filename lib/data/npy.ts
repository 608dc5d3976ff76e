import { DataError } from '../errors.ts'

/** An array as numpy stores it, C order. */
export interface NpyArray {
  readonly data: Uint8Array | Float32Array | Float64Array | Int32Array | BigInt64Array
  readonly shape: readonly number[]
}

const TYPES = {
  '|u1': Uint8Array,
  '<f4': Float32Array,
  '<f8': Float64Array,
  '<i4': Int32Array,
  '<i8': BigInt64Array,
} as const

/** A type of values, as numpy writes it: the last character is their bytes. */
export type NpyType = keyof typeof TYPES

/** What the header of an .npy file says. */
export interface NpyHeader {
  readonly type: NpyType
  readonly shape: readonly number[]
  /** Bytes before the values. */
  readonly length: number
}

/**
 * Reads the header of an .npy file, format 1.0 or 2.0: magic, version, header length, a Python dict.
 *
 * @param bytes - the beginning of the file, with the whole header
 * @param where - names the array in messages
 * @throws DataError for Fortran order, objects and unknown types
 */
export function readNpyHeader(call: string, where: string, bytes: Uint8Array): NpyHeader {
  const fail = (what: string, got: unknown) => new DataError(`${call}: expected ${where} ${what}, got ${got}`)
  const buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  if (buffer.length < 10 || buffer.toString('latin1', 0, 6) !== '\x93NUMPY') {
    throw fail('to start with the magic of .npy', JSON.stringify(buffer.toString('latin1', 0, 6)))
  }
  const version = `${buffer[6]}.${buffer[7]}`
  if (version !== '1.0' && version !== '2.0') throw fail('to be .npy format 1.0 or 2.0', version)
  const begin = version === '1.0' ? 10 : 12
  if (buffer.length < begin) throw fail(`to have a header length`, `${buffer.length} bytes`)
  const headerLength = version === '1.0' ? buffer.readUInt16LE(8) : buffer.readUInt32LE(8)
  if (begin + headerLength > buffer.length) {
    throw fail(`to have a header of ${headerLength} bytes`, `${buffer.length - begin} bytes`)
  }
  const header = buffer.toString('latin1', begin, begin + headerLength).trim()
  const descr = /'descr':\s*'([^']*)'/.exec(header)?.[1]
  const order = /'fortran_order':\s*(True|False)/.exec(header)?.[1]
  const sides = /'shape':\s*\(([\d,\sL]*)\)/.exec(header)?.[1]
  if (descr === undefined || order === undefined || sides === undefined) {
    throw fail('to have descr, fortran_order and shape in its header', header.slice(0, 80))
  }
  if (descr.includes('O')) throw fail('to hold numbers', `Python objects (${descr}), which could run code`)
  if (!Object.hasOwn(TYPES, descr))
    throw fail(`to have one of the types ${Object.keys(TYPES).join(', ')}`, descr)
  if (order === 'True') throw fail('to be in C order', 'Fortran order; save np.ascontiguousarray(x)')
  const shape = sides.split(',').flatMap((side) => (side.trim() === '' ? [] : [Number.parseInt(side, 10)]))
  return { type: descr as NpyType, shape, length: begin + headerLength }
}

/**
 * Reads an .npy file.
 *
 * @param where - names the array in messages
 * @throws DataError as `readNpyHeader`, and for lengths that do not fit
 */
export function readNpy(call: string, where: string, bytes: Uint8Array): NpyArray {
  const { type, shape, length } = readNpyHeader(call, where, bytes)
  const Type = TYPES[type]
  const count = shape.reduce((product, side) => product * side, 1)
  const dataBytes = bytes.length - length
  if (dataBytes !== count * Type.BYTES_PER_ELEMENT) {
    const what = `to hold ${count * Type.BYTES_PER_ELEMENT} bytes for shape (${shape.join(', ')}) of ${type}`
    throw new DataError(`${call}: expected ${where} ${what}, got ${dataBytes} bytes`)
  }
  const start = bytes.byteOffset + length
  const aligned = start % Type.BYTES_PER_ELEMENT === 0
  const data = aligned
    ? new Type(bytes.buffer as ArrayBuffer, start, count)
    : new Type(bytes.slice(length).buffer, 0, count)
  return { data, shape }
}

/** Writes format 1.0, as `np.save` does. */
export function writeNpy({ data, shape }: NpyArray): Uint8Array {
  return Buffer.concat([npyHeader(npyType(data), shape), bytesOf(data)])
}

/** What numpy calls the type of an array. */
export function npyType(data: NpyArray['data']): NpyType {
  return Object.keys(TYPES).find((key) => data instanceof TYPES[key as NpyType]) as NpyType
}

/** The bytes of an array, not copied. */
export function bytesOf(data: NpyArray['data']): Uint8Array {
  return new Uint8Array(data.buffer, data.byteOffset, data.byteLength)
}

/** What stands before the values: magic, version, a Python dict padded to a multiple of 64 bytes. */
export function npyHeader(type: NpyType, shape: readonly number[]): Uint8Array {
  const sides = shape.length === 1 ? `${shape[0]},` : shape.join(', ')
  const dict = `{'descr': '${type}', 'fortran_order': False, 'shape': (${sides}), }`
  const length = Math.ceil((10 + dict.length + 1) / 64) * 64
  const out = Buffer.alloc(length)
  out.write('\x93NUMPY\x01\x00', 'latin1')
  out.writeUInt16LE(length - 10, 8)
  out.write(`${dict.padEnd(length - 11)}\n`, 10, 'latin1')
  return out
}
