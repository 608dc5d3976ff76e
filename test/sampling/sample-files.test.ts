import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect } from 'chai'
import { readNpz } from '../../lib/data/npz.ts'
import { drawSamplesNpz, drawSamplesPng, type SampleFilesOptions } from '../../lib/sampling/sample-files.ts'
import { rejection } from '../support/rejection.ts'

describe('drawSamplesNpz and drawSamplesPng', () => {
  let folder: string
  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), 'trislot-samples-'))
  })
  afterEach(() => rm(folder, { recursive: true }))

  /** Image k is filled with k, channel c adds 100 c. */
  function options(
    more: Partial<SampleFilesOptions> = {},
  ): SampleFilesOptions & { drawn: [number, number][] } {
    const drawn: [number, number][] = []
    return {
      folder,
      count: 7,
      image: [2, 2, 3],
      shardSize: 3,
      settings: { seed: 1, solver: 'ddim' },
      classOf: (k) => k % 3,
      draw: async (first, n) => {
        drawn.push([first, n])
        const data = Uint8Array.from({ length: n * 12 }, (_, i) => {
          return first + Math.floor(i / 12) + 100 * (Math.floor(i / 6) % 2)
        })
        return { data, shape: [n, 2, 2, 3] }
      },
      drawn,
      ...more,
    }
  }

  it('writes all images in order as NHWC, with int64 labels, and keeps no shard', async () => {
    const file = await drawSamplesNpz(options())
    expect(file).to.equal(join(folder, 'samples_7x2x3x2.npz'))
    const arrays = await readNpz(file, ['arr_0', 'arr_1'])
    expect(arrays.get('arr_0')?.shape).to.deep.equal([7, 2, 3, 2])
    expect(Array.from(arrays.get('arr_0')!.data as Uint8Array).slice(-4)).to.deep.equal([6, 106, 6, 106])
    expect(arrays.get('arr_1')?.data).to.deep.equal(BigInt64Array.of(0n, 1n, 2n, 0n, 1n, 2n, 0n))
    expect((await readdir(folder)).sort()).to.deep.equal(['samples_7x2x3x2.json', 'samples_7x2x3x2.npz'])
  })

  it('goes on after a failure with the shards that are there, and ends with the same bytes', async () => {
    const whole = await readFile(await drawSamplesNpz(options({ folder: join(folder, 'whole') })))
    const failing = options()
    const error = await rejection(
      drawSamplesNpz({
        ...failing,
        draw: (first, n) => (first === 6 ? Promise.reject(new Error('killed')) : failing.draw(first, n)),
      }),
    )
    expect(error.message).to.equal('killed')
    const parts = join(folder, 'samples_7x2x3x2.parts')
    expect(await readdir(parts)).to.deep.equal(['00000000.bin', '00000003.bin'])
    await writeFile(join(parts, '00000003.bin'), 'cut short')
    const seen: [number, number][] = []
    const again = options({ onShard: (done, now) => seen.push([done, now]) })
    const file = await drawSamplesNpz(again)
    expect(again.drawn).to.deep.equal([
      [3, 3],
      [6, 1],
    ])
    expect(seen).to.deep.equal([
      [3, 0],
      [6, 3],
      [7, 4],
    ])
    expect((await readFile(file)).equals(whole)).to.equal(true)
  })

  it('draws nothing when the file is there', async () => {
    await drawSamplesNpz(options())
    const again = options()
    await drawSamplesNpz(again)
    expect(again.drawn).to.deep.equal([])
  })

  it('refuses other settings, and a file that it did not make', async () => {
    await drawSamplesNpz(options())
    const error = await rejection(drawSamplesNpz(options({ settings: { seed: 2, eta: 0.5 }, shardSize: 2 })))
    const json = join(folder, 'samples_7x2x3x2.json')
    expect(error.message).to.equal(
      `drawSamplesNpz: expected the settings of the samples in ${folder}, got seed 2 instead of 1, solver undefined instead of "ddim", shardSize 2 instead of 3, eta 0.5 instead of undefined; ` +
        `give the same again, choose another folder, or remove ${json} and what it belongs to`,
    )
    await rm(json)
    for (const _ of ['once', 'and again']) {
      expect((await rejection(drawSamplesNpz(options()))).message).to.match(
        /^drawSamplesNpz: expected .*samples_7x2x3x2.npz to be absent or made by this command, got a file without its settings; choose another folder$/,
      )
    }
  })

  it('takes no shard and no picture of settings that nobody knows', async () => {
    const stopped = { draw: () => Promise.reject(new Error('killed')) }
    await rejection(drawSamplesNpz(options(stopped)))
    const part = join(folder, 'samples_7x2x3x2.parts', '00000000.bin')
    await writeFile(part, new Uint8Array(36))
    await rm(join(folder, 'samples_7x2x3x2.json'))
    const again = options({ settings: { seed: 2 } })
    await drawSamplesNpz(again)
    expect(again.drawn.map(([first]) => first)).to.deep.equal([0, 3, 6])

    await writeFile(join(folder, '00003.png'), 'of another tool')
    for (const _ of ['once', 'and again']) {
      expect((await rejection(drawSamplesPng(options()))).message).to.match(
        /^drawSamplesPng: expected .*00003\.png to be absent or made by this command, got a file without its settings; choose another folder$/,
      )
    }
    expect(await readFile(join(folder, '00003.png'), 'utf8')).to.equal('of another tool')
  })

  it('writes single pictures, and draws again only shards with a picture missing', async () => {
    await drawSamplesPng(options())
    expect(await readdir(folder))
      .to.have.length(8)
      .and.include('00006.png')
      .and.include('samples.json')
    const before = await readFile(join(folder, '00004.png'))
    await rm(join(folder, '00004.png'))
    const again = options()
    await drawSamplesPng(again)
    expect(again.drawn).to.deep.equal([[3, 3]])
    expect((await readFile(join(folder, '00004.png'))).equals(before)).to.equal(true)
  })
})
