import { spawnSync } from 'node:child_process'
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect } from 'chai'
import { readTensors, writeTensors } from '../../lib/checkpoint-file.ts'
import { CheckpointError } from '../../lib/errors.ts'
import type { HostData } from '../../lib/native.ts'
import { fixturePath } from '../support/fixtures.ts'
import { rejection } from '../support/rejection.ts'
import { parseSafetensors, safetensors } from './by-hand.ts'

const EVERY_TYPE: Record<string, HostData> = {
  uint8: { data: Uint8Array.of(0, 1, 255), shape: [3] },
  int32: { data: Int32Array.of(-(2 ** 31), 7), shape: [2, 1] },
  int64: { data: BigInt64Array.of(-(2n ** 63n), 2n ** 63n - 1n), shape: [1, 2] },
  float32: { data: Float32Array.of(-0, 1e-45, Number.NaN, Number.NEGATIVE_INFINITY), shape: [2, 1, 2] },
  float64: { data: Float64Array.of(0.1, 1e308), shape: [2] },
  scalar: { data: Float32Array.of(2.5), shape: [] },
  empty: { data: new Float32Array(), shape: [0, 3] },
  'день "\\\n': { data: Uint8Array.of(9), shape: [1] },
}

describe('safetensors files', () => {
  let folder: string
  let path: string

  before(async () => {
    folder = await mkdtemp(join(tmpdir(), 'trislot-safetensors-'))
    path = join(folder, 'file.safetensors')
  })
  after(() => rm(folder, { recursive: true }))

  /** What is wrong with a file of these bytes, without the call and the path. */
  async function refusal(bytes: Uint8Array): Promise<string> {
    const hostile = join(folder, 'hostile.safetensors')
    await writeFile(hostile, bytes)
    const error = await rejection(readTensors(hostile))
    expect(error).to.be.instanceOf(CheckpointError)
    expect((error as CheckpointError).file).to.equal(hostile)
    const call = `readSafetensors("${hostile}"): `
    expect(error.message.slice(0, call.length)).to.equal(call)
    return error.message.slice(call.length)
  }

  describe('that are written', () => {
    it('come back with every type, shape, name and bit, in order', async () => {
      const metadata = { format: 'trislot', 'odd "\\\u0001': 'день \n\t😀' }
      await writeTensors(path, EVERY_TYPE, metadata)
      const back = await readTensors(path)
      expect(back.metadata).to.deep.equal(metadata)
      expect([...back.tensors.keys()]).to.deep.equal(Object.keys(EVERY_TYPE))
      for (const [name, { data, shape }] of Object.entries(EVERY_TYPE)) {
        const found = back.tensors.get(name)!
        expect(found.shape, name).to.deep.equal(shape)
        expect(found.data.constructor, name).to.equal(data.constructor)
        expect(Buffer.from(found.data.buffer), name).to.deep.equal(Buffer.from(data.buffer))
      }
    })

    it('read alike by an independent reader, with data at a multiple of eight', async () => {
      await writeTensors(path, new Map(Object.entries(EVERY_TYPE)), { key: 'value' })
      const { tensors, metadata, dataBegin } = parseSafetensors(await readFile(path))
      expect(dataBegin % 8).to.equal(0)
      expect(metadata).to.deep.equal({ key: 'value' })
      expect([...tensors].map(([name, { dtype, shape }]) => [name, dtype, shape])).to.deep.equal([
        ['uint8', 'U8', [3]],
        ['int32', 'I32', [2, 1]],
        ['int64', 'I64', [1, 2]],
        ['float32', 'F32', [2, 1, 2]],
        ['float64', 'F64', [2]],
        ['scalar', 'F32', []],
        ['empty', 'F32', [0, 3]],
        ['день "\\\n', 'U8', [1]],
      ])
      for (const [name, { data }] of Object.entries(EVERY_TYPE)) {
        expect(tensors.get(name)!.bytes, name).to.deep.equal(Buffer.from(data.buffer))
      }
    })

    it('have the same bytes for the same tensors, whatever the order of the metadata', async () => {
      await writeTensors(path, EVERY_TYPE, { a: '1', b: '2' })
      const first = await readFile(path)
      await writeTensors(path, EVERY_TYPE, { b: '2', a: '1' })
      expect(await readFile(path)).to.deep.equal(first)
    })

    it('may hold no tensors', async () => {
      await writeTensors(path, {})
      expect(await readFile(path)).to.deep.equal(safetensors('{}      '))
      expect((await readTensors(path)).tensors.size).to.equal(0)
    })

    it('are refused under a name by which they could not be read', async () => {
      const file = join(folder, 'x.pt')
      const error = await rejection(writeTensors(file, {}))
      expect(error).to.be.instanceOf(RangeError)
      expect(error.message).to.equal(
        `writeTensors: expected path to be a file name that ends in .safetensors, got "${file}"`,
      )
      expect(await readdir(folder)).to.not.include('x.pt')
    })

    it('are refused when data and shape differ', async () => {
      const odd = { odd: { data: new Float32Array(3), shape: [2, 2] } }
      expect((await rejection(writeTensors(path, odd))).message).to.match(
        /^writeTensors: expected odd to be 4 values for shape \[2, 2\], got /,
      )
    })

    describe('but fail', () => {
      let old: Buffer

      beforeEach(async () => {
        await rm(path, { force: true })
        await writeTensors(path, { old: EVERY_TYPE.float32! })
        old = await readFile(path)
      })
      afterEach(async () => {
        expect(await readFile(path), 'the old file').to.deep.equal(old)
        expect((await readdir(folder)).filter((name) => name.endsWith('.partial'))).to.deep.equal([])
      })

      it('leave the old file and nothing else after a name that the format keeps for itself', async () => {
        const error = await rejection(writeTensors(path, { __metadata__: EVERY_TYPE.uint8! }))
        expect(error).to.be.instanceOf(CheckpointError)
        expect(error.message).to.equal(
          `writeSafetensors("${path}"): expected a name that the format leaves free, got "__metadata__"`,
        )
        expect((error as CheckpointError).file).to.equal(path)
      })

      it('leave the old file and nothing else when the disk is full', () => {
        // Near enough: no file of the child may grow beyond some megabytes.
        const source = `
          import { writeTensors } from '${new URL('../../lib/checkpoint-file.ts', import.meta.url).pathname}'
          const big = { data: new Uint8Array(2 ** 24), shape: [2 ** 24] }
          await writeTensors(${JSON.stringify(path)}, { big }).catch((error) => console.log(error.message))`
        const command = ['--import', 'tsx', '--input-type=module', '--eval', source]
        const limited = ['-c', 'ulimit -f 8192; exec "$0" "$@"', process.execPath, ...command]
        const { stdout } = spawnSync('sh', limited, { encoding: 'utf8' })
        expect(stdout.startsWith(`writeSafetensors("${path}"): expected to write `), stdout).to.equal(true)
        expect(stdout).to.match(/ bytes more, got File too large\n$/)
      })

      it('leave the old file when the path has a zero byte, where the system would end it', async () => {
        for (const call of [
          writeTensors(`${path}\0.safetensors`, {}),
          readTensors(`${path}\0.safetensors`),
        ]) {
          const error = await rejection(call)
          expect(error).to.be.instanceOf(CheckpointError)
          expect(error.message).to.match(/Safetensors: expected a path without zero bytes, got ".*x00/)
        }
      })

      it('name a folder that is a file', async () => {
        const below = join(path, 'x.safetensors')
        const error = await rejection(writeTensors(below, {}))
        const [start, end] = [`writeSafetensors("${below}"): expected to create "`, '", got Not a directory']
        expect(error.message.slice(0, start.length)).to.equal(start)
        expect(error.message.slice(-end.length)).to.equal(end)
        expect((error as CheckpointError).file).to.equal(below)
      })
    })
  })

  describe('that Python wrote', () => {
    for (const name of ['schedules', 'chains', 'ten-steps', 'noise', 'unet-plain-classcond-legacyheads']) {
      it(`hold in ${name} what an independent reader finds there`, async () => {
        const file = fixturePath(`${name}.safetensors`)
        const { tensors, metadata } = await readTensors(file)
        const expected = parseSafetensors(await readFile(file))
        expect(metadata).to.deep.equal(expected.metadata)
        expect([...tensors.keys()].sort()).to.deep.equal([...expected.tensors.keys()].sort())
        for (const [key, { shape, bytes }] of expected.tensors) {
          const found = tensors.get(key)!
          expect(found.shape, key).to.deep.equal(shape)
          expect(Buffer.from(found.data.buffer).equals(bytes), key).to.equal(true)
        }
      })
    }
  })

  describe('that are read', () => {
    it('give half-precision numbers as float32 and booleans as uint8', async () => {
      const header = {
        half: { dtype: 'F16', shape: [3], data_offsets: [0, 6] },
        brain: { dtype: 'BF16', shape: [1], data_offsets: [6, 8] },
        flags: { dtype: 'BOOL', shape: [2], data_offsets: [8, 10] },
      }
      await writeFile(path, safetensors(header, Uint8Array.of(0, 0x38, 1, 0, 0, 0xfc, 0x80, 0x3f, 0, 1)))
      const { tensors } = await readTensors(path)
      expect(Object.fromEntries(tensors)).to.deep.equal({
        half: {
          dtype: 'float32',
          shape: [3],
          data: Float32Array.of(0.5, 2 ** -24, Number.NEGATIVE_INFINITY),
        },
        brain: { dtype: 'float32', shape: [1], data: Float32Array.of(1) },
        flags: { dtype: 'uint8', shape: [2], data: Uint8Array.of(0, 1) },
      })
    })

    it('may list their tensors in another order than their data', async () => {
      const header = {
        second: { dtype: 'U8', shape: [1], data_offsets: [1, 2] },
        first: { dtype: 'U8', shape: [1], data_offsets: [0, 1] },
      }
      await writeFile(path, safetensors(header, Uint8Array.of(5, 6)))
      const { tensors } = await readTensors(path)
      expect([...tensors].map(([name, { data }]) => [name, data[0]])).to.deep.equal([
        ['second', 6],
        ['first', 5],
      ])
    })
  })

  describe('that are not right are refused:', () => {
    const one = (entry: object) => ({ a: { dtype: 'F32', shape: [2], data_offsets: [0, 8], ...entry } })
    const a = one({}).a
    const maxLength = Buffer.concat([Buffer.alloc(8, 0xff), Buffer.from('{}')])
    const HOSTILE: [what: string, bytes: Buffer, message: string][] = [
      ['an empty file', Buffer.alloc(0), 'expected a file of at least 8 bytes, got 0'],
      [
        'a header that is too long',
        maxLength,
        'expected a header of at most 100000000 bytes (is this a safetensors file?), got 18446744073709551615',
      ],
      [
        'a header beyond the end of the file',
        safetensors('{}').subarray(0, 9),
        'expected the header to end in the file, got 2 bytes of header in a file of 9',
      ],
      ['an empty header', safetensors(''), `expected the header to start with '{', got an empty header`],
      ['another kind of JSON', safetensors('[]'), `expected the header to start with '{', got "["`],
      [
        'JSON that breaks off',
        safetensors('{"a'),
        `expected '"' at the end of a string, got the end of the header`,
      ],
      ['bad JSON', safetensors('{"a" 1}'), `expected ':' in the header, got "1" at byte 13`],
      [
        'text that is not UTF-8',
        safetensors('{"?":1}').fill(0xff, 10, 11),
        'expected the header to be UTF-8, got "\\xff" at byte 10',
      ],
      [
        'an unknown type',
        safetensors(one({ dtype: 'Q4' }), 8),
        'expected dtype of "a" to be F64, F32, F16, BF16, I64, I32, U8 or BOOL, got "Q4"',
      ],
      [
        'a missing key',
        safetensors({ a: { dtype: 'F32', shape: [2] } }, 8),
        'expected "a" to have dtype, shape and data_offsets, got no data_offsets',
      ],
      [
        'a name given twice',
        safetensors(`{"a":${JSON.stringify(a)},"a":${JSON.stringify(a)}}`, 8),
        'expected every name once, got "a" twice',
      ],
      [
        'a shape that lies about the bytes',
        safetensors(one({ shape: [3] }), 8),
        'expected "a" to take 12 bytes (F32 [3]), got 8',
      ],
      [
        'a shape that no memory holds',
        safetensors(one({ shape: [2 ** 32, 2 ** 32] }), 8),
        'expected the shape of "a" to be possible, got [4294967296, 4294967296]',
      ],
      [
        'a negative size',
        safetensors(one({ shape: [-2] }), 8),
        'expected shape of "a" to hold whole numbers from 0, got "-" at byte 37',
      ],
      [
        'offsets in the wrong order',
        safetensors(one({ data_offsets: [8, 0] }), 8),
        'expected data_offsets of "a" to be in order, got [8, 0]',
      ],
      [
        'data that is cut short',
        safetensors(one({}), 5),
        'expected data_offsets of "a" to lie in the 5 bytes of data, got [0, 8]',
      ],
      [
        'bytes after the last tensor',
        safetensors(one({}), 11),
        'expected the file to end after the 8 bytes of its tensors, got 3 bytes more',
      ],
      [
        'a hole before a tensor',
        safetensors(one({ data_offsets: [4, 12] }), 12),
        'expected "a" to begin at byte 0 of the data, got 4, a hole',
      ],
      [
        'tensors that overlap',
        safetensors({ a, b: { dtype: 'U8', shape: [5], data_offsets: [4, 9] } }, 9),
        'expected "b" to begin at byte 8 of the data, got 4, an overlap',
      ],
      [
        'a boolean that is neither',
        safetensors(one({ dtype: 'BOOL', data_offsets: [0, 2] }), Uint8Array.of(1, 7)),
        'expected booleans of "a" to be 0 or 1, got 7',
      ],
    ]
    for (const [what, bytes, message] of HOSTILE) {
      it(what, async () => {
        expect(await refusal(bytes)).to.equal(message)
      })
    }

    it('every file that is cut off anywhere', async () => {
      const whole = safetensors(one({}), 8)
      for (let length = 0; length < whole.length; length++) {
        expect(await refusal(whole.subarray(0, length)), `${length} bytes`).to.match(/^expected /)
      }
    })

    it('a path that is not there, or not a file, whatever characters it has', async () => {
      for (const [name, got] of [
        ['none "(x").safetensors', 'No such file or directory'],
        ['two\nlines.safetensors', 'No such file or directory'],
        ['.', 'a directory'],
      ]) {
        const missing = `${folder}/${name}`
        const error = await rejection(readTensors(missing))
        const call = missing.endsWith('.safetensors') ? 'readSafetensors' : 'readTorchFile'
        expect(error.message).to.equal(`${call}("${missing}"): expected a readable file, got ${got}`)
        expect((error as CheckpointError).file).to.equal(missing)
      }
    })
  })
})
