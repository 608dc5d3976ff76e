import { expect } from 'chai'
import { gaussianEpsLoss } from '../../lib/analysis/gaussian-model.ts'
import { lossShares, partitionByLoss, partitionEvenly } from '../../lib/curriculum/partition.ts'
import { keyedRandom } from '../../lib/random.ts'

/** guided-diffusion's linear schedule for T = 1000. */
function linearAlphaBar(): Float64Array {
  let product = 1
  return Float64Array.from({ length: 1000 }, (_, t) => (product *= 1 - (1e-4 + (t * (0.02 - 1e-4)) / 999)))
}

const lengths = (slots: readonly { begin: number; end: number }[]) =>
  slots.map(({ begin, end }) => end - begin)

describe('partitionByLoss', () => {
  it('cuts a flat loss into slots of equal length', () => {
    expect(partitionByLoss(new Float64Array(1000).fill(0.3), 10)).to.deep.equal(partitionEvenly(1000, 10))
  })

  it('keeps every slot non-empty when one timestep holds all the loss', () => {
    expect(lengths(partitionByLoss(Float64Array.of(0, 0, 0, 9), 4))).to.deep.equal([1, 1, 1, 1])
    expect(lengths(partitionByLoss(Float64Array.of(9, 0, 0, 0), 4))).to.deep.equal([1, 1, 1, 1])
    expect(lengths(partitionByLoss(Float64Array.of(9, 0, 0, 0), 2))).to.deep.equal([1, 3])
  })

  it('takes the cut that is nearest to its share, and the lower of two', () => {
    expect(partitionByLoss([4, 3, 3], 2)[0]).to.deep.equal({ begin: 0, end: 1 }) // 4 and 7 of 10: 4 is nearer to 5
    expect(partitionByLoss([3, 3, 4], 2)[0]).to.deep.equal({ begin: 0, end: 2 })
    expect(partitionByLoss([1, 2, 1], 2)[0]).to.deep.equal({ begin: 0, end: 1 })
    expect(partitionByLoss([2, 0, 0, 2], 2)[0]).to.deep.equal({ begin: 0, end: 1 })
  })

  it('makes one slot of everything, and one slot of each timestep', () => {
    expect(partitionByLoss([1, 5, 2], 1)).to.deep.equal([{ begin: 0, end: 3 }])
    expect(lengths(partitionByLoss([1, 5, 2], 3))).to.deep.equal([1, 1, 1])
  })

  it('covers all timesteps without gap, overlap or empty slot, whatever the loss', () => {
    const random = keyedRandom(0, 'probe')
    for (let trial = 0; trial < 200; trial++) {
      const stream = random.at(trial)
      const timestepCount = stream.integer(1, 60)
      const slotCount = stream.integer(1, timestepCount + 1)
      const loss = Float64Array.from({ length: timestepCount }, () => stream.uniform() ** 8)
      const slots = partitionByLoss(loss, slotCount)
      expect(slots).to.have.length(slotCount)
      expect(slots[0]!.begin).to.equal(0)
      expect(slots.at(-1)!.end).to.equal(timestepCount)
      for (const [k, { begin, end }] of slots.entries()) {
        expect(end).to.be.above(begin)
        if (k > 0) expect(begin).to.equal(slots[k - 1]!.end)
      }
    }
  })

  it('gives slots whose shares are equal to within the largest single loss', () => {
    const loss = Float64Array.from({ length: 1000 }, (_, t) => Math.exp(-t / 100))
    const total = loss.reduce((a, b) => a + b, 0)
    for (const share of lossShares(partitionByLoss(loss, 10), loss)) {
      expect(share).to.be.closeTo(0.1, loss[0]! / total)
    }
  })

  it('refuses what is no loss curve', () => {
    expect(() => partitionByLoss([1, Number.NaN], 1)).to.throw(
      RangeError,
      'partitionByLoss: expected lossPerTimestep[1] to be a number >= 0, got NaN',
    )
    expect(() => partitionByLoss([-1, 1], 1)).to.throw(
      RangeError,
      'expected lossPerTimestep[0] to be a number >= 0, got -1',
    )
    expect(() => partitionByLoss([0, 0], 1)).to.throw(
      RangeError,
      'partitionByLoss: expected the sum of lossPerTimestep to be positive and finite, got 0',
    )
    expect(() => partitionByLoss([], 1)).to.throw(
      RangeError,
      'expected lossPerTimestep to be one loss a timestep, got []',
    )
    expect(() => partitionByLoss([1, 1], 3)).to.throw(
      RangeError,
      'partitionByLoss: expected slotCount to be an integer in [1, 2], got 3',
    )
  })
})

describe('partitionByLoss of a Gaussian image model', () => {
  // Edges of ten slots on the linear schedule, derived once from the model: the timesteps at which the cumulative
  // loss passes each tenth.
  const predicted: [size: number, edges: number[]][] = [
    [32, [12, 25, 39, 56, 76, 102, 137, 187, 273]],
    [64, [11, 23, 37, 53, 73, 97, 131, 180, 266]],
  ]
  for (const [size, edges] of predicted) {
    const loss = gaussianEpsLoss({ size, alphaBar: linearAlphaBar() })

    it(`passes the tenths of the cumulative loss at the predicted timesteps (${size} px)`, () => {
      const total = loss.reduce((a, b) => a + b, 0)
      let sum = 0
      const cumulative = loss.map((value) => (sum += value))
      expect(
        edges.map((_, k) => cumulative.findIndex((value) => value >= (total * (k + 1)) / 10)),
      ).to.deep.equal(edges)
    })

    it(`cuts within one timestep of them (${size} px)`, () => {
      const slots = partitionByLoss(loss, 10)
      for (const [k, edge] of edges.entries()) expect(slots[k]!.end).to.be.closeTo(edge, 1)
    })
  }
})

describe('partitionEvenly', () => {
  it('makes slots whose lengths differ by at most one', () => {
    expect(lengths(partitionEvenly(10, 4))).to.deep.equal([2, 3, 2, 3])
    expect(lengths(partitionEvenly(1000, 10))).to.deep.equal(new Array(10).fill(100))
  })

  it('refuses more slots than timesteps', () => {
    expect(() => partitionEvenly(3, 4)).to.throw(
      RangeError,
      'partitionEvenly: expected slotCount to be an integer in [1, 3], got 4',
    )
  })
})

describe('lossShares', () => {
  it('adds up to 1 over slots that cover all timesteps', () => {
    expect([
      ...lossShares(
        [
          { begin: 0, end: 1 },
          { begin: 1, end: 3 },
        ],
        [2, 1, 1],
      ),
    ]).to.deep.equal([0.5, 0.5])
  })

  it('refuses slots beyond the loss curve', () => {
    expect(() => lossShares([{ begin: 0, end: 4 }], [1, 1])).to.throw(
      RangeError,
      'lossShares: expected slots[0].end to be an integer in [1, 2], got 4',
    )
  })
})
