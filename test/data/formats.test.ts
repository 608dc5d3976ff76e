import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { gzipSync } from 'node:zlib'
import { expect } from 'chai'
import { zipSync } from 'fflate'
import { cifar10 } from '../../lib/data/cifar10.ts'
import { idx } from '../../lib/data/idx.ts'
import { type NpyArray, writeNpy } from '../../lib/data/npy.ts'
import { npz, npzOnDisk, readNpz, writeNpz, writeSamplesNpz } from '../../lib/data/npz.ts'
import { writeNpzStream } from '../../lib/data/npz-stream.ts'
import { readFully } from '../../lib/data/read-binary.ts'
import { toUint8 } from '../../lib/data/to-uint8.ts'
import type { DataError } from '../../lib/errors.ts'

let folder: string

const failure = (promise: Promise<unknown>): Promise<DataError> =>
  promise.then(
    () => expect.fail('did not fail'),
    (error: DataError) => error,
  )

function idxBytes(shape: number[], data: ArrayLike<number>): Buffer {
  const header = Buffer.alloc(4 + 4 * shape.length)
  for (const [i, word] of [0x800 + shape.length, ...shape].entries()) header.writeUInt32BE(word, 4 * i)
  return Buffer.concat([header, Uint8Array.from(data)])
}

async function put(name: string, bytes: Uint8Array | string): Promise<string> {
  const path = join(folder, name)
  await writeFile(path, bytes)
  return path
}

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'trislot-formats-'))
})
afterEach(() => rm(folder, { recursive: true }))

describe('idx', () => {
  const images = idxBytes([2, 2, 3], [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12])

  it('reads images and the labels beside them, plain or gzip', async () => {
    const plain = await put('train-images-idx3-ubyte', images)
    await put('train-labels-idx1-ubyte', idxBytes([2], [1, 0]))
    const packed = await put('t10k-images-idx3-ubyte.gz', gzipSync(images))
    await put('t10k-labels-idx1-ubyte.gz', gzipSync(idxBytes([2], [1, 0])))
    for (const file of [plain, packed]) {
      const dataset = await idx(file)
      expect(dataset).to.include({ length: 2, channels: 1, height: 2, width: 3 })
      expect([...(await dataset.image(1))]).to.deep.equal([7, 8, 9, 10, 11, 12])
      expect([dataset.label!(0), dataset.classNames]).to.deep.equal([1, ['0', '1']])
    }
    expect((await idx(plain, { count: 1 })).length).to.equal(1)
  })

  it('does without labels', async () => {
    expect(await idx(await put('a-idx3-ubyte', images))).to.not.have.property('label')
  })

  it('says where a file is wrong, what was expected and what was found', async () => {
    const file = join(folder, 'a')
    const cases: [Uint8Array, string][] = [
      [Buffer.alloc(9), `idx: expected ${file} to start with a header of 16 bytes, got 9 bytes`],
      [
        idxBytes([12], Array(12).fill(0)),
        `idx: expected ${file} to start with 0x00000803, the magic of IDX images (uint8, 3 dimensions), got 0x00000801`,
      ],
      [
        images.subarray(0, 20),
        `idx: expected ${file} to hold 16 + 12 bytes for shape [2, 2, 3], got 20 bytes`,
      ],
      [idxBytes([0, 2, 3], []), `idx: expected ${file} to hold at least one image, got shape [0, 2, 3]`],
      [
        gzipSync(images).subarray(0, 25),
        `idx: expected ${file} to be a whole gzip file, got "unexpected end of file"`,
      ],
    ]
    for (const [bytes, message] of cases) {
      await put('a', bytes)
      expect((await failure(idx(file))).message).to.equal(message)
    }
    const nowhere = join(folder, 'nowhere')
    expect((await failure(idx(nowhere))).message).to.equal(
      `idx: expected file to be readable, got ENOENT for ${nowhere}`,
    )
  })

  it('unpacks gzip only as far as the header says', async () => {
    const bomb = await put('a', gzipSync(Buffer.concat([images, Buffer.alloc(2 ** 26)])))
    expect((await failure(idx(bomb))).message).to.equal(
      `idx: expected ${bomb} to unpack to at most 28 bytes, got more`,
    )
    await put('a', gzipSync(Buffer.alloc(2 ** 20)))
    expect((await failure(idx(bomb))).message).to.match(/the magic of IDX images .*, got 0x00000000$/)
  })

  it('refuses labels of another number', async () => {
    const labels = await put('l', idxBytes([3], [0, 1, 2]))
    const file = await put('a', images)
    expect((await failure(idx(file, { labels }))).message).to.equal(
      `idx: expected ${labels} to hold 2 labels for the images in ${file}, got 3`,
    )
  })
})

describe('cifar10', () => {
  const record = (label: number) => Uint8Array.from({ length: 3073 }, (_, i) => (i === 0 ? label : i % 256))

  it('reads the five training files in order, or the test file', async () => {
    const inner = join(folder, 'cifar-10-batches-bin')
    await mkdir(inner)
    for (const i of [2, 1]) await writeFile(join(inner, `data_batch_${i}.bin`), record(i))
    await writeFile(join(inner, 'test_batch.bin'), record(9))
    const train = await cifar10(folder)
    expect(train).to.include({ length: 2, channels: 3, height: 32, width: 32 })
    expect([train.label!(0), train.label!(1)]).to.deep.equal([1, 2])
    expect([...(await train.image(1)).subarray(0, 3)]).to.deep.equal([1, 2, 3])
    const test = await cifar10(inner, { split: 'test' })
    expect(test.classNames![test.label!(0)]).to.equal('truck')
  })

  it('says where a file is wrong', async () => {
    const file = await put('data_batch_1.bin', Buffer.concat([record(1), record(10)]))
    expect((await failure(cifar10(file))).message).to.match(
      /^cifar10: expected record 1 of .*data_batch_1\.bin \(byte 3073\) to start with a label in \[0, 9\], got 10$/,
    )
    await put('data_batch_1.bin', record(1).subarray(0, 3000))
    expect((await failure(cifar10(file))).message).to.match(
      /data_batch_1\.bin to hold whole records of 3073 bytes, got 3000 bytes \(0 records and 3000 bytes\)$/,
    )
    const thousand = gzipSync(Buffer.alloc(1000 * 3073))
    await put('data_batch_1.bin', Buffer.concat(Array(61).fill(thousand)))
    expect((await failure(cifar10(file))).message).to.equal(
      `cifar10: expected ${file} to unpack to at most ${60_000 * 3073} bytes, got more`,
    )
    expect((await failure(cifar10(folder, { split: 'test' }))).message).to.equal(
      `cifar10: expected ${folder} to hold test_batch.bin, got none of them`,
    )
  })
})

describe('npz', () => {
  const pixels = Uint8Array.from({ length: 24 }, (_, i) => i)
  const file = () => join(folder, 'a.npz')

  it('reads what numpy wrote, stored or compressed', async () => {
    // np.savez(f, arange(12, dtype=uint8).reshape(1, 2, 2, 3), [7]) and np.savez_compressed, numpy 2.4.6
    for (const name of ['numpy-stored.npz', 'numpy-compressed.npz']) {
      const dataset = await npz(fileURLToPath(new URL(`../fixtures/${name}`, import.meta.url)))
      expect(dataset).to.include({ length: 1, channels: 3, height: 2, width: 2 })
      expect([...(await dataset.image(0))]).to.deep.equal([0, 3, 6, 9, 1, 4, 7, 10, 2, 5, 8, 11])
      expect(dataset.label!(0)).to.equal(7)
    }
  })

  it('writes samples under the name and in the layout of guided-diffusion', async () => {
    const data = Float32Array.from({ length: 24 }, (_, i) => -1 + i / 12)
    const path = await writeSamplesNpz(folder, { data, shape: [2, 3, 2, 2], labels: Int32Array.of(3, 4) })
    expect(path).to.equal(join(folder, 'samples_2x2x2x3.npz'))
    const arrays = await readNpz(path, ['arr_0', 'arr_1'])
    expect(arrays.get('arr_0')!.shape).to.deep.equal([2, 2, 2, 3])
    expect(arrays.get('arr_1')).to.deep.equal({ data: BigInt64Array.of(3n, 4n), shape: [2] })
    const dataset = await npz(path)
    expect([...(await dataset.image(0)), ...(await dataset.image(1))]).to.deep.equal([...toUint8(data)])
  })

  it('takes NCHW and floats of a stated range', async () => {
    await writeNpz(file(), { arr_0: { data: pixels, shape: [1, 2, 3, 4] } })
    expect(await npz(file(), { layout: 'NCHW' })).to.include({ channels: 2, height: 3, width: 4 })
    await writeNpz(file(), {
      arr_0: { data: Float64Array.from(pixels, (v) => v / 255), shape: [1, 1, 4, 6] },
    })
    const dataset = await npz(file(), { floatRange: '[0, 1]' })
    expect([...(await dataset.image(0))]).to.deep.equal([...pixels])
  })

  it('refuses what is no batch of images', async () => {
    const path = file()
    const cases: [Parameters<typeof writeNpz>[1], string][] = [
      [{ images: { data: pixels, shape: [24] } }, `npz: expected ${path} to hold arr_0, got images`],
      [
        { arr_0: { data: pixels, shape: [4, 6] } },
        `npz: expected arr_0 to have the shape (N, H, W, C) or (N, C, H, W) in ${path}, got (4, 6)`,
      ],
      [
        { arr_0: { data: new Uint8Array(125), shape: [1, 5, 5, 5] } },
        `npz: expected arr_0 to have 1 to 4 channels in ${path}, got (1, 5, 5, 5)`,
      ],
      [
        { arr_0: { data: Int32Array.from(pixels), shape: [1, 2, 4, 3] } },
        `npz: expected arr_0 to hold uint8, float32 or float64 in ${path}, got Int32Array`,
      ],
      [
        { arr_0: { data: Float32Array.of(0, 3), shape: [1, 1, 2, 1] } },
        `npz: expected value 1 of arr_0 to be in [-1, 1] (option floatRange) in ${path}, got 3`,
      ],
      [
        { arr_0: { data: pixels, shape: [2, 2, 2, 3] }, arr_1: { data: Int32Array.of(1), shape: [1] } },
        `npz: expected arr_1 to have the shape (2), one label an image in ${path}, got (1)`,
      ],
    ]
    for (const [arrays, message] of cases) {
      await writeNpz(path, arrays)
      expect((await failure(npz(path))).message).to.equal(message)
    }
  })

  it('refuses labels that are no classes, and files without .npy', async () => {
    const images = { data: new Uint8Array(12), shape: [1, 2, 2, 3] }
    const given: [NpyArray['data'], string][] = [
      [BigInt64Array.of(100_000_000_000n), '100000000000'],
      [Float64Array.of(1.7), '1.7'],
      [Float64Array.of(Number.NaN), 'NaN'],
      [BigInt64Array.of(-1n), '-1'],
    ]
    for (const [data, got] of given) {
      await writeNpz(file(), { arr_0: images, arr_1: { data, shape: [1] } })
      expect((await failure(npz(file()))).message).to.equal(
        `npz: expected arr_1[0] to be a label, a whole number in [0, 999999] in ${file()}, got ${got}`,
      )
    }
    await put('a.npz', Buffer.from(zipSync({ arr_0: new Uint8Array(4) })))
    expect((await failure(npz(file()))).message).to.equal(
      `npz: expected ${file()} to hold arr_0, got no .npy file`,
    )
  })

  it('refuses files that are cut short, damaged or no zip', async () => {
    await writeNpz(file(), { arr_0: { data: pixels, shape: [2, 2, 2, 3] } })
    const whole = await readFile(file())
    await put('a.npz', whole.subarray(0, 100))
    expect((await failure(npz(file()))).message).to.equal(
      `npz: expected ${file()} to end with a zip directory, got 100 bytes without one; the file is cut short or no zip file`,
    )
    await put('a.npz', whole.subarray(60))
    expect((await failure(npz(file()))).message).to.match(/^npz: expected .*a\.npz to (have|hold|be) /)
    const damaged = Buffer.from(whole)
    const at = whole.indexOf(Buffer.from([10, 11, 12, 13]))
    damaged[at] = 99
    await put('a.npz', damaged)
    expect((await failure(npz(file()))).message).to.equal(
      `npz: expected ${file()} to hold arr_0.npy unchanged, got another CRC; the file is damaged`,
    )
  })

  it('inflates no further than the zip directory says', async () => {
    const bytes = Buffer.from(
      zipSync({ 'arr_0.npy': writeNpy({ data: new Uint8Array(2 ** 20), shape: [2 ** 20] }) }),
    )
    bytes.writeUInt32LE(1000, bytes.indexOf('PK\x01\x02') + 24) // the size in the directory
    await put('a.npz', bytes)
    expect((await failure(npz(file()))).message).to.equal(
      `npz: expected ${file()} to hold a whole arr_0.npy, got "Cannot create a Buffer larger than 1000 bytes"`,
    )
  })

  it('reads on where a read gives less than it was asked for', async () => {
    const source = Buffer.from('abcdefgh')
    const handle = {
      read: async (out: Uint8Array, at: number, length: number, position: number) => {
        const bytesRead = source.copy(out, at, position, position + Math.min(3, length))
        return { bytesRead, buffer: out }
      },
    } as Parameters<typeof readFully>[0]
    const out = Buffer.alloc(6)
    expect([await readFully(handle, out, 1), out.toString()]).to.deep.equal([6, 'bcdefg'])
    expect(await readFully(handle, out, 5)).to.equal(3)
  })

  it('reads images one by one from an open file, the same as from memory', async () => {
    for (const name of ['numpy-stored.npz', 'numpy-compressed.npz']) {
      const dataset = await npzOnDisk(fileURLToPath(new URL(`../fixtures/${name}`, import.meta.url)))
      expect(dataset).to.include({ length: 1, channels: 3, height: 2, width: 2 })
      expect([...(await dataset.image(0))]).to.deep.equal([0, 3, 6, 9, 1, 4, 7, 10, 2, 5, 8, 11])
      await dataset.close()
    }
    await writeNpz(file(), { arr_0: { data: pixels, shape: [2, 2, 2, 3] } })
    const [memory, disk] = [await npz(file()), await npzOnDisk(file())]
    for (const i of [1, 0]) expect([...(await disk.image(i))]).to.deep.equal([...(await memory.image(i))])
    await disk.close()
    await writeNpz(file(), { arr_0: { data: Float32Array.from(pixels), shape: [2, 12] } })
    expect((await failure(npzOnDisk(file()))).message).to.equal(
      `npzOnDisk: expected arr_0 of ${file()} to be uint8 (N, H, W, C), got <f4 (2, 12)`,
    )
  })

  it('writes the same bytes from pieces, and nothing when there are too few or too many', async () => {
    await writeNpz(file(), { arr_0: { data: pixels, shape: [24] } })
    const pieces = join(folder, 'b.npz')
    const write = (...chunks: Uint8Array[]) =>
      writeNpzStream(pieces, { arr_0: { type: '|u1', shape: [24], chunks } })
    await write(pixels.subarray(0, 5), pixels.subarray(5))
    expect((await readFile(pieces)).equals(await readFile(file()))).to.equal(true)
    await rm(pieces)
    for (const [chunk, bytes] of [
      [pixels.subarray(1), 151],
      [new Uint8Array(25), 153],
    ] as const) {
      expect((await failure(write(chunk))).message).to.equal(
        `writeNpzStream: expected arr_0.npy to have 152 bytes, got ${bytes}`,
      )
    }
    expect(await readdir(folder)).to.deep.equal(['a.npz'])
  })

  it('refuses to write into a folder that is missing, and leaves nothing behind', async () => {
    const path = join(folder, 'no', 'a.npz')
    const error = await failure(writeNpz(path, { arr_0: { data: pixels, shape: [24] } }))
    expect(error.message).to.equal(`writeNpz: expected ${path} to be writable, got ENOENT`)
  })

  describe('the .npy header', () => {
    const change = async (from: string, to: string) => {
      const { readNpy } = await import('../../lib/data/npy.ts')
      const bytes = Buffer.from(writeNpy({ data: pixels, shape: [24] }))
      bytes.write(to, bytes.indexOf(Buffer.from(from, 'latin1')), 'latin1')
      return () => readNpy('npz', 'arr_0', bytes)
    }

    it('is what numpy writes', () => {
      const bytes = writeNpy({ data: pixels, shape: [24] })
      expect(Buffer.from(bytes.subarray(0, 128)).toString('latin1')).to.equal(
        `\x93NUMPY\x01\x00v\x00${"{'descr': '|u1', 'fortran_order': False, 'shape': (24,), }".padEnd(117)}\n`,
      )
    })

    it('is refused for objects, Fortran order, other types, versions and lengths', async () => {
      expect(await change("'|u1'", "'|O' ")).to.throw(
        'expected arr_0 to hold numbers, got Python objects (|O), which could run code',
      )
      expect(await change("'|u1'", "'>f4'")).to.throw(
        'to have one of the types |u1, <f4, <f8, <i4, <i8, got >f4',
      )
      expect(await change('False', 'True ')).to.throw(
        'to be in C order, got Fortran order; save np.ascontiguousarray(x)',
      )
      expect(await change('(24,)', '(99,)')).to.throw('to hold 99 bytes for shape (99) of |u1, got 24 bytes')
      expect(await change('\x01\x00v', '\x03\x00v')).to.throw('to be .npy format 1.0 or 2.0, got 3.0')
      expect(await change('NUMPY', 'numpy')).to.throw('to start with the magic of .npy')
      expect(await change('descr', 'discr')).to.throw('to have descr, fortran_order and shape in its header')
    })
  })
})
