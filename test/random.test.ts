import { readFileSync } from 'node:fs'
import { expect } from 'chai'
import { keyedRandom, PURPOSES, philox4x32 } from '../lib/random.ts'

const hex = (words: Uint32Array) => [...words].map((word) => word.toString(16).padStart(8, '0')).join(' ')

describe('philox4x32', () => {
  // Known answers of the authors' library, Random123 (kat_vectors, philox4x32 with 10 rounds).
  it('gives the known answer for zeros', () => {
    expect(hex(philox4x32(0, 0, 0, 0, 0, 0))).to.equal('6627e8d5 e169c58d bc57ac4c 9b00dbd8')
  })

  it('gives the known answer for ones', () => {
    const f = 0xffffffff
    expect(hex(philox4x32(f, f, f, f, f, f))).to.equal('408f276d 41c83b0e a20bc7c6 6d5451fd')
  })

  it('gives the known answer for the digits of pi', () => {
    const words = philox4x32(0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344, 0xa4093822, 0x299f31d0)
    expect(hex(words)).to.equal('d16cfe09 94fdcceb 5001e420 24126ea1')
  })

  it('multiplies 32 by 32 bits as exactly as integers of any size do', () => {
    const reference = (counter: number[], key: number[]): number[] => {
      let [a, b, c, d] = counter.map(BigInt) as [bigint, bigint, bigint, bigint]
      let [k0, k1] = key.map(BigInt) as [bigint, bigint]
      const mask = 0xffffffffn
      for (let round = 0; round < 10; round++) {
        const p0 = 0xd2511f53n * a
        const p1 = 0xcd9e8d57n * c
        ;[a, b, c, d] = [(p1 >> 32n) ^ b ^ k0, p1 & mask, (p0 >> 32n) ^ d ^ k1, p0 & mask]
        k0 = (k0 + 0x9e3779b9n) & mask
        k1 = (k1 + 0xbb67ae85n) & mask
      }
      return [a, b, c, d].map(Number)
    }
    let [c0, c1, c2, c3] = [1, 2, 3, 4]
    for (let i = 0; i < 200; i++) {
      const words = philox4x32(c0, c1, c2, c3, i, 7)
      expect([...words]).to.deep.equal(reference([c0, c1, c2, c3], [i, 7]))
      ;[c0, c1, c2, c3] = words as unknown as [number, number, number, number]
    }
  })
})

describe('keyedRandom', () => {
  it('has counter (block, sample, step, purpose) and the seed as key, low word first', () => {
    const seed = 2 ** 40 + 5
    const stream = keyedRandom(seed, 'shuffle').at(9, 3)
    const words = Array.from({ length: 8 }, () => stream.bits())
    const block = (n: number) => [...philox4x32(n, 3, 9, PURPOSES.shuffle, 5, 2 ** 8)]
    expect(words).to.deep.equal([...block(0), ...block(1)])
  })

  it('starts from the beginning whenever a step is asked for', () => {
    const random = keyedRandom(1, 'flip')
    const first = random.at(4).uniform()
    random.at(5).uniform()
    expect(random.at(4).uniform()).to.equal(first)
    expect(keyedRandom(1, 'flip').at(4).uniform()).to.equal(first)
  })

  it('has other numbers for another seed, purpose, step or sample', () => {
    const numbers = [
      keyedRandom(1, 'flip').at(4),
      keyedRandom(2, 'flip').at(4),
      keyedRandom(1 + 2 ** 32, 'flip').at(4),
      keyedRandom(1, 'crop').at(4),
      keyedRandom(1, 'flip').at(5),
      keyedRandom(1, 'flip').at(4, 1),
    ].map((stream) => stream.bits())
    expect(new Set(numbers).size).to.equal(numbers.length)
  })

  it('gives uniform numbers in [0, 1)', () => {
    const stream = keyedRandom(0, 'probe').at(0)
    const values = Array.from({ length: 4000 }, () => stream.uniform())
    expect(Math.min(...values)).to.be.at.least(0)
    expect(Math.max(...values)).to.be.below(1)
    expect(values.reduce((a, b) => a + b, 0) / values.length).to.be.closeTo(0.5, 0.02)
  })

  it('gives whole numbers of a half-open range, each equally often', () => {
    const stream = keyedRandom(0, 'probe').at(1)
    const counts = new Int32Array(5)
    for (let i = 0; i < 5000; i++) counts[stream.integer(10, 15) - 10]!++
    for (const count of counts) expect(count).to.be.within(850, 1150)
    expect(() => stream.integer(3, 3)).to.throw(
      RangeError,
      'random.integer: expected begin < end, got [3, 3)',
    )
  })

  it('gives normal numbers of mean 0 and variance 1', () => {
    const stream = keyedRandom(0, 'probe').at(2)
    const values = Array.from({ length: 4000 }, () => stream.normal())
    expect(values.reduce((a, b) => a + b, 0) / values.length).to.be.closeTo(0, 0.06)
    expect(values.reduce((a, b) => a + b * b, 0) / values.length).to.be.closeTo(1, 0.1)
  })

  it('refuses seeds that are no whole number in [0, 2^53)', () => {
    for (const seed of [-1, 0.5, 2 ** 53, Number.NaN]) {
      expect(() => keyedRandom(seed, 'flip')).to.throw(
        RangeError,
        `keyedRandom: expected seed to be an integer in [0, 2^53), got ${seed}`,
      )
    }
  })

  it('numbers the purposes as native/runtime/rng.h does', () => {
    const header = readFileSync(new URL('../native/runtime/rng.h', import.meta.url), 'utf8')
    const list = /enum class Purpose[^{]*\{([^}]*)\}/.exec(header)![1]!
    const native = [...list.matchAll(/(\w+) = (\d+)/g)].map(([, name, value]) => [
      name!.toLowerCase(),
      Number(value),
    ])
    const here = new Map(Object.entries(PURPOSES).map(([name, value]) => [name.toLowerCase(), value]))
    expect(native).to.have.length.above(4)
    for (const [name, value] of native) expect(here.get(name as string), name as string).to.equal(value)
    expect(new Set(here.values()).size).to.equal(here.size)
  })
})
