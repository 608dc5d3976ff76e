import { expect } from 'chai'
import { holdOut, inMemory, padded, subset } from '../../lib/data/dataset.ts'
import { lowResTwin, withLowRes } from '../../lib/data/super-resolution.ts'

const dataset = inMemory({
  data: Uint8Array.from({ length: 40 }, (_, i) => i),
  shape: [10, 1, 2, 2],
  labels: [0, 1, 0, 1, 0, 1, 0, 1, 0, 1],
  classNames: ['even', 'odd'],
  name: 'ten',
})

const first = async (view: typeof dataset, index: number) => (await view.image(index))[0]

describe('inMemory', () => {
  it('gives each image as a view of the array', async () => {
    expect([...(await dataset.image(3))]).to.deep.equal([12, 13, 14, 15])
    expect(dataset.label!(3)).to.equal(1)
  })

  it('refuses data, labels and indices that do not fit', () => {
    const data = new Uint8Array(7)
    expect(() => inMemory({ data, shape: [2, 1, 2, 2] })).to.throw(
      'inMemory: expected data to be 8 values for shape [2, 1, 2, 2], got Uint8Array(7)',
    )
    expect(() => inMemory({ data, shape: [7, 1, 1, 1], labels: [1] })).to.throw(
      'inMemory: expected labels to be 7 labels, one an image, got [1]',
    )
    expect(() => dataset.image(10)).to.throw(
      'dataset.image: expected index to be an integer in [0, 9], got 10',
    )
  })
})

describe('subset', () => {
  it('keeps order, labels and names of classes', async () => {
    const view = subset(dataset, [9, 0])
    expect(view).to.include({ length: 2, name: '2 of ten' })
    expect(view.classNames).to.deep.equal(['even', 'odd'])
    expect([await first(view, 0), await first(view, 1)]).to.deep.equal([36, 0])
    expect([view.label!(0), view.label!(1)]).to.deep.equal([1, 0])
  })

  it('refuses no indices and indices outside', () => {
    expect(() => subset(dataset, [])).to.throw('subset: expected indices to be at least one index, got []')
    expect(() => subset(dataset, [1, 10])).to.throw(
      'subset: expected indices[1] to be an integer in [0, 9], got 10',
    )
  })
})

describe('holdOut', () => {
  it('splits without loss or overlap, the same for the same seed', async () => {
    const { train, heldOut } = holdOut(dataset, 3, 5)
    expect([train.length, heldOut.length]).to.deep.equal([7, 3])
    const all = [
      ...(await Promise.all(Array.from({ length: 7 }, (_, i) => first(train, i)))),
      ...(await Promise.all(Array.from({ length: 3 }, (_, i) => first(heldOut, i)))),
    ]
    expect(all.sort((a, b) => a! - b!)).to.deep.equal([0, 4, 8, 12, 16, 20, 24, 28, 32, 36])
    expect(await first(holdOut(dataset, 3, 5).heldOut, 0)).to.equal(await first(heldOut, 0))
  })

  it('takes a fraction as well', () => {
    expect(holdOut(dataset, 0.2, 1).heldOut.length).to.equal(2)
  })

  it('refuses to leave one side empty', () => {
    for (const amount of [0, 10, 0.01, 2.5]) {
      expect(() => holdOut(dataset, amount, 1)).to.throw(
        `holdOut: expected amount to be a fraction in (0, 1) or a count in [1, 9], so that both parts have images, got ${amount}`,
      )
    }
  })
})

describe('padded', () => {
  it('puts the image into the middle of zeros', async () => {
    const view = padded(dataset, 4, 3)
    expect([view.height, view.width, view.label!(1)]).to.deep.equal([4, 3, 1])
    expect([...(await view.image(1))]).to.deep.equal([0, 0, 0, 4, 5, 0, 6, 7, 0, 0, 0, 0])
  })

  it('refuses to cut', () => {
    expect(() => padded(dataset, 1, 2)).to.throw('padded: expected height to be an integer >= 2, got 1')
  })
})

describe('lowResTwin', () => {
  it('averages the normalised image over blocks', () => {
    const data = Uint8Array.of(0, 0, 255, 255, 0, 0, 255, 0)
    const { data: low, shape } = lowResTwin({ data, shape: [1, 1, 2, 4] }, 2)
    expect(shape).to.deep.equal([1, 1, 1, 2])
    expect(low[0]).to.equal(-1)
    expect(low[1]).to.equal(0.5)
  })

  it('gives the same for uint8 and for the same image in [-1, 1]', () => {
    const data = Uint8Array.from({ length: 3 * 36 }, (_, i) => (i * 37) % 256)
    const floats = Float32Array.from(data, (value) => value / 127.5 - 1)
    const a = lowResTwin({ data, shape: [1, 3, 6, 6] }, 3).data
    const b = lowResTwin({ data: floats, shape: [1, 3, 6, 6] }, 3).data
    for (let i = 0; i < a.length; i++) expect(a[i]).to.be.closeTo(b[i]!, 1e-6)
  })

  it('is announced by withLowRes, which refuses other factors', () => {
    expect(withLowRes(dataset, 2).lowResFactor).to.equal(2)
    expect(subset(withLowRes(dataset, 2), [1]).lowResFactor).to.equal(2)
    expect(() => withLowRes(dataset, 3)).to.throw(
      'withLowRes: expected factor to be a divisor of height (2) and width (2), got 3',
    )
  })
})
