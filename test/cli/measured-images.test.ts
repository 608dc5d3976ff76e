import { cp, mkdir, readdir, rm } from 'node:fs/promises'
import { join, relative } from 'node:path'
import { expect } from 'chai'
import sharp from 'sharp'
import { folderOfCheckpoint } from '../../lib/cli/instrument-options.ts'
import { imagesFor, type SamplingNetwork } from '../../lib/cli/network-for-sampling.ts'
import { latestCheckpoint } from '../../lib/training/checkpoint.ts'
import { run } from '../../lib/training/run.ts'
import { command } from '../support/command.ts'
import { SMALL, smallData } from '../support/small-run.ts'

describe('Images that a network is measured on', () => {
  let small: Awaited<ReturnType<typeof smallData>>
  let pictures: string
  let ofNpz: string
  let ofPictures: string
  const path = (name: string): string => join(small.folder, name)
  const picture = (file: string, shade: number) =>
    sharp({ create: { width: 12, height: 10, channels: 3, background: { r: shade, g: 0, b: 255 - shade } } })
      .png()
      .toFile(file)

  before(async () => {
    small = await smallData()
    pictures = path('pictures')
    await mkdir(pictures)
    for (let i = 0; i < 6; i++) await picture(join(pictures, `p${i}.png`), 40 * i)
    ofNpz = path('of-npz')
    await run({ ...SMALL, data: small.data, run: ofNpz, steps: 1 })
    ofPictures = path('of-pictures')
    const folder = { data: pictures, size: 8, channels: 1, heldOut: 2 } as const
    await run({ ...SMALL, ...folder, run: ofPictures, steps: 1 })
  })
  after(() => small.remove())

  const measure = (...words: string[]) =>
    command(
      ...['measure', '--count', '2', '--timestep-stride', '2', '--slots', '2', '--threads', '1'],
      ...['--out', path('curve.json'), ...words],
    )

  it('are of any kind for a file of weights whose image size is known', async () => {
    const weights = path('w.pt')
    const checkpoint = (await latestCheckpoint(ofNpz)) as string
    expect((await command('convert', checkpoint, weights)).code).to.equal(0)
    for (const data of ['digits', small.data, pictures]) {
      const { code, err } = await measure('--weights', weights, '--data', data)
      expect(code, err).to.equal(0)
    }
    const words = ['--weights', weights, '--data', small.data, '--count', '1', '--out', path('nll')]
    const { code, err } = await command('nll', ...words)
    expect(code, err).to.equal(0)
  })

  it('are of any kind for a run, whatever kind it was trained on', async () => {
    for (const words of [
      ['--run', ofNpz, '--data', pictures],
      ['--run', ofNpz, '--data', pictures, '--size', '4'],
      ['--run', ofPictures, '--data', 'digits'],
    ]) {
      const { code, err } = await measure(...words)
      expect(code, err).to.equal(0)
    }
    expect(await measure('--run', ofPictures, '--data', 'digits', '--size', '8')).to.include({
      code: 1,
      err: 'run: expected size to be absent with data digits, which is not a folder of pictures, got 8',
    })
  })

  it('have options of their own where they are not the run’s, and of a folder those that the network needs', async () => {
    const own = {
      ...{ data: 'flowers', size: 16, channels: 1, crop: 'random', badFiles: 'skip', classes: 'prefix' },
      ...{ heldOut: 2, seed: 7, flip: true },
    }
    const images = { channels: 1, height: 16, width: 16, classNames: null, count: 9 }
    const network = {
      ...{ path: 'r/checkpoints/step-1', unet: { layout: { imageChannels: 1 } }, images },
      state: { extra: { run: own, images } },
    } as unknown as SamplingNetwork
    const options = async (given: Parameters<typeof imagesFor>[1], of = network) =>
      JSON.parse(JSON.stringify(await imagesFor('f', given, of)))
    const saved = { call: 'f', path: network.path, images }
    expect(await options({})).to.deep.equal({ ...own, saved })
    expect(await options({ data: 'flowers' })).to.deep.equal({ ...own, saved })
    expect(await options({ data: 'flowers', size: 32, classes: 'none' })).to.deep.equal({
      ...{ ...own, saved, size: 32, classes: 'none' },
    })
    expect(await options({ data: 'digits' })).to.deep.equal({ data: 'digits', classes: 'none', seed: 7 })
    expect(await options({ data: 'digits', classes: 'data' })).to.include({ classes: 'data' })
    expect(await options({ data: 'emoji' })).to.include({ size: 16, classes: 'none' })
    expect(await options({ data: pictures })).to.deep.equal({
      ...{ data: pictures, size: 16, channels: 1, crop: 'random', badFiles: 'skip', classes: 'prefix' },
      seed: 7,
    })
    expect(await options({ data: pictures, size: 32, classes: 'folder' })).to.include({
      ...{ size: 32, classes: 'folder' },
    })
    const { state: _, ...file } = network
    expect(await options({ data: pictures }, file)).to.deep.equal({
      ...{ data: pictures, size: 16, channels: 1, classes: 'none' },
    })
  })

  it('leave no use for --size and --classes where they are the run’s', async () => {
    for (const [option, value, shown] of [
      ['--size', '8', '8'],
      ['--classes', 'none', '"none"'],
    ] as const) {
      expect(await measure('--run', ofPictures, option, value)).to.deep.equal({
        code: 2,
        out: '',
        err: `trislot measure: expected ${option} to be absent unless --data is given, got ${shown}`,
      })
    }
  })

  it('are refused where the run held some out and they are not as many any more', async () => {
    const added = join(pictures, 'a.png')
    await picture(added, 99)
    try {
      const checkpoint = (await latestCheckpoint(ofPictures)) as string
      expect(await measure('--run', ofPictures)).to.deep.equal({
        code: 1,
        out: '',
        err: `trislot measure: expected data to hold 6 images, as when ${checkpoint} was saved, got 7 of ${pictures}; which of them were held out cannot be told any more: make it what it was, or name images that were not trained by --data`,
      })
      const { code, err } = await measure('--run', ofNpz, '--data', pictures)
      expect(code, err).to.equal(0)
    } finally {
      await rm(added)
    }
  })

  it('are reported beside a copy of a checkpoint, and in the run of one that is where it was', async () => {
    const checkpoint = (await latestCheckpoint(ofPictures)) as string
    const copy = path('copies/ck')
    await cp(checkpoint, copy, { recursive: true })
    const words = ['--sparse', '2', '--dense', '1', '--slots', '2', '--resamples', '2', '--count', '2']
    const probe = (where: string) =>
      command('probe', '--checkpoint', where, ...words, '--gradient-images', '0', '--threads', '1')
    const { code, err } = await probe(copy)
    expect(code, err).to.equal(0)
    expect((await readdir(path('copies'))).sort()).to.deep.equal(['ck', 'instruments', 'report.html'])
    expect((await readdir(small.folder)).includes('instruments')).to.equal(false)

    expect(folderOfCheckpoint(checkpoint)).to.equal(ofPictures)
    expect(folderOfCheckpoint(`${checkpoint}/`)).to.equal(ofPictures)
    expect(folderOfCheckpoint(relative('.', checkpoint))).to.equal(relative('.', ofPictures))
    expect(folderOfCheckpoint('ck')).to.equal('.')
    const here = process.cwd()
    try {
      process.chdir(join(ofPictures, 'checkpoints'))
      expect(folderOfCheckpoint('step-00000001')).to.equal('..')
    } finally {
      process.chdir(here)
    }
  })
})
