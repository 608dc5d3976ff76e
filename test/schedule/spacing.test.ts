import { readFileSync } from 'node:fs'
import { expect } from 'chai'
import { spaceTimesteps } from '../../lib/schedule/spacing.ts'

// Timesteps of the original implementation for T = 1000.
const golden: Record<string, { timesteps: number[] }> = JSON.parse(
  readFileSync(new URL('../fixtures/respacing.json', import.meta.url), 'utf8'),
)

describe('spaceTimesteps', () => {
  for (const [spec, { timesteps }] of Object.entries(golden)) {
    it(`keeps the timesteps of the original for ${JSON.stringify(spec)}`, () => {
      expect([...spaceTimesteps(1000, spec)]).to.deep.equal(timesteps)
    })
  }

  const table: [
    timestepCount: number,
    spec: string,
    count: number,
    sum: number,
    first: number[],
    last: number[],
  ][] = [
    [1000, '250', 250, 124875, [0, 4, 8, 12, 16, 20, 24, 28], [979, 983, 987, 991, 995, 999]],
    [1000, '25', 25, 12487, [0, 42, 83, 125, 166, 208, 250, 291], [791, 832, 874, 916, 957, 999]],
    [1000, '100', 100, 49950, [0, 10, 20, 30, 40, 50, 61, 71], [949, 959, 969, 979, 989, 999]],
    [1000, 'ddim25', 25, 12000, [0, 40, 80], [920, 960]],
    [300, '10,15,20', 45, 7727, [0, 11, 22, 33, 44, 55, 66, 77], [273, 278, 283, 289, 294, 299]],
    [1000, '10,10,10,10,10', 50, 24975, [0, 22, 44, 66, 88, 111, 133, 155], [888, 911, 933, 955, 977, 999]],
    [10, '3', 3, 13, [0, 4, 9], [0, 4, 9]], // 4.5 rounds to the even 4
    [4000, '250', 250, 499875, [0, 16, 32], [3983, 3999]],
  ]
  for (const [timestepCount, spec, count, sum, first, last] of table) {
    it(`keeps ${count} of ${timestepCount} timesteps for "${spec}"`, () => {
      const kept = [...spaceTimesteps(timestepCount, spec)]
      expect(kept).to.have.length(count)
      expect(kept.reduce((a, b) => a + b, 0)).to.equal(sum)
      expect(kept.slice(0, first.length)).to.deep.equal(first)
      expect(kept.slice(-last.length)).to.deep.equal(last)
    })
  }

  it('keeps first and last of each section, ascending', () => {
    const kept = spaceTimesteps(1000, '90,60,60,20,20')
    expect(kept).to.have.length(250)
    expect(kept.every((t, i) => i === 0 || t > kept[i - 1]!)).to.equal(true)
    for (const edge of [0, 199, 200, 399, 400, 599, 600, 799, 800, 999])
      expect(kept.includes(edge)).to.equal(true)
  })

  it('keeps all for an empty specification, and for the count of all', () => {
    expect(spaceTimesteps(1000, '1000')).to.deep.equal(spaceTimesteps(1000, ''))
  })

  it('reads a list as counts of sections', () => {
    expect(spaceTimesteps(300, [10, 15, 20])).to.deep.equal(spaceTimesteps(300, '10,15,20'))
  })

  it('takes an Int32Array as the timesteps themselves', () => {
    expect([...spaceTimesteps(10, Int32Array.of(0, 3, 9))]).to.deep.equal([0, 3, 9])
    expect(() => spaceTimesteps(10, Int32Array.of(0, 3, 3))).to.throw(
      RangeError,
      'spaceTimesteps: expected spec[2] to be an integer in [4, 9], got 3',
    )
    expect(() => spaceTimesteps(10, new Int32Array(0))).to.throw(
      RangeError,
      'expected spec to be at least one timestep',
    )
  })

  it('keeps the first timestep of a section whose count is one', () => {
    expect([...spaceTimesteps(10, '1,1')]).to.deep.equal([0, 5])
  })

  it('refuses a DDIM count that no stride gives, with both numbers and what is near', () => {
    expect(() => spaceTimesteps(1000, 'ddim300')).to.throw(
      RangeError,
      'spaceTimesteps: expected spec to be "ddimN" with N timesteps at a whole stride from 1000, got "ddim300"; ' +
        'no stride gives 300; near it: 250, 334',
    )
    expect(() => spaceTimesteps(1000, 'ddimfast')).to.throw(
      RangeError,
      'spaceTimesteps: expected spec to be "ddim" and a number, such as "ddim25", got "ddimfast"',
    )
  })

  it('refuses a section with fewer timesteps than its count', () => {
    expect(() => spaceTimesteps(10, '2,6')).to.throw(
      RangeError,
      'spaceTimesteps: expected count of section 1 to be at most the 5 timesteps of the section, got 6',
    )
    expect(() => spaceTimesteps(10, '0')).to.throw(
      RangeError,
      'expected spec to be at least one timestep, got [0]',
    )
  })

  it('refuses words that are no specification', () => {
    for (const spec of ['fast', '10,', '1.5', '-3']) {
      expect(() => spaceTimesteps(10, spec)).to.throw(
        RangeError,
        `spaceTimesteps: expected spec to be counts such as "250" or "10,15,20", or "ddim25", got "${spec}"`,
      )
    }
    expect(() => spaceTimesteps(10, 5 as never)).to.throw(
      TypeError,
      'spaceTimesteps: expected spec to be a string or a list of counts, got 5',
    )
  })
})
