import { copyFile, mkdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect } from 'chai'
import { measureTimestepLoss } from '../../lib/analysis/timestep-loss.ts'
import { writeTensors } from '../../lib/checkpoint-file.ts'
import { batches } from '../../lib/data/batches.ts'
import { npz, writeNpz } from '../../lib/data/npz.ts'
import { withLowRes } from '../../lib/data/super-resolution.ts'
import { latestCheckpoint } from '../../lib/training/checkpoint.ts'
import { run } from '../../lib/training/run.ts'
import { convertWeights } from '../../lib/weights/convert.ts'
import { loadModel } from '../../lib/weights/load-model.ts'
import { expectClose } from '../support/close.ts'
import { command } from '../support/command.ts'
import { fixtureJson, fixturePath } from '../support/fixtures.ts'
import { formulaWeights } from '../support/formula-weights.ts'
import { SMALL, smallData } from '../support/small-run.ts'

/** What constructors do not say of the process. */
const PROCESS = {
  predict_xstart: false,
  noise_schedule: 'linear',
  diffusion_steps: 40,
  rescale_timesteps: false,
}

const QUICK = {
  probe: [
    ...['--sparse', '2', '--dense', '1', '--slots', '2', '--resamples', '2'],
    ...['--gradient-images', '1', '--gradient-timesteps', '2'],
  ],
  interference: [
    ...['--slots', '2', '--steps', '1', '--seeds', '1', '--batch-size', '2', '--timesteps-per-slot', '1'],
    ...['--draws', '4', '--draw-size', '1'],
  ],
  replace: ['--starts', '39', '--steps', '3', '--positions', '1', '--width', '0.5', '--windows', 'steps'],
} as const

describe('Instruments of files of guided-diffusion', function () {
  this.timeout(120_000)
  let small: Awaited<ReturnType<typeof smallData>>
  let updown: string[]
  const path = (name: string): string => join(small.folder, name)

  before(async () => {
    small = await smallData()
    const { config } = fixtureJson('unet-updown-scaleshift.json')
    await writeFile(path('updown.json'), JSON.stringify({ ...config, ...PROCESS }))
    updown = [
      ...['--weights', fixturePath('torch-files/unet-updown-scaleshift.pt')],
      ...['--config', path('updown.json'), '--data', path('of-16.npz')],
    ]
    const grey = Uint8Array.from({ length: 3 * 16 * 16 }, (_, i) => i % 256)
    await writeNpz(path('grey.npz'), { arr_0: { data: grey, shape: [3, 16, 16, 1] } })
    for (const size of [16, 32]) {
      const pixels = Uint8Array.from(
        { length: 6 * size * size * 3 },
        (_, i) => (i * 37 + (i >> 5) * 11) % 256,
      )
      await writeNpz(path(`of-${size}.npz`), {
        arr_0: { data: pixels, shape: [6, size, size, 3] },
        arr_1: { data: Int32Array.from({ length: 6 }, (_, k) => (3 * k) % 10), shape: [6] },
      })
    }
  })
  after(() => small.remove())

  /** A `.pt` in a folder of its own, with the formula's weights, and its constructor's options beside it. */
  async function fileOf(name: string, told: object = {}): Promise<string> {
    const { config, constructor: kind, parameters } = fixtureJson(`${name}.json`)
    const folder = path(`${name}-${Object.keys(told).join('-')}`)
    await mkdir(folder)
    const weights = join(folder, 'w.safetensors')
    const shapes = (parameters as [string, number[]][]).map(([name, shape]) => ({ name, shape }))
    await writeTensors(weights, formulaWeights(shapes))
    const json = { ...config, ...(kind === 'SuperResModel' && { superres: true }), ...PROCESS, ...told }
    await writeFile(join(folder, 'w.json'), JSON.stringify(json))
    await convertWeights(weights, join(folder, 'net.pt'))
    await copyFile(join(folder, 'w.json'), join(folder, 'net.json'))
    return join(folder, 'net.pt')
  }

  async function measured(words: readonly string[], instruments = Object.keys(QUICK)): Promise<void> {
    for (const name of instruments as (keyof typeof QUICK)[]) {
      const out = ['--count', '2', '--out', small.folder, '--name', name, '--threads', '1']
      const { code, err } = await command(name, ...QUICK[name], ...words, ...out)
      expect(code, `${name}: ${err}`).to.equal(0)
      const found = JSON.parse(await readFile(path(`instruments/${name}.json`), 'utf8'))
      expect(found.kind).to.equal(name)
    }
  }

  const refused = async (...words: string[]): Promise<string> => {
    const { code, err } = await command(...words, '--count', '2', '--out', path('refused'), '--threads', '1')
    expect(code, err).to.equal(2)
    return err.split('\n').at(-1) as string
  }

  it('measure a .pt as torch.save wrote it', async () => {
    await measured(updown)
    const { data } = JSON.parse(await readFile(path('instruments/probe.json'), 'utf8'))
    expect(data).to.include({ timestepCount: 40, imageCount: 2 })
    expect(data.heads).to.deep.equal(['eps'])
    const replaced = JSON.parse(await readFile(path('instruments/replace.json'), 'utf8'))
    expect(replaced.data.baselines[0].identityError).to.be.below(1e-5)
  })

  it('measure a class-conditional one on images with classes, and say which option is missing without', async () => {
    const words = ['--weights', await fileOf('unet-plain-classcond-legacyheads'), '--data', path('of-16.npz')]
    await measured([...words, '--classes', 'data'])
    for (const name of ['probe', 'interference', 'replace', 'measure', 'nll']) {
      expect(await refused(name, ...words)).to.equal(
        `trislot ${name}: expected --classes to be data, folder or prefix, because the network has 10 classes, got "none"`,
      )
    }
  })

  it('measure one of super-resolution on low-resolution images made of the data', async () => {
    const weights = await fileOf('superres-16-to-32', { large_size: 32, small_size: 16 })
    const words = ['--weights', weights, '--data', path('of-32.npz')]
    await measured(words)

    const out = path('curve.json')
    const more = ['--count', '2', '--timestep-stride', '20', '--slots', '2', '--threads', '1', '--out', out]
    const measure = async (...factor: string[]): Promise<number[]> => {
      const { code, err } = await command('measure', ...words, ...more, ...factor)
      expect(code, err).to.equal(0)
      return JSON.parse(await readFile(out, 'utf8')).loss
    }
    const { unet, schedule } = await loadModel(weights)
    const data = withLowRes(await npz(path('of-32.npz')), 2)
    const { value: images } = await batches(data, { batchSize: 2, seed: 1, prefetch: 0 }).next()
    expect(images.lowRes?.shape).to.deep.equal([2, 3, 16, 16])
    const { loss } = await measureTimestepLoss(unet, schedule, { images, seed: 1, timestepStride: 20 })
    for (const object of [unet, schedule]) object.dispose()
    const known = await measure()
    expectClose(known, loss, { relative: 1e-5, what: 'loss' })
    expect(await measure('--low-res-factor', '2')).to.deep.equal(known)
    expect(await measure('--low-res-factor', '4')).to.not.deep.equal(known)

    const bits = ['--count', '1', '--respacing', '2', '--out', path('nll'), '--threads', '1']
    const { code, err } = await command('nll', ...words, ...bits)
    expect(code, err).to.equal(0)
  })

  it('ask how much smaller those are where nothing says it, and refuse what does not divide or has no use', async () => {
    const weights = await fileOf('superres-16-to-32')
    const words = ['--weights', weights, '--data', path('of-32.npz')]
    for (const name of ['probe', 'interference', 'replace', 'measure', 'nll']) {
      expect(await refused(name, ...words)).to.equal(
        `trislot ${name}: expected --low-res-factor to be given, because ${weights} makes images larger and does not say how many times, got none`,
      )
    }
    await measured([...words, '--low-res-factor', '4'], ['probe'])
    expect(await refused('probe', ...words, '--low-res-factor', '3')).to.equal(
      `trislot probe: expected --low-res-factor to be a divisor of height (32) and width (32) of ${path('of-32.npz')}, got 3`,
    )
    expect(await refused('probe', ...updown, '--low-res-factor', '2')).to.equal(
      'trislot probe: expected --low-res-factor to be absent, the network makes no images larger, got 2',
    )
  })

  it('know it of our own runs, checkpoints and converted files', async () => {
    const folder = path('enlarges')
    await run({ ...SMALL, data: small.data, run: folder, steps: 1, superResolution: 4, heldOut: 4 })
    const checkpoint = (await latestCheckpoint(folder)) as string
    const converted = path('converted.pt')
    expect((await command('convert', checkpoint, converted)).code).to.equal(0)
    const more = ['--count', '2', '--timestep-stride', '2', '--slots', '2', '--threads', '1']
    const measure = (...words: string[]) =>
      command('measure', ...words, ...more, '--out', path('of-run.json'))
    for (const words of [
      ['--run', folder],
      ['--run', folder, '--data', path('grey.npz')],
      ['--checkpoint', checkpoint, '--data', small.data, '--low-res-factor', '4'],
      ['--weights', converted, '--data', small.data],
      ['--weights', join(checkpoint, 'model.safetensors'), '--data', small.data],
    ]) {
      const { code, err } = await measure(...words)
      expect(code, `${words.join(' ')}: ${err}`).to.equal(0)
    }
    expect(await measure('--run', folder, '--low-res-factor', '2')).to.include({
      code: 2,
      err: 'trislot measure: expected --low-res-factor to be absent unless --data is given, got 2',
    })
  })
})
