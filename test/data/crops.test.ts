import { readFileSync } from 'node:fs'
import { expect } from 'chai'
import { centerCrop, halveForRandomCrop, randomCropSliced } from '../../lib/data/center-crop.ts'
import { finish, type Pixels, pillowResize } from '../../lib/data/pillow-resize.ts'
import { keyedRandom } from '../../lib/random.ts'

const fixture = JSON.parse(
  readFileSync(new URL('../fixtures/pillow-crops.json', import.meta.url), 'utf8'),
) as {
  cases: { height: number; width: number; channels: number; size: number; expected: number[] }[]
}

/** The image of the specification's golden crops. */
function formula(height: number, width: number, channels: number): Pixels {
  const data = new Uint8Array(height * width * channels)
  let i = 0
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      for (let c = 0; c < channels; c++) data[i++] = (7 * y + 13 * x + 29 * c + 5 * ((y * x) % 17)) % 256
    }
  }
  return { data, width, height, channels }
}

const pixel = ({ data, width }: Pixels, y: number, x: number) => [
  ...data.subarray((y * width + x) * 3, (y * width + x) * 3 + 3),
]

describe('centerCrop', () => {
  const golden = [
    { size: 32, sum: 393107, first: [157, 192, 156], last: [121, 77, 58], centre: [105, 135, 160] },
    { size: 64, sum: 1564772, first: [128, 157, 166], last: [30, 45, 75], centre: [95, 124, 153] },
    { size: 24, sum: 222064, first: [163, 192, 157], last: [91, 72, 69], centre: [138, 167, 180] },
  ]
  for (const { size, sum, first, last, centre } of golden) {
    it(`gives guided-diffusion's golden crop to ${size} of a 97 x 131 image`, () => {
      const crop = centerCrop(formula(131, 97, 3), [size, size])
      expect([crop.height, crop.width, crop.data.length]).to.deep.equal([size, size, size * size * 3])
      expect(crop.data.reduce((total, value) => total + value, 0)).to.equal(sum)
      expect(pixel(crop, 0, 0)).to.deep.equal(first)
      expect(pixel(crop, size - 1, size - 1)).to.deep.equal(last)
      expect(pixel(crop, size / 2, size / 2)).to.deep.equal(centre)
    })
  }

  for (const { height, width, channels, size, expected } of fixture.cases) {
    it(`equals Pillow from ${width} x ${height} with ${channels} channels to ${size}`, () => {
      const crop = centerCrop(formula(height, width, channels), [size, size])
      expect([...crop.data]).to.deep.equal(expected)
    })
  }

  it('leaves an image of the wanted size as it is', () => {
    const image = formula(8, 8, 3)
    expect(centerCrop(image, [8, 8]).data).to.deep.equal(image.data)
  })

  it('refuses a strip so thin that covering the size would take gigabytes', () => {
    const strip = { data: new Uint8Array(100_000), width: 1, height: 100_000, channels: 1 }
    expect(() => centerCrop(strip, [64, 64])).to.throw(
      RangeError,
      'crop: expected a picture that covers 64x64 in 67108864 pixels, got 6400000x64 for one of 100000x1',
    )
    expect(centerCrop(strip, [2, 2]).data.length).to.equal(4)
  })

  it('covers a size that is not square and takes the middle', () => {
    const crop = centerCrop(formula(131, 97, 3), [10, 40])
    expect([crop.height, crop.width, crop.data.length]).to.deep.equal([10, 40, 1200])
  })
})

describe('pillowResize', () => {
  it('averages whole blocks with BOX', () => {
    const image = { data: Uint8Array.of(0, 10, 20, 31), width: 2, height: 2, channels: 1 }
    expect([...pillowResize(image, 1, 1, 'box').data]).to.deep.equal([16]) // (5, 26 after rounding) -> 16
  })

  it('keeps a flat image flat with BICUBIC', () => {
    const image = { data: new Uint8Array(7 * 5).fill(203), width: 7, height: 5, channels: 1 }
    expect(new Set(pillowResize(image, 11, 3, 'bicubic').data)).to.deep.equal(new Set([203]))
  })
})

describe('randomCropSliced', () => {
  const crop = (step: number, image = formula(131, 97, 3)) =>
    finish(randomCropSliced(image, [16, 16], keyedRandom(5, 'crop').at(step)))

  it('gives the same crop for the same key and another for another', () => {
    expect(crop(3).data).to.deep.equal(crop(3).data)
    expect(crop(3).data).to.not.deep.equal(crop(4).data)
  })

  it('is always of the wanted size', () => {
    for (let step = 0; step < 40; step++) expect(crop(step).data.length).to.equal(16 * 16 * 3)
  })

  it('does not change when the halvings that all crops share are done before', () => {
    const halved = finish(halveForRandomCrop(formula(131, 97, 3), [16, 16]))
    expect(halved.width).to.equal(24)
    for (let step = 0; step < 10; step++) expect(crop(step, halved).data).to.deep.equal(crop(step).data)
  })
})
