import { join } from 'node:path'
import { expect } from 'chai'
import { npz, writeNpz } from '../../lib/data/npz.ts'
import { runClassifier } from '../../lib/training/classifier-run.ts'
import { run } from '../../lib/training/run.ts'
import { command } from '../support/command.ts'
import { smallData } from '../support/small-run.ts'

describe('trislot sample with guidance', () => {
  let small: Awaited<ReturnType<typeof smallData>>
  let network: string
  let classifier: string
  const shared = { steps: 2, batchSize: 4, schedule: 'cosine', timestepCount: 30, threads: 1 } as const
  const layout = { modelChannels: 16, channelMult: [1, 2], resBlockCount: 1, normGroups: 8, headChannels: 16 }

  before(async () => {
    small = await smallData()
    const data = join(small.folder, 'classes.npz')
    const pixels = Uint8Array.from({ length: 12 * 64 }, (_, i) => (i * 29 + Math.floor(i / 64) * 91) % 256)
    const labels = BigInt64Array.from({ length: 12 }, (_, i) => BigInt(i % 3))
    await writeNpz(data, {
      arr_0: { data: pixels, shape: [12, 8, 8, 1] },
      arr_1: { data: labels, shape: [12] },
    })
    const named = (name: string) => ({ ...shared, ...layout, data, run: join(small.folder, name) })
    const options = {
      ...named('network'),
      classes: 'data',
      labelDropout: 0.5,
      previewEvery: 0,
      lr: 0.01,
    } as const
    network = (await run({ ...options, steps: 6 })).folder
    classifier = (await runClassifier({ ...named('classifier'), pool: 'spatial', lr: 0.01 })).folder
    await runClassifier({ ...named('linear'), schedule: 'linear' })
  })
  after(() => small.remove())

  const sample = (...words: string[]) =>
    command('sample', '--run', network, '--count', '3', '--steps', '3', '--threads', '1', ...words)
  const drawn = async (...words: string[]) => {
    const folder = join(small.folder, `drawn-${words.join('')}`.replaceAll(/[^\w-]/g, '_'))
    const { code, out, err } = await sample('--format', 'npz', '--out', folder, ...words)
    expect(code, err).to.equal(0)
    return Array.from(await (await npz(out)).image(0))
  }

  it('draws other images with a guidance scale, and without classes at 0', async () => {
    const plain = await drawn()
    expect(await drawn('--guidance-scale', '1')).to.deep.equal(plain)
    expect(await drawn('--guidance-scale', '40')).to.not.deep.equal(plain)
    expect(await drawn('--guidance-scale', '0')).to.deep.equal(
      await drawn('--guidance-scale', '0', '--class', '2'),
    )
    expect(await drawn('--guidance-scale', '40', '--guidance-interval', '0,0')).to.deep.equal(plain)
  })

  it('draws other images with a classifier, by DDIM, DDPM and the solvers', async () => {
    const guided = ['--classifier', classifier, '--classifier-scale', '30']
    for (const more of [[], ['--ddpm'], ['--solver', 'heun'], ['--solver', 'dpmpp2m']])
      expect(await drawn(...guided, ...more)).to.not.deep.equal(await drawn(...more))
    expect(await drawn('--classifier', classifier, '--classifier-scale', '0')).to.deep.equal(await drawn())
  })

  it('refuses a classifier of another noise schedule, and options that belong to one', async () => {
    const other = await sample('--classifier', join(small.folder, 'linear'))
    expect(other).to.deep.equal({
      code: 2,
      out: '',
      err: 'trislot sample: expected the classifier to be trained with the noise schedule of the network, cosine with 30 timesteps, got linear with 30 timesteps',
    })
    expect((await sample('--classifier-scale', '2')).err).to.equal(
      'trislot sample: expected --classifier-scale to be absent, it belongs to --classifier, got 2',
    )
    expect((await sample('--guidance-interval', '5,9')).err).to.equal(
      'trislot sample: expected --guidance-interval to be absent, it belongs to a --guidance-scale other than 1, got [5, 9]',
    )
    expect((await sample('--shard-size', '4')).err).to.equal(
      'trislot sample: expected --shard-size to be absent, it belongs to --format png and npz, got 4',
    )
    expect((await sample('--guidance-scale', '2', '--guidance-interval', '5')).err).to.equal(
      'trislot sample: expected --guidance-interval to be two timesteps BEGIN,END, 0 <= BEGIN <= END <= 30, got [5]',
    )
  })
})
