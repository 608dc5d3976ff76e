import { existsSync } from 'node:fs'
import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect } from 'chai'
import { bitsPerDim } from '../../lib/analysis/bits-per-dim.ts'
import { imagesInOrder } from '../../lib/data/batches.ts'
import { npz, readNpz } from '../../lib/data/npz.ts'
import { Denoiser } from '../../lib/sampling/denoiser.ts'
import { latestCheckpoint, loadForSampling } from '../../lib/training/checkpoint.ts'
import { run } from '../../lib/training/run.ts'
import { expectClose } from '../support/close.ts'
import { command, start, until } from '../support/command.ts'
import { rejection } from '../support/rejection.ts'
import { SMALL, smallData } from '../support/small-run.ts'
import { tinyBatch, tinyTrainer } from '../support/tiny.ts'

describe('trislot nll', () => {
  let small: Awaited<ReturnType<typeof smallData>>
  let folder: string
  const { choose: _, microBatch: __, ...rest } = SMALL

  before(async () => {
    small = await smallData()
    folder = join(small.folder, 'r')
    await run({
      ...rest,
      data: small.data,
      run: folder,
      steps: 3,
      timestepCount: 40,
      respacing: '8',
      heads: ['eps'],
      learnsVariance: true,
      loss: 'rescaledMse',
      variance: 'learned',
      rescalesTimesteps: true,
    })
  })
  after(() => small.remove())

  it('is of the network itself: guidance has no likelihood', async () => {
    const { unet, schedule } = await tinyTrainer({}, { classCount: 3, nullClass: true })
    const denoiser = new Denoiser(unet, schedule.respace('4'), { guidanceScale: 0 })
    const images = { ...tinyBatch(), labels: Int32Array.of(0, 1, 2, 0) }
    expect((await rejection(bitsPerDim({ denoiser, images }))).message).to.equal(
      'bitsPerDim: expected denoiser.isGuided to be false, got true; guidance has no likelihood',
    )
  })

  it('writes what bitsPerDim says of the images in their order, and the terms as the original does', async () => {
    const words = ['--count', '5', '--batch-size', '2', '--seed', '3', '--weights', 'raw', '--threads', '1']
    const { code, out, err } = await command('nll', '--run', folder, ...words)
    expect(code, err).to.equal(0)
    const written = join(folder, 'nll')
    expect(out).to.match(/^\d+\.\d{4} bits\/dim over 5 images \(standard error \d+\.\d{4}\)\n/)
    expect(out.split('\n')[1]).to.equal(written)
    expect((await readdir(written)).sort()).to.deep.equal([
      'mse_terms.npz',
      'nll.json',
      'nll.svg',
      'vb_terms.npz',
      'xstart_mse_terms.npz',
    ])
    const json = JSON.parse(await readFile(join(written, 'nll.json'), 'utf8'))
    expect(json).to.include({
      count: 5,
      seed: 3,
      weights: 'raw',
      variance: 'learned',
      clip: true,
      respacing: null,
    })
    expect(json.timesteps).to.deep.equal([0, 6, 11, 17, 22, 28, 33, 39])

    const { unet, schedule } = await loadForSampling((await latestCheckpoint(folder)) as string, {
      weights: 'raw',
    })
    const denoiser = new Denoiser(unet, schedule, { rescalesTimesteps: true })
    const images = await imagesInOrder(await npz(small.data), 0, 5)
    const bits = await bitsPerDim({ denoiser, images, variance: 'learned', seed: 3 })
    // The same noise; the sums of a convolution may round differently in another batch.
    expectClose(json.images, bits.total, { relative: 1e-4, what: 'images' })
    expectClose([json.bitsPerDim], [bits.total.reduce((a, b) => a + b) / 5], { relative: 1e-4, what: 'mean' })
    for (const [file, name] of [
      ['vb_terms', 'bound'],
      ['mse_terms', 'epsMse'],
      ['xstart_mse_terms', 'xStartMse'],
    ] as const) {
      const terms = (await readNpz(join(written, `${file}.npz`), ['arr_0'])).get('arr_0')
      expect(terms?.shape).to.deep.equal([8])
      expect(Array.from(terms?.data as Float64Array).reverse()).to.deep.equal(json[name])
      const means = Array.from({ length: 8 }, (_, k) =>
        [0, 1, 2, 3, 4].reduce((sum, i) => sum + (bits[name][8 * i + k] as number) / 5, 0),
      )
      expectClose(json[name], means, { relative: 1e-4, absolute: 1e-6, what: name })
    }
    expect(json.bound.reduce((a: number, b: number) => a + b) + json.prior).to.be.closeTo(
      json.bitsPerDim,
      1e-3,
    )
  })

  it('visits fewer timesteps when told to, and writes where it is told', async () => {
    const out = join(small.folder, 'elsewhere')
    const words = ['--count', '2', '--respacing', '4', '--no-clip', '--out', out, '--threads', '1']
    const { code, err } = await command('nll', '--run', folder, ...words)
    expect(code, err).to.equal(0)
    const json = JSON.parse(await readFile(join(out, 'nll.json'), 'utf8'))
    expect(json).to.include({ clip: false, respacing: '4', weights: 'ema' })
    expect(json.timesteps).to.have.length(4)
  })

  it('stops at Ctrl-C, writes nothing and ends with 130', async () => {
    const out = join(small.folder, 'stopped')
    const long = join(small.folder, 'long')
    await run({ ...rest, data: small.data, run: long, steps: 1, timestepCount: 1000 })
    const more = ['--batch-size', '1', '--count', '24', '--out', out, '--threads', '1']
    const { child, ended } = start(['nll', '--run', long, ...more])
    let seen = ''
    child.stderr?.on('data', (chunk) => (seen += chunk))
    await until(() => seen.includes('evaluating'), 'the first timesteps')
    child.kill('SIGINT')
    const { code, err } = await ended
    expect(code).to.equal(130)
    expect(err).to.contain('stopping')
    expect(existsSync(out)).to.equal(false)
  })

  it('refuses what it cannot do', async () => {
    expect(await command('nll')).to.deep.equal({
      code: 2,
      out: '',
      err: 'trislot nll: expected one of --run, --checkpoint and --weights FILE to be given, got none',
    })
    const wrong = await command('nll', '--run', folder, '--variance', 'fixedSmall', '--count', '1')
    expect(wrong).to.deep.equal({
      code: 2,
      out: '',
      err: 'bitsPerDim: expected variance to be learned or learnedRange, as the network has it, got "fixedSmall"',
    })
    const spacing = await command('nll', '--run', folder, '--respacing', '9')
    expect(spacing).to.include({
      code: 2,
      err: 'spaceTimesteps: expected count of section 0 to be at most the 8 timesteps of the section, got 9',
    })
  })

  it('samples from such a run with the variance and the timesteps that it was trained with', async () => {
    const words = ['--count', '1', '--ddpm', '--out', join(small.folder, 'grid.png'), '--threads', '1']
    const { code, err } = await command('sample', '--run', folder, ...words)
    expect(code, err).to.equal(0)
  })
})
