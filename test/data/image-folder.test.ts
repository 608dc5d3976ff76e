import { mkdir, mkdtemp, readdir, rm, truncate, utimes, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { expect } from 'chai'
import sharp from 'sharp'
import { batches } from '../../lib/data/batches.ts'
import { sharpMissing } from '../../lib/data/decode.ts'
import { FileSource, type SourceSettings } from '../../lib/data/file-source.ts'
import { type ImageFolderOptions, imageFolder } from '../../lib/data/image-folder.ts'
import type { DataError } from '../../lib/errors.ts'
import { rejection } from '../support/rejection.ts'

let folder: string

/** Writes raw pixels as a file whose extension says the format. */
async function write(name: string, width: number, height: number, channels: 1 | 2 | 3 | 4, pixels: number[]) {
  const path = join(folder, name)
  await mkdir(dirname(path), { recursive: true })
  const data = Uint8Array.from({ length: width * height * channels }, (_, i) => pixels[i % pixels.length]!)
  await sharp(data, { raw: { width, height, channels } }).toFile(path)
  return path
}

const failure = (options: Partial<ImageFolderOptions> = {}, path = folder): Promise<DataError> =>
  imageFolder(path, { size: 4, ...options }).then(
    () => expect.fail('did not fail'),
    (error: DataError) => error,
  )

const pixelsOf = async (options: ImageFolderOptions) => [
  ...(await (await imageFolder(folder, options)).image(0)),
]

describe('imageFolder', () => {
  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), 'trislot-folder-'))
  })
  afterEach(() => rm(folder, { recursive: true }))

  it('finds PNG, JPEG, WebP, GIF and AVIF in sorted order, folders in their place', async () => {
    for (const name of ['c.png', 'b/z.JPG', 'b/a.webp', 'd.gif', 'a.avif', 'e.jpeg', '.hidden.png']) {
      await write(name, 8, 8, 3, [200, 100, 50])
    }
    await writeFile(join(folder, 'notes.txt'), 'no picture')
    const dataset = await imageFolder(folder, { size: 4 })
    expect(dataset.files).to.deep.equal(['a.avif', 'b/a.webp', 'b/z.JPG', 'c.png', 'd.gif', 'e.jpeg'])
    expect(dataset).to.include({ length: 6, channels: 3, height: 4, width: 4 })
    for (let i = 0; i < 6; i++) {
      const image = await dataset.image(i)
      expect(image.length).to.equal(48)
      for (const [c, value] of [200, 100, 50].entries()) expect(image[c * 16]).to.be.closeTo(value, 12)
    }
  })

  it('gives planes, not interleaved pixels', async () => {
    await write('a.png', 2, 1, 3, [1, 2, 3, 4, 5, 6])
    expect(await pixelsOf({ size: [1, 2] })).to.deep.equal([1, 4, 2, 5, 3, 6])
  })

  it("makes grey by Pillow's luma and spreads grey over RGB", async () => {
    await write('a.png', 1, 1, 3, [200, 100, 50])
    expect(await pixelsOf({ size: 1, channels: 1 })).to.deep.equal([
      (200 * 19595 + 100 * 38470 + 50 * 7471 + 32768) >> 16,
    ])
    await sharp(Uint8Array.of(77), { raw: { width: 1, height: 1, channels: 1 } })
      .toColourspace('b-w')
      .toFile(join(folder, 'a.png'))
    expect(await pixelsOf({ size: 1 })).to.deep.equal([77, 77, 77])
  })

  it('drops, blends or keeps alpha', async () => {
    await write('a.png', 1, 1, 4, [200, 100, 50, 51])
    expect(await pixelsOf({ size: 1 })).to.deep.equal([200, 100, 50])
    expect(await pixelsOf({ size: 1, alpha: 'white' })).to.deep.equal([244, 224, 214])
    expect(await pixelsOf({ size: 1, alpha: 'black' })).to.deep.equal([40, 20, 10])
    expect(await pixelsOf({ size: 1, channels: 4 })).to.deep.equal([200, 100, 50, 51])
    expect(await pixelsOf({ size: 1, channels: 2 })).to.deep.equal([124, 51])
  })

  it('gives an opaque alpha to pictures without one', async () => {
    await write('a.png', 1, 1, 3, [1, 2, 3])
    expect(await pixelsOf({ size: 1, channels: 4 })).to.deep.equal([1, 2, 3, 255])
  })

  it('takes the upper 8 of 16 bits', async () => {
    const data = Uint16Array.of(0x12ff, 0x8000, 0xffff)
    await sharp(data, { raw: { width: 1, height: 1, channels: 3 } })
      .toColourspace('rgb16')
      .png()
      .toFile(join(folder, 'a.png'))
    expect(await pixelsOf({ size: 1 })).to.deep.equal([0x12, 0x80, 0xff])
  })

  it('turns pictures upright by their EXIF orientation', async () => {
    const data = Uint8Array.of(255, 255, 255, 0, 0, 0)
    const upsideDown = sharp(data, { raw: { width: 2, height: 1, channels: 3 } }).withMetadata({
      orientation: 3,
    })
    await upsideDown.png().toFile(join(folder, 'a.png'))
    expect(await pixelsOf({ size: [1, 2], channels: 1 })).to.deep.equal([0, 255])
  })

  it('takes classes from folders or from prefixes', async () => {
    for (const name of ['dog/x_1.png', 'cat/deep/y_2.png', 'dog/x_3.png']) await write(name, 2, 2, 3, [9])
    const byFolder = await imageFolder(folder, { size: 2, labels: 'folder' })
    expect(byFolder.classNames).to.deep.equal(['cat', 'dog'])
    expect([0, 1, 2].map((i) => byFolder.label!(i))).to.deep.equal([0, 1, 1])
    const byPrefix = await imageFolder(folder, { size: 2, labels: 'prefix' })
    expect(byPrefix.classNames).to.deep.equal(['x', 'y'])
    expect([0, 1, 2].map((i) => byPrefix.label!(i))).to.deep.equal([1, 0, 0])
  })

  it('names a file without a class', async () => {
    await write('a.png', 2, 2, 3, [9])
    expect((await failure({ labels: 'folder' })).message).to.equal(
      `imageFolder: expected every image to lie in a folder named after its class, got a.png in ${folder}`,
    )
    expect((await failure({ labels: 'prefix' })).message).to.equal(
      `imageFolder: expected every image to be named <class>_<rest>, got a.png in ${folder}`,
    )
  })

  it('names a file that does not decode, at the start', async () => {
    await write('a.png', 8, 8, 3, [9])
    await writeFile(join(folder, 'b.png'), 'not a picture')
    const error = await failure()
    expect(error.name).to.equal('DataError')
    expect(error.file).to.equal(join(folder, 'b.png'))
    expect(error.message).to.equal(
      `imageFolder: expected ${join(folder, 'b.png')} to be a picture that decodes, got "Input buffer contains unsupported image format"; badFiles skip leaves such files out`,
    )
  })

  it('names a truncated file', async () => {
    const path = join(folder, 'a.jpg')
    const noise = Uint8Array.from({ length: 64 * 64 * 3 }, (_, i) => (i * 7919) % 251)
    await sharp(noise, { raw: { width: 64, height: 64, channels: 3 } }).toFile(path)
    await truncate(path, 1500)
    expect((await failure()).message).to.match(/a\.jpg to be a picture that decodes, got "/)
  })

  it('skips bad files by option and lists them', async () => {
    await write('a.png', 8, 8, 3, [9])
    await writeFile(join(folder, 'b.png'), 'not a picture')
    await write('c.png', 8, 8, 3, [9])
    const dataset = await imageFolder(folder, { size: 4, badFiles: 'skip' })
    expect(dataset.files).to.deep.equal(['a.png', 'c.png'])
    expect(dataset.skipped).to.deep.equal([
      { file: 'b.png', reason: 'Input buffer contains unsupported image format' },
    ])
  })

  it('never skips a file that the disk does not give', async () => {
    const settings = {
      size: [4, 4],
      channels: 3,
      alpha: 'drop',
      crop: 'center',
      badFiles: 'skip',
      ...{ cacheBytes: 0, concurrency: 2, onProgress: undefined, signal: undefined },
    } satisfies SourceSettings
    const gone = { path: 'gone.png', bytes: 1, modifiedMs: 0 }
    const error = await rejection(new FileSource(folder, settings).readAll([gone]))
    expect(error.message).to.equal(
      `imageFolder: expected ${join(folder, 'gone.png')} to be readable, got ENOENT`,
    )
  })

  it('stops decoding when it is told to', async () => {
    for (const name of ['a', 'b', 'c']) await write(`${name}.png`, 8, 8, 3, [9])
    const reason = new Error('stopped')
    const controller = new AbortController()
    const onProgress = (done: number) => done === 1 && controller.abort(reason)
    const options = { size: 4, badFiles: 'skip', onProgress, signal: controller.signal } as const
    expect(await rejection(imageFolder(folder, options))).to.equal(reason)
    const cached = { size: 4, cacheDir: join(folder, 'cache'), signal: AbortSignal.abort(reason) }
    expect(await rejection(imageFolder(folder, cached))).to.equal(reason)
  })

  it('names or skips a file that cannot be cropped', async () => {
    await write('a.png', 8, 8, 3, [9])
    await write('strip.png', 1, 100_000, 1, [9])
    const error = await failure({ size: 64 })
    expect(error.file).to.equal(join(folder, 'strip.png'))
    expect(error.message).to.equal(
      `imageFolder: expected ${error.file} to be a picture that can be cropped to 64x64, got ` +
        '"crop: expected a picture that covers 64x64 in 67108864 pixels, got 6400000x64 for one of 100000x1"; badFiles skip leaves such files out',
    )
    const dataset = await imageFolder(folder, { size: 64, badFiles: 'skip' })
    expect(dataset.files).to.deep.equal(['a.png'])
    expect(dataset.skipped.map(({ file }) => file)).to.deep.equal(['strip.png'])
  })

  it('reports a bad file at next() when it is not checked before', async () => {
    await writeFile(join(folder, 'b.png'), 'not a picture')
    const dataset = await imageFolder(folder, { size: 4, check: 'none' })
    const error: DataError = await batches(dataset, { batchSize: 1, seed: 1 })
      .next()
      .then(
        () => expect.fail('did not fail'),
        (error: DataError) => error,
      )
    expect(error.file).to.equal(join(folder, 'b.png'))
  })

  it('refuses a folder that is missing, empty, too small or no folder', async () => {
    const missing = join(folder, 'nowhere')
    expect((await failure({}, missing)).message).to.equal(
      `imageFolder: expected folder to be readable, got ENOENT for ${missing}`,
    )
    expect((await failure()).message).to.equal(
      `imageFolder: expected ${folder} to hold at least 1 image (PNG, JPEG, WebP, GIF or AVIF), got none`,
    )
    await write('a.png', 2, 2, 3, [9])
    expect((await failure({ minimumCount: 5 })).message).to.equal(
      `imageFolder: expected ${folder} to hold at least 5 images (PNG, JPEG, WebP, GIF or AVIF), got 1`,
    )
    expect((await failure({}, join(folder, 'a.png'))).message).to.equal(
      `imageFolder: expected folder to be a folder, got a file ${join(folder, 'a.png')}`,
    )
    await rm(join(folder, 'a.png'))
    await writeFile(join(folder, 'b.png'), 'bad')
    expect((await failure({ badFiles: 'skip' })).message).to.equal(
      `imageFolder: expected ${folder} to hold at least 1 image (PNG, JPEG, WebP, GIF or AVIF), got none (1 skipped)`,
    )
  })

  it('refuses wrong options with their names', async () => {
    const cases: [Partial<ImageFolderOptions>, string][] = [
      [{ size: 0 }, 'imageFolder: expected size to be an integer in [1, 16384], got 0'],
      [
        { alpha: 'keep' },
        'imageFolder: expected alpha to be drop, white or black with 3 channels, got "keep"',
      ],
      [{ channels: 4, alpha: 'drop' }, 'imageFolder: expected alpha to be keep with 4 channels, got "drop"'],
      [
        { crop: 'random', cacheDir: 'x' },
        'imageFolder: expected cacheDir to be absent with crop random, whose images differ every time, got "x"',
      ],
      [{ label: 'folder' } as object, 'got unknown label (did you mean labels?)'],
    ]
    for (const [options, message] of cases) expect((await failure(options)).message).to.include(message)
  })

  it('says how to get sharp when it does not load', () => {
    expect(sharpMissing('imageFolder', new Error("Cannot find package 'sharp'\nmore")).message).to.equal(
      'imageFolder: expected the package sharp, which decodes images, to load, got "Cannot find package \'sharp\'"; npm install sharp',
    )
  })

  it('gives the same images with and without memory to keep them', async () => {
    for (let i = 0; i < 5; i++) await write(`${i}.png`, 9 + i, 17, 3, [i, 40 * i, 3, 99])
    const kept = await imageFolder(folder, { size: 6 })
    const notKept = await imageFolder(folder, { size: 6, cacheBytes: 0 })
    await rm(join(folder, '4.png'))
    for (let i = 0; i < 4; i++) expect(await kept.image(i)).to.deep.equal(await notKept.image(i))
    expect((await kept.image(4)).length).to.equal(108)
    expect(
      await notKept.image(4).then(
        () => 'read',
        (error: DataError) => error.name,
      ),
    ).to.equal('DataError')
  })

  it('cuts random crops by key and central ones without', async () => {
    const pixels = Array.from({ length: 24 * 24 * 3 }, (_, i) => (i * 31) % 256)
    await write('a.png', 24, 24, 3, pixels)
    const dataset = await imageFolder(folder, { size: 8, crop: 'random' })
    const central = await imageFolder(folder, { size: 8 })
    expect(await dataset.image(0)).to.deep.equal(await central.image(0))
    const options = { batchSize: 2, seed: 4 }
    const { value } = await batches(dataset, options).next()
    expect((await batches(dataset, options).next()).value).to.deep.equal(value)
    expect(value.data.slice(0, 192)).to.not.deep.equal(value.data.slice(192))
  })

  describe('cacheDir', () => {
    const cached = (extra: Partial<ImageFolderOptions> = {}) =>
      imageFolder(folder, { size: 4, badFiles: 'skip', cacheDir: join(folder, '.cache'), ...extra })

    beforeEach(async () => {
      for (let i = 0; i < 3; i++) await write(`${i}.png`, 8, 8, 3, [i, 40 * i, 99])
      await writeFile(join(folder, 'bad.png'), 'bad')
    })

    it('is written once and used again, from memory or image by image', async () => {
      let decoded = 0
      const onProgress = () => decoded++
      const plain = await imageFolder(folder, { size: 4, badFiles: 'skip' })
      for (const cacheBytes of [2 ** 20, 2 ** 20, 0]) {
        const dataset = await cached({ cacheBytes, onProgress })
        expect(dataset.files).to.deep.equal(plain.files)
        expect(dataset.skipped).to.deep.equal(plain.skipped)
        for (let i = 0; i < 3; i++) expect(await dataset.image(i)).to.deep.equal(await plain.image(i))
      }
      expect(decoded).to.equal(4)
      expect(await readdir(join(folder, '.cache'))).to.have.lengthOf(1)
    })

    it('is made anew when a file or an option changes, or when it is damaged', async () => {
      await cached()
      await utimes(join(folder, '0.png'), new Date(0), new Date(0))
      await cached()
      await cached({ size: 5 })
      const names = await readdir(join(folder, '.cache'))
      expect(names).to.have.lengthOf(3)
      for (const name of names) await truncate(join(folder, '.cache', name), 100)
      expect([...(await (await cached()).image(2))].slice(0, 1)).to.deep.equal([2])
    })

    it('leaves nothing behind when decoding fails', async () => {
      const error = await failure({ cacheDir: join(folder, '.cache') })
      expect(error.file).to.equal(join(folder, 'bad.png'))
      expect(await readdir(join(folder, '.cache'))).to.deep.equal([])
    })

    it('names a cacheDir that cannot be written', async () => {
      const error = await failure({ badFiles: 'skip', cacheDir: join(folder, '0.png', 'x') })
      expect(error.message).to.match(/^imageFolder: expected cacheDir to be writable, got ENOTDIR for /)
    })
  })
})
