import { expect } from 'chai'
import { imagesBetween } from '../../lib/data/image-range.ts'

describe('imagesBetween', () => {
  const images = {
    data: Uint8Array.of(1, 2, 3, 4, 5, 6),
    shape: [3, 1, 1, 2],
    labels: Int32Array.of(7, 8, 9),
    lowRes: { data: Uint8Array.of(10, 20, 30), shape: [3, 1, 1, 1] },
  } as const

  it('cuts images, classes and low-resolution companions alike', () => {
    expect(imagesBetween(images, 1, 3)).to.deep.equal({
      data: Uint8Array.of(3, 4, 5, 6),
      shape: [2, 1, 1, 2],
      labels: Int32Array.of(8, 9),
      lowRes: { data: Uint8Array.of(20, 30), shape: [2, 1, 1, 1] },
    })
  })

  it('refuses a range without images', () => {
    expect(() => imagesBetween(images, 2, 2)).to.throw(
      RangeError,
      'imagesBetween: expected end to be an integer in [3, 3], got 2',
    )
  })
})
