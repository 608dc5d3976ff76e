import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect } from 'chai'
import { headRow } from '../../lib/mixing/head-row.ts'
import { HeadStatistics } from '../../lib/mixing/head-statistics.ts'
import { readHeadStatistics, writeHeadStatistics } from '../../lib/mixing/head-statistics-file.ts'
import { losses, statisticsOf } from '../support/heads.ts'
import { rejection } from '../support/rejection.ts'

const times = <T>(count: number, value: T): T[] => new Array<T>(count).fill(value)

describe('HeadStatistics', () => {
  it('averages the products of errors of each noise level by itself', () => {
    const statistics = statisticsOf({ halfLife: Number.POSITIVE_INFINITY })
    statistics.observe(losses([0, 19], [1, 2, 3], 0.5))
    statistics.observe(losses([5, 90], [3, 2, 1]))
    expect(statistics.count(0)).to.equal(3)
    expect(statistics.errors(0).map((e) => e.toFixed(6))).to.deep.equal(['1.666667', '2.000000', '2.333333'])
    expect(statistics.products(0)[1]).to.be.closeTo((2 * 0.5 * Math.SQRT2 + 0) / 3, 1e-6)
    expect(statistics.winRates(0)).to.deep.equal([2 / 3, 0, 1 / 3])
    expect(statistics.minimum(0)).to.equal(1)
    expect(statistics.errors(4)).to.deep.equal([3, 2, 1])
    expect(statistics.errors(2)[0]).to.be.NaN
  })

  it('forgets half of an observation in so many images of its noise level', () => {
    const statistics = statisticsOf({ halfLife: 10 })
    statistics.observe(losses(times(200, 0), [1, 1, 1]))
    statistics.observe(losses(times(10, 0), [3, 1, 1]))
    statistics.observe(losses(times(50, 50), [9, 9, 9])) // another level takes no part
    expect(statistics.errors(0)[0]).to.be.closeTo(2, 1e-5)
  })

  it('forgets the beginning in a quarter of what it has seen', () => {
    const statistics = statisticsOf()
    statistics.observe(losses(times(40, 0), [100, 1, 1]))
    statistics.observe(losses(times(400, 0), [1, 1, 1]))
    // Weights fall as (40 / 440) to the power of 4 ln 2, instead of to 0.6 with a half-life of 500.
    expect(statistics.errors(0)[0]).to.be.within(1.01, 1.2)
  })

  it('changes its best head only when another is better by two standard errors', () => {
    const statistics = statisticsOf({ halfLife: Number.POSITIVE_INFINITY })
    const noisy = (better: number): number[] =>
      Array.from({ length: 20 }, (_, i) => better + (i % 2 === 0 ? 1 : -1))
    for (const e of noisy(2)) statistics.observe(losses([0], [e + 0.1, 2, 9]))
    expect(statistics.bestHead(0)).to.equal('v')
    // xStart is better by 0.1 on the whole, with a standard error of about 0.16: not enough
    for (const e of noisy(1.8)) statistics.observe(losses([0], [e - 0.1, 2, 9]))
    expect(statistics.compare(0, 1, 0).difference).to.be.closeTo(0.1, 1e-6)
    expect(statistics.compare(0, 1, 0).standardError).to.be.greaterThan(0.05)
    expect(statistics.bestHead(0)).to.equal('v')
    expect(statistics.flips(0)).to.equal(0)
    for (let k = 0; k < 20; k++) for (const e of noisy(1.8)) statistics.observe(losses([0], [e - 0.1, 2, 9]))
    expect(statistics.bestHead(0)).to.equal('xStart')
    expect(statistics.flips(0)).to.equal(1)
  })

  it('has the standard error of a mean of paired differences', () => {
    const statistics = statisticsOf({ halfLife: Number.POSITIVE_INFINITY })
    const differences = [1, 2, 4, 5]
    for (const d of differences) statistics.observe(losses([0], [1 + d, 1, 9]))
    const { difference, standardError } = statistics.compare(0, 0, 1)
    expect(difference).to.be.closeTo(3, 1e-6)
    expect(standardError).to.be.closeTo(Math.sqrt(10 / 3 / 4), 1e-6)
  })

  it('names no head and no mixture before twenty images', () => {
    const statistics = statisticsOf()
    statistics.observe(losses(times(19, 0), [1, 2, 3]))
    expect([statistics.bestHead(0), statistics.blue(0)]).to.deep.equal([undefined, undefined])
    statistics.observe(losses([0], [1, 2, 3]))
    expect(statistics.bestHead(0)).to.equal('xStart')
    expect(statistics.blue(0)).to.have.length(3)
  })

  it('mixes between the middles of bins, and not beyond them', () => {
    const statistics = statisticsOf()
    statistics.observe(losses(times(30, 10), [1, 1e4, 1e4]))
    statistics.observe(losses(times(30, 30), [1e4, 1, 1e4]))
    const [first, second] = statistics.bins.centres as [number, number]
    const at = (logSnr: number): number => statistics.blueAt(logSnr)?.[0] as number
    expect([at(first), at(second), at(first + 5)].map((w) => w.toFixed(2))).to.deep.equal([
      '1.00',
      '0.00',
      '1.00',
    ])
    expect(at(0.75 * first + 0.25 * second)).to.be.closeTo(0.75, 0.01)
    expect(statistics.bestHeadAt(second)).to.equal('v')
    expect(statistics.blueAt(-7)).to.equal(undefined)
  })

  it('weighs win rates of noise levels by their timesteps', () => {
    const statistics = statisticsOf()
    statistics.observe(losses(times(5, 0), [1, 2, 3]))
    statistics.observe(losses(times(50, 99), [3, 2, 1]))
    expect(statistics.overallWinRates()).to.deep.equal([0.5, 0, 0.5])
  })

  it('learns nothing from errors that are not finite', () => {
    const statistics = statisticsOf()
    statistics.observe(losses([0], [Number.NaN, 1, 1]))
    statistics.observe(losses([0], [Number.POSITIVE_INFINITY, 1, 1]))
    expect(statistics.count(0)).to.equal(0)
    expect(headRow(statistics, 1).bins).to.deep.equal([])
  })

  it('goes on from its state, through JSON, exactly as if it had never stopped', () => {
    const straight = statisticsOf()
    const first = statisticsOf()
    const some = Array.from({ length: 40 }, (_, i) => losses([i, 99 - i], [1 + (i % 3), 1 + (i % 2), 2], 0.3))
    for (const part of some) straight.observe(part)
    for (const part of some.slice(0, 25)) first.observe(part)
    const second = statisticsOf()
    second.restore(JSON.parse(JSON.stringify(first.state())))
    for (const part of some.slice(25)) second.observe(part)
    expect(second.state()).to.deep.equal(straight.state())
    expect(HeadStatistics.from(straight.state()).state()).to.deep.equal(straight.state())
  })

  it('refuses states of other heads, of other bins, and of something else', () => {
    const state = statisticsOf({ heads: ['v', 'eps'] }).state()
    expect(() => statisticsOf().restore(state)).to.throw(
      'statistics.restore: expected state to be of heads, edges, half-life and hysteresis ',
    )
    expect(() => statisticsOf({ binCount: 4 }).restore(statisticsOf().state())).to.throw(
      'to be of heads, edges',
    )
    expect(() => HeadStatistics.from({ heads: [] })).to.throw(
      'HeadStatistics.from: expected state to be the state of head statistics, got {"heads":[]}',
    )
  })

  it('refuses states that are damaged, and says where', () => {
    const statistics = statisticsOf({ binCount: 2 })
    for (let i = 0; i < 25; i++) statistics.observe(losses([5], [1, 2, 3]))
    const whole = statistics.state() as { bins: object; sums: Record<string, number[]> }
    const message = (change: (state: typeof whole & Record<string, unknown>) => void): string => {
      const state = structuredClone(whole)
      change(state)
      try {
        HeadStatistics.from(state as never)
        return 'nothing'
      } catch (error) {
        return (error as Error).message
      }
    }
    expect(message(() => {})).to.equal('nothing')
    expect(message((state) => (state.heads = 'abc'))).to.contain(
      'expected heads to be one or more of xStart, v, eps',
    )
    expect(message((state) => (state.heads = ['v', 'v', 'eps']))).to.contain('each once')
    expect(message((state) => Object.assign(state.bins, { borders: [] }))).to.contain(
      'expected state.bins.borders to be 1 descending numbers, got []',
    )
    expect(message((state) => Object.assign(state.bins, { centres: undefined }))).to.contain(
      'state.bins.centres',
    )
    expect(message((state) => Object.assign(state.bins, { centres: [-1, 1] }))).to.contain(
      '2 descending numbers',
    )
    expect(message((state) => (state.sums = undefined as never))).to.contain(
      'expected state.sums to be an object',
    )
    expect(message((state) => (state.sums.best![0] = 7))).to.contain(
      'state.sums.best to be places among 3 heads, or -1',
    )
    expect(message((state) => (state.sums.weight![0] = -1))).to.contain(
      'state.sums.weight to be numbers >= 0',
    )
    expect(message((state) => state.sums.products!.fill(0))).to.contain('errors > 0 where images were seen')
    expect(() => statistics.mixtureError(0, [1, 0])).to.throw('expected weights to be 3 numbers, got [1, 0]')
  })

  it('says in a row what each noise level shows', () => {
    const statistics = statisticsOf()
    for (let i = 0; i < 30; i++) statistics.observe(losses([i % 20], [i % 2 ? 1 : 3, 1.5, 8], 0.5))
    const [bin, ...rest] = headRow(statistics, 7).bins
    expect(rest).to.deep.equal([])
    expect(bin).to.deep.include({ t: [0, 20], count: 30, best: 'v' })
    expect(bin?.winRate.xStart).to.be.closeTo(0.5, 0.02)
    expect(bin?.table).to.be.closeTo(1.5, 1e-6)
    expect(bin?.minimum).to.be.closeTo(1.25, 0.02) // no sampler can have it
    expect(bin?.blueError).to.be.lessThan(1.5)
    expect(bin?.correlation['xStart-v']).to.be.closeTo(0.5, 0.02)
    expect(bin?.brightnessGap['xStart-eps']).to.be.closeTo(0.25, 1e-6)
    expect(Object.keys(bin?.correlation ?? {})).to.deep.equal(['xStart-v', 'xStart-eps', 'v-eps'])
  })

  it('is written to a file and read back', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'trislot-heads-'))
    try {
      const statistics = statisticsOf({ halfLife: Number.POSITIVE_INFINITY })
      statistics.observe(losses(times(30, 10), [1, 2, 3]))
      const file = join(folder, 'deep', 'heads.json')
      await writeHeadStatistics(file, statistics)
      expect((await readHeadStatistics(file)).state()).to.deep.equal(statistics.state())
      await writeFile(file, '{"kind":"something"}')
      expect((await rejection(readHeadStatistics(file))).message).to.contain(
        `readHeadStatistics: expected ${file} to hold head statistics, got something else`,
      )
      expect((await rejection(readHeadStatistics(`${file}x`))).message).to.contain('(ENOENT)')
    } finally {
      await rm(folder, { recursive: true, force: true })
    }
  })
})
