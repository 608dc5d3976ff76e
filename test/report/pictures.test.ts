import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect } from 'chai'
import sharp from 'sharp'
import { imageGrid, onePicture } from '../../lib/report/grid.ts'
import { encodePng, toUint8, writePng } from '../../lib/report/png.ts'

describe('toUint8', () => {
  it('truncates as guided-diffusion does', () => {
    const values = Float32Array.of(-1, -0.999, 0, 0.5, 0.9999, 1, -3, 3, Number.NaN)
    expect([...toUint8(values)]).to.deep.equal([0, 0, 127, 191, 254, 255, 0, 255, 0])
  })

  it('brings every uint8 value back that was normalised by x / 127.5 - 1, up to truncation', () => {
    const values = Float32Array.from({ length: 256 }, (_, i) => i / 127.5 - 1)
    for (const [i, value] of toUint8(values).entries()) expect(i - value).to.be.oneOf([0, 1])
  })
})

describe('encodePng', () => {
  for (const [channels, name] of [
    [1, 'grey'],
    [2, 'grey and alpha'],
    [3, 'RGB'],
    [4, 'RGB and alpha'],
  ] as const) {
    it(`gives ${name} pixels that another decoder reads back`, async () => {
      const data = Uint8Array.from({ length: 7 * 5 * channels }, (_, i) => (i * 37 + 11) % 256)
      const png = encodePng({ data, width: 7, height: 5, channels })
      const { data: back, info } = await sharp(png).raw().toBuffer({ resolveWithObject: true })
      expect([info.width, info.height]).to.deep.equal([7, 5])
      expect((await sharp(png).metadata()).channels).to.equal(channels)
      const isGrey = channels < 3 // sharp spreads grey over three channels
      const kept = [...back].filter((_, i) => !isGrey || i % info.channels === 0 || i % info.channels === 3)
      expect(kept).to.deep.equal([...data])
    })
  }

  it('refuses data that do not fit', () => {
    expect(() => encodePng({ data: new Uint8Array(5), width: 2, height: 1, channels: 3 })).to.throw(
      'encodePng: expected data to be 6 values for 1 x 2 pixels of 3 channels, got Uint8Array(5)',
    )
  })
})

describe('imageGrid', () => {
  const images = { data: Uint8Array.of(1, 2, 3, 4, 5, 6), shape: [3, 1, 1, 2] as const }

  it('lays images out row by row with gaps', () => {
    const grid = imageGrid(images, { columns: 2, gap: 1, background: 9 })
    expect([grid.width, grid.height]).to.deep.equal([7, 5])
    expect([...grid.data]).to.deep.equal(
      [
        [9, 9, 9, 9, 9, 9, 9],
        [9, 1, 2, 9, 3, 4, 9],
        [9, 9, 9, 9, 9, 9, 9],
        [9, 5, 6, 9, 9, 9, 9],
        [9, 9, 9, 9, 9, 9, 9],
      ].flat(),
    )
  })

  it('enlarges whole pixels', () => {
    const grid = imageGrid(images, { columns: 3, gap: 0, scale: 2 })
    expect([...grid.data.subarray(0, 12)]).to.deep.equal([1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6])
    expect(grid.height).to.equal(2)
  })

  it('interleaves channels and truncates floats', () => {
    const data = Float32Array.of(-1, 1, 0, 0, 1, -1)
    const grid = imageGrid({ data, shape: [1, 3, 1, 2] }, { gap: 0 })
    expect([...grid.data]).to.deep.equal([0, 127, 255, 255, 127, 0])
  })

  it('is as square as possible by default', () => {
    const { width, height } = imageGrid({ data: new Uint8Array(10), shape: [10, 1, 1, 1] }, { gap: 0 })
    expect([width, height]).to.deep.equal([4, 3])
  })

  it('refuses wrong options', () => {
    expect(() => imageGrid(images, { scale: 0 })).to.throw(
      'imageGrid: expected scale to be an integer in [1, 64], got 0',
    )
  })
})

describe('writePng', () => {
  it('writes one picture of a batch', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'trislot-png-'))
    const picture = onePicture({ data: Uint8Array.of(1, 2, 3, 4), shape: [2, 1, 1, 2] }, 1)
    await writePng(join(folder, 'a.png'), picture)
    expect([...(await readFile(join(folder, 'a.png')))]).to.deep.equal([...encodePng(picture)])
    expect([...picture.data]).to.deep.equal([3, 4])
    await rm(folder, { recursive: true })
  })
})
