import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect } from 'chai'
import { lowResImages } from '../../lib/data/low-res-images.ts'
import { npz, writeNpz } from '../../lib/data/npz.ts'
import { lowResTwin } from '../../lib/data/super-resolution.ts'
import { toUint8 } from '../../lib/data/to-uint8.ts'
import { UNet } from '../../lib/model/unet.ts'
import { encodePng, writePng } from '../../lib/report/png.ts'
import { sideBySide } from '../../lib/report/side-by-side.ts'
import { Denoiser } from '../../lib/sampling/denoiser.ts'
import { sample } from '../../lib/sampling/sample.ts'
import { NoiseSchedule } from '../../lib/schedule/noise-schedule.ts'
import { type CellResult, runCell } from '../../lib/study/cell.ts'
import { parseStudy, type StudyArm } from '../../lib/study/study-file.ts'
import { latestCheckpoint, loadForSampling, readCheckpoint } from '../../lib/training/checkpoint.ts'
import { drawImages } from '../../lib/training/preview.ts'
import { openImages, run, splitImages } from '../../lib/training/run.ts'
import { type RunOptions, runConfig } from '../../lib/training/run-config.ts'
import { command } from '../support/command.ts'
import { rejection } from '../support/rejection.ts'
import { smallData } from '../support/small-run.ts'
import { TINY } from '../support/tiny.ts'

describe('Super-resolution', () => {
  let small: Awaited<ReturnType<typeof smallData>>
  let data: string
  before(async () => {
    small = await smallData()
    data = join(small.folder, 'classes.npz')
    const pixels = Uint8Array.from({ length: 12 * 64 }, (_, i) => (i * 29 + Math.floor(i / 64) * 91) % 256)
    const labels = BigInt64Array.from({ length: 12 }, (_, i) => BigInt(i % 3))
    await writeNpz(data, {
      arr_0: { data: pixels, shape: [12, 8, 8, 1] },
      arr_1: { data: labels, shape: [12] },
    })
  })
  after(() => small.remove())

  const options = (name: string): RunOptions => ({
    data,
    steps: 2,
    preset: 'tiny',
    superResolution: 4,
    heldOut: 4,
    batchSize: 4,
    heads: ['v'],
    timestepCount: 40,
    threads: 1,
    previewEvery: 0,
    run: join(small.folder, name),
  })

  it('trains from one data set, previews held-out images, and says how much smaller the twins are', async () => {
    const { folder, checkpoint } = await run({ ...options('plain'), previewEvery: 2, previewCount: 3 })
    const state = await readCheckpoint(checkpoint as string)
    expect(state.network.lowRes).to.equal(true)
    expect((state.extra as { images: object }).images).to.deep.equal({
      ...{ count: 12, channels: 1, height: 8, width: 8, classNames: ['0', '1', '2'], lowResFactor: 2 },
    })
    expect((await readdir(join(folder, 'previews'))).sort()).to.deep.equal([
      'step-00000002-ema.png',
      'step-00000002-raw.png',
    ])
  })

  it('refuses a size that does not divide, and one that is not smaller', async () => {
    for (const superResolution of [3, 8]) {
      const { message } = await rejection(run({ ...options('refused'), superResolution }))
      expect(message).to.equal(
        `run: expected superResolution to be a divisor of the height 8 of ${data}, got ${superResolution}`,
      )
    }
  })

  it('enlarges a picture, a folder and npz files on the command line, with DDIM and DDPM', async () => {
    const { folder } = await run(options('enlarge'))
    const pixels = (side: number) => Uint8Array.from({ length: side * side }, (_, i) => (i * 50) % 256)
    const pictures = join(small.folder, 'pictures')
    await mkdir(pictures, { recursive: true })
    for (const name of ['a', 'b'])
      await writePng(join(pictures, `${name}.png`), { data: pixels(4), width: 4, height: 4, channels: 1 })
    const sample = (...words: string[]) =>
      command('sample', '--run', folder, '--steps', '3', '--threads', '1', ...words)
    const out = join(small.folder, 'out.png')
    const picture = await sample('--low-res', join(pictures, 'a.png'), '--out', out)
    expect(picture, picture.err).to.include({ code: 0, out })
    const results = []
    for (const more of [[], ['--ddpm']]) {
      const where = join(small.folder, `npz${more.length}`)
      const done = await sample('--low-res', pictures, '--format', 'npz', '--out', where, ...more)
      expect(done, done.err).to.include({ code: 0, out: join(where, 'samples_2x8x8x1.npz') })
      results.push(await (await npz(done.out)).image(0))
    }
    expect(results[0]).to.not.deep.equal(results[1])
    const fromData = await sample('--low-res', data, '--count', '5', '--out', out)
    expect(fromData, fromData.err).to.include({ code: 0, out })
    expect((await readFile(out)).subarray(1, 4).toString()).to.equal('PNG')
  })

  it('needs images to enlarge, and takes them for such networks only', async () => {
    const { folder } = await run(options('needs'))
    const missing = await command('sample', '--run', folder)
    expect(missing).to.include({ code: 2 })
    expect(missing.err).to.equal(
      'trislot sample: expected --low-res to be given, this network makes images larger, got undefined',
    )
    const other = await run({ ...options('plain-network'), superResolution: undefined })
    const stray = await command('sample', '--run', other.folder, '--low-res', data)
    expect(stray.err).to.equal(
      `trislot sample: expected --low-res to be absent, this network takes none, got ${JSON.stringify(data)}`,
    )
  })

  it('takes classes from the data or from --class', async () => {
    const { folder } = await run({ ...options('classes'), classes: 'data' })
    const sample = (...words: string[]) =>
      command('sample', '--run', folder, '--steps', '2', '--threads', '1', ...words)
    const where = join(small.folder, 'classes')
    const { out } = await sample('--low-res', data, '--count', '4', '--format', 'npz', '--out', where)
    const drawn = await npz(out)
    expect([0, 1, 2, 3].map((k) => drawn.label?.(k))).to.deep.equal([0, 1, 2, 0])
    const grey = join(small.folder, 'grey.png')
    await writePng(grey, { data: new Uint8Array(16), width: 4, height: 4, channels: 1 })
    const unknown = await sample('--low-res', grey)
    expect(unknown).to.include({ code: 2 })
    expect(unknown.err).to.equal(
      `trislot sample: expected --class to be given, because ${grey} has no classes, got undefined`,
    )
    expect((await sample('--low-res', grey, '--class', '2', '--out', join(where, 'x.png'))).code).to.equal(0)
  })

  it('is judged in studies by held-out images made larger, with their classes, against the originals', async () => {
    const { run: _, steps: __, ...base } = options('study')
    const study = await parseStudy({
      name: 'enlarged',
      out: join(small.folder, 'enlarged'),
      images: 120,
      base: { ...base, classes: 'data', lr: 0.01, emaRates: [] },
      arms: { one: {}, other: { lr: 1e-3 } },
      seeds: [0],
      evaluate: {
        ...{ images: 4, curveImages: 2, timesteps: 2, weights: 'raw', bothWeights: false },
        samples: { count: 3, steps: [2], batchSize: 2, seed: 5, featureSteps: 2 },
      },
      compare: { metrics: ['mse@2', 'frechet@2', 'slicedWasserstein@2'] },
    })
    const [arm] = study.arms as [StudyArm]
    const result = (await runCell(study, arm, 0)) as CellResult
    const [row] = result.samples?.rows ?? []
    expect(row?.frechet).to.be.above(0)
    expect(row?.slicedWasserstein).to.be.above(0)

    // Image by image, from what the run's folder holds.
    const { heldOut } = splitImages(await openImages(await runConfig(arm.options as RunOptions)), {
      ...{ heldOut: 4, seed: 0 },
    })
    const folder = join(study.out, 'one', 'seed-0')
    const { unet, schedule } = await loadForSampling((await latestCheckpoint(folder)) as string, {
      weights: 'raw',
    })
    const process = schedule.respace('2')
    /** Mean squared error where image k is made of the low-resolution twin of image `twin(k)`, with the class of `of(k)`. */
    const mse = async (twin: (k: number) => number, of = twin): Promise<number> => {
      let squares = 0
      for (let k = 0; k < 3; k++) {
        const image = async (i: number) => (await heldOut?.image(i)) as Uint8Array
        const original = await image(k)
        const { data: pixels, shape } = lowResTwin({ data: await image(twin(k)), shape: [1, 1, 8, 8] }, 2)
        const y = Int32Array.of(heldOut?.label?.(of(k)) as number)
        const drawn = await sample({
          denoiser: new Denoiser(unet, process, { lowRes: { data: pixels, shape }, y }),
          ...{ shape: [1, 1, 8, 8], seed: 5, firstImage: k, eta: 0 },
        })
        for (const [i, value] of toUint8(drawn).entries())
          squares += ((value - (original[i] as number)) / 127.5) ** 2
      }
      return squares / (3 * 64)
    }
    const measured = row?.mse as number
    expect(measured).to.be.closeTo(await mse((k) => k), 1e-4)
    // Another twin, or another class, would show.
    const next = (k: number): number => (k + 1) % 3
    expect(Math.abs(measured - (await mse(next, (k) => k)))).to.be.above(1e-3)
    expect(Math.abs(measured - (await mse((k) => k, next)))).to.be.above(1e-3)
    for (const owner of [process, unet, schedule]) owner.dispose()
  })

  it('draws image k the same whatever the batch it is drawn in', async () => {
    const unet = await UNet.create({ ...TINY, lowRes: true, heads: ['v'] }, { seed: 3 })
    const schedule = NoiseSchedule.create({ name: 'linear' })
    const lowRes = {
      data: Uint8Array.from({ length: 48 }, (_, i) => 5 * i),
      shape: [3, 1, 4, 4] as [number, number, number, number],
    }
    const shared = {
      schedule,
      count: 3,
      image: [1, 8, 8] as const,
      seed: 1,
      respacing: '3',
      eta: 0,
      combine: 'v' as const,
      lowRes,
    }
    const whole = await drawImages(unet, shared)
    expect((await drawImages(unet, { ...shared, batchSize: 2 })).data).to.deep.equal(whole.data)
    const error = await rejection(drawImages(unet, { ...shared, count: 2 }))
    expect(error.message).to.equal(
      'drawImages: expected lowRes to be 2 images, as many as count, got [3, 1, 4, 4]',
    )
  })
})

describe('lowResImages', () => {
  let small: Awaited<ReturnType<typeof smallData>>
  before(async () => {
    small = await smallData()
  })
  after(() => small.remove())

  const options = { channels: 1, size: [8, 8], factor: 2, count: 99 } as const
  const square = (side: number) => ({
    data: Uint8Array.from({ length: side * side }, (_, i) => (i * 37) % 256),
    ...{ width: side, height: side, channels: 1 },
  })
  const folder = async (name: string, sides: readonly number[]) => {
    const path = join(small.folder, name)
    await mkdir(path)
    for (const [i, side] of sides.entries()) await writePng(join(path, `${i}.png`), square(side))
    return path
  }

  it('takes small pictures as they are', async () => {
    const { lowRes, original, available } = await lowResImages(await folder('small', [4, 4, 4]), {
      ...options,
      count: 2,
    })
    expect(lowRes.shape).to.deep.equal([2, 1, 4, 4])
    expect(lowRes.data.slice(16)).to.deep.equal(square(4).data)
    expect(original).to.equal(undefined)
    expect(available).to.equal(3)
  })

  it('shrinks large ones as training does, and keeps the originals', async () => {
    const { lowRes, original } = await lowResImages(await folder('large', [8, 20]), options)
    expect(original?.shape).to.deep.equal([2, 1, 8, 8])
    expect(original?.data.slice(0, 64)).to.deep.equal(square(8).data)
    expect(lowRes).to.deep.equal(lowResTwin(original!, 2))
  })

  it('refuses small and large ones together, others, and what does not decode', async () => {
    const mixed = await folder('mixed', [8, 4])
    const message = async (path: string) => (await rejection(lowResImages(path, options))).message
    expect(await message(mixed)).to.equal(
      `lowResImages: expected the images of ${mixed} to be all small or all large, got image 0 with 8 x 8 and image 1 with 4 x 4`,
    )
    const odd = await folder('odd', [5])
    expect(await message(odd)).to.equal(
      `lowResImages: expected ${join(odd, '0.png')} to be 4 x 4, or 8 x 8 to be shrunk first, got 5 x 5`,
    )
    const broken = join(small.folder, 'broken.png')
    await writeFile(broken, encodePng(square(4)).subarray(0, 40))
    expect(await message(broken)).to.match(
      /^lowResImages: expected .*broken\.png to be a picture that decodes, got "/,
    )
  })
})

describe('sideBySide', () => {
  it('puts the stages of each picture beside one another, small ones enlarged', () => {
    const low = { data: Uint8Array.of(1, 2), shape: [2, 1, 1, 1] } as const
    const high = { data: Float32Array.of(-1, 1, 0, -1, 1, 1, -1, -1), shape: [2, 1, 2, 2] } as const
    const { data, shape } = sideBySide([low, high])
    expect(shape).to.deep.equal([4, 1, 2, 2])
    expect(Array.from(data)).to.deep.equal([1, 1, 1, 1, 0, 255, 127, 0, 2, 2, 2, 2, 255, 255, 0, 0])
  })

  it('refuses sizes that do not divide', () => {
    const image = (side: number) =>
      ({ data: new Uint8Array(side * side), shape: [1, 1, side, side] }) as const
    expect(() => sideBySide([image(2), image(3)])).to.throw(
      'sideBySide: expected batches[0].shape to be [1, 1, h, w] with h a divisor of 3 and w of 3, got [1, 1, 2, 2]',
    )
  })
})
