import { expect } from 'chai'
import type { FigureSeries, LineFigure } from '../../../lib/report/figure/figure.ts'
import { figureSvg } from '../../../lib/report/figure/figure-svg.ts'
import { namesLines } from '../../../lib/report/figure/line-spec.ts'
import { points } from '../../../lib/report/figure/points.ts'

const figure = (series: readonly FigureSeries[], more: Partial<LineFigure> = {}): LineFigure => ({
  ...{ title: 'Loss', x: { label: 'step' }, y: { label: 'error' }, series, ...more },
})
const line = (name: string, y: readonly (number | null)[]): FigureSeries => ({
  name,
  x: y.map((_, i) => i),
  y,
})
const texts = (svg = '') => [...svg.matchAll(/<text[^>]*>([^<]*)</g)].map((match) => match[1])
const marks = (svg = '') =>
  [...svg.matchAll(/class="mark-(\w+) role-mark ([\w-]+)"/g)].map(([, kind, name]) => `${kind} ${name}`)
const path = (svg = '', name = 'series-0') =>
  new RegExp(`role-mark ${name}"[^>]*><path d="([^"]*)"`).exec(svg)?.[1]

describe('figureSvg', () => {
  it('names axes, and lines at their ends, apart from each other', async () => {
    const svg = await figureSvg(figure([line('one', [1, 2]), line('two', [2, 2])]))
    expect(texts(svg)).to.include.members(['step', 'error', 'one', 'two'])
    const places = [...svg!.matchAll(/translate\((\S+),(\S+)\)"[^>]*>(?:one|two)</g)].map((match) =>
      Number(match[2]),
    )
    expect(Math.abs(places[0]! - places[1]!)).to.be.at.least(14)
  })

  it('names lines at their right ends, whatever the order of their points', async () => {
    const rising = { name: 'rising', x: [1, 0], y: [9, 0] }
    const svg = await figureSvg(figure([rising, { name: 'falling', x: [0, 1], y: [9, 0] }]))
    const place = (name: string) =>
      Number(new RegExp(`translate\\(\\S+,(\\S+)\\)"[^>]*>${name}<`).exec(svg!)?.[1])
    expect(place('rising')).to.be.below(place('falling'))
  })

  it('leaves names to a legend where they are long, many, or of bars', () => {
    const two = [line('a', [1]), line('b', [2])]
    expect(namesLines(figure(two), 500)).to.equal(true)
    expect(namesLines(figure([...two, line('a name of thirty letters, or so', [1])]), 500)).to.equal(false)
    expect(namesLines(figure(Array.from({ length: 9 }, (_, i) => line(`${i}`, [1]))), 500)).to.equal(false)
    expect(namesLines(figure(two.map((one) => ({ ...one, kind: 'bars' as const }))), 500)).to.equal(false)
    expect(namesLines(figure([line('alone', [1])]), 500)).to.equal(false)
  })

  it('interrupts a line where a value is missing, not finite, or not positive on a log axis', async () => {
    const parts = async (y: readonly (number | null)[], scale: 'linear' | 'log') =>
      path(await figureSvg(figure([line('a', y)], { y: { label: '', scale } })))?.match(/M/g)?.length
    expect(await parts([1, 2, null, 3, 4], 'linear')).to.equal(2)
    expect(await parts([1, 2, Number.NaN, 3, 4], 'linear')).to.equal(2)
    expect(await parts([1, 2, 0, 3, 4], 'linear')).to.equal(1)
    expect(await parts([1, 2, 0, 3, 4], 'log')).to.equal(2)
  })

  it('draws intervals as areas of lines and as rules of points and bars', async () => {
    const interval = { x: [0, 1], y: [1, 2], low: [0.5, 1.5], high: [1.5, 2.5] }
    const kinds = (['line', 'points', 'bars'] as const).map((kind) => ({ ...interval, name: kind, kind }))
    expect(marks(await figureSvg(figure(kinds)))).to.deep.equal([
      ...['area interval-of-series-0', 'line series-0', 'symbol series-1', 'rule interval-of-series-1'],
      ...['rect series-2', 'rule interval-of-series-2'],
    ])
  })

  it('draws a line of one point as a point', async () => {
    expect(marks(await figureSvg(figure([line('a', [null, 3])])))).to.deep.equal(['symbol series-0'])
  })

  it('draws stripes, and their names where there is room', async () => {
    const bands = [
      { begin: 0, end: 1, label: 'narrow slot' },
      { begin: 1, end: 100, label: 'wide slot' },
    ]
    const series = [{ name: 'a', x: [0, 100], y: [1, 2] }]
    const svg = await figureSvg(figure(series, { bands }))
    expect(marks(svg)).to.include.members(['rect band-0', 'rect band-1'])
    expect(texts(svg)).to.include('wide slot').and.not.include('narrow slot')
  })

  it('draws a matrix with its numbers, and nothing where a value is missing', async () => {
    const values = [
      [-1, null],
      [0.5, 12345678],
    ]
    const svg = await figureSvg({
      kind: 'heatmap',
      title: 'm',
      rows: ['r1', 'r2'],
      columns: ['c1', 'c2'],
      values,
      label: 'x',
    })
    expect(texts(svg)).to.include.members(['r1', 'r2', 'c1', 'c2', '-1', '0.5', '1.2e7'])
    expect(svg!.match(/role-mark cells"[^>]*>(<path[^>]*>)+/)?.[0].match(/<path/g)).to.have.length(3)
  })

  it('takes all colours of text from the page, and gives the same text for the same figure', async () => {
    const draw = () => figureSvg(figure([line('one', [1, 2]), line('two', [2, 1])]))
    const svg = await draw()
    expect(
      [...svg!.matchAll(/<text[^>]* fill="([^"]*)"/g)].every((match) => match[1]!.startsWith('var(--')),
    ).to.equal(true)
    expect(await draw()).to.equal(svg)
  })

  it('is nothing where nothing can be drawn', async () => {
    expect(await figureSvg(figure([line('a', [null, Number.NaN])]))).to.equal(undefined)
    expect(
      await figureSvg({ kind: 'heatmap', title: '', rows: ['a'], columns: ['b'], values: [null], label: '' }),
    ).to.equal(undefined)
  })
})

describe('points', () => {
  it('keep the extremes of very many', () => {
    const y = Array.from({ length: 50_000 }, (_, i) => Math.sin(i))
    y[31_415] = 40
    y[27_182] = -40
    const kept = points(line('a', y), false, false)
    expect(kept.length).to.be.at.most(800)
    expect(kept.map((point) => point?.y))
      .to.include(40)
      .and.include(-40)
    const xs = kept.map((point) => point!.x)
    expect(xs).to.deep.equal([...xs].sort((a, b) => a - b))
  })
})
