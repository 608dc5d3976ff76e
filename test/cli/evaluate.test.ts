import { mkdir, mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect } from 'chai'
import { writeSamplesNpz } from '../../lib/data/npz.ts'
import { onePicture } from '../../lib/report/grid.ts'
import { writePng } from '../../lib/report/png.ts'
import type { ImageBatch } from '../../lib/tensor.ts'
import { command } from '../support/command.ts'
import { fixturePath } from '../support/fixtures.ts'

describe('trislot evaluate', () => {
  let folder: string
  let [samples, reference] = ['', '']
  const network = fixturePath('feature-networks/everything.pt')
  const images = (count: number, step: number): ImageBatch => {
    const data = Uint8Array.from({ length: count * 3 * 64 }, (_, i) => (i * step + (i >> 5) * 3) % 256)
    return { data, shape: [count, 3, 8, 8] }
  }
  before(async () => {
    folder = await mkdtemp(join(tmpdir(), 'trislot-evaluate-'))
    samples = await writeSamplesNpz(folder, images(12, 7))
    reference = await writeSamplesNpz(folder, images(20, 11))
  })
  after(() => rm(folder, { recursive: true }))

  it('makes a reference, compares with it, and prints and writes the same JSON', async () => {
    const statistics = join(folder, 'stats', 'reference.npz')
    const made = await command(
      ...['evaluate', '--make-reference', '--reference', reference, '--features', network],
      ...['--out', statistics],
    )
    expect(made).to.include({ code: 0, out: statistics })
    const out = join(folder, 'result.json')
    const { code, out: printed } = await command(
      ...['evaluate', '--samples', samples, '--reference', statistics, '--features', network, '--out', out],
    )
    expect(code).to.equal(0)
    const result = JSON.parse(printed)
    expect(result).to.deep.equal(JSON.parse(await readFile(out, 'utf8')))
    expect(result.samples).to.deep.equal({ name: samples, count: 12 })
    for (const name of ['fid', 'sfid', 'inceptionScore', 'precision', 'recall', 'slicedWasserstein']) {
      expect(result[name], name).to.be.a('number')
    }
    const direct = await command(
      ...['evaluate', '--samples', samples, '--reference', reference, '--features', network],
    )
    expect(JSON.parse(direct.out).fid).to.be.closeTo(result.fid, 1e-9 * result.fid)
  })

  it('compares a folder of pictures without a feature network', async () => {
    const pictures = join(folder, 'pictures')
    await mkdir(pictures)
    for (let i = 0; i < 12; i++) await writePng(join(pictures, `${i}.png`), onePicture(images(12, 7), i))
    const { out } = await command(
      ...['evaluate', '--samples', pictures, '--size', '8', '--reference', reference],
    )
    const fromNpz = await command('evaluate', '--samples', samples, '--reference', reference)
    expect(JSON.parse(out).slicedWasserstein).to.be.closeTo(JSON.parse(fromNpz.out).slicedWasserstein, 1e-6)
    expect(JSON.parse(out)).to.include({ fid: null, network: null })
  })

  it('says which option is missing', async () => {
    expect(await command('evaluate', '--reference', reference)).to.include({
      code: 2,
      err: 'trislot evaluate: expected --samples to be given without --make-reference, got none',
    })
    expect(
      await command('evaluate', '--samples', samples, '--reference', reference, '--keep', '5'),
    ).to.include({
      code: 2,
      err: 'trislot evaluate: expected --keep to be absent without --make-reference, got 5',
    })
    const making = ['--make-reference', '--reference', reference, '--features', network, '--out', 'r.npz']
    expect(await command('evaluate', ...making, '--samples', samples)).to.include({
      code: 2,
      err: `trislot evaluate: expected --samples to be absent with --make-reference, got ${samples}`,
    })
    expect(await command('evaluate', '--make-reference', '--reference', reference)).to.include({
      code: 2,
      err: 'trislot evaluate: expected --features to be given with --make-reference, got none',
    })
    expect(
      (await command('evaluate', '--samples', join(folder, 'no.npz'), '--reference', reference)).err,
    ).to.equal(`npzOnDisk: expected file to be readable, got ENOENT for ${join(folder, 'no.npz')}`)
  })
})
