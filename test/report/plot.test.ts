import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { basename, join } from 'node:path'
import { expect } from 'chai'
import sharp from 'sharp'
import type { HeatmapFigure } from '../../lib/report/figure/figure.ts'
import { type Plot, plotSvg, type Series, svgToPng, writePlot } from '../../lib/report/plot.ts'

const texts = (svg: string) => [...svg.matchAll(/<(?:text|tspan)[^>]*>([^<]+)</g)].map((match) => match[1])
const line = (name: string, y: readonly number[] = [1, 2]): Series => ({ name, x: y.map((_, i) => i), y })
const plot = (series: readonly Series[], more: object = {}): Plot => ({
  ...{ title: 'Loss', x: { label: 'step' }, y: { label: 'loss', unit: 'nats' }, series, ...more },
})
const matrix: HeatmapFigure = {
  ...{ title: 'A < B', kind: 'heatmap', rows: ['a', 'b'], columns: ['x', 'y'], label: 'change' },
  ...{ values: [1, -2, null, 0], diverging: true },
}
const message = (svg: Promise<string>) =>
  svg.then(
    () => '',
    (error: Error) => `${error.name}: ${error.message}`,
  )

describe('plotSvg', () => {
  it('stands alone: title, axes with units, a white ground, colours and a font that need no page', async () => {
    const svg = await plotSvg(plot([line('one'), line('two', [2, 1])], { title: 'a < b & c', subtitle: 'd' }))
    expect(texts(svg)).to.include.members(['a &lt; b &amp; c', 'd', 'step', 'loss [nats]', 'one', 'two'])
    expect(svg).to.match(/^<svg xmlns="http:\/\/www.w3.org\/2000\/svg" [^>]*width="860" height="500"/)
    expect(svg).to.include('fill="#ffffff"').and.include('font-family="sans-serif"')
    expect(svg).to.not.match(/var\(|inherit|undefined|NaN/)
  })

  it('names few lines at their ends, and others in a legend, of every kind', async () => {
    const ends = await plotSvg(plot([line('one'), line('two')]))
    expect(texts(ends).filter((word) => word === 'one' || word === 'two')).to.have.lengthOf(2)
    expect(ends).to.include('mark-line').and.not.include('mark-rule role-mark')
    const kinds = (['line', 'points', 'bars'] as const).map((kind) => ({ ...line(kind), kind }))
    const legend = await plotSvg(plot(kinds))
    expect(texts(legend)).to.include.members(['line', 'points', 'bars'])
    expect(legend).to.include('mark-rule role-mark')
    expect(texts(await plotSvg(plot([line('alone')])))).to.not.include('alone')
  })

  it('keeps a legend of many within the picture, and tells lines of one colour apart by dashes', async () => {
    const names = Array.from({ length: 17 }, (_, i) => `${'long name '.repeat(2)}${i}`)
    const svg = await plotSvg(plot(names.map((name) => line(name))))
    const places = names.map((name) =>
      new RegExp(`translate\\(([\\d.]+),(-[\\d.]+)\\)"[^>]*>${name}<`).exec(svg)!.slice(1).map(Number),
    )
    expect(Math.max(...places.map(([x]) => x!))).to.be.below(860 / 1.25 - 16 - 6.5 * names[0]!.length)
    expect(new Set(places.map(String)).size).to.equal(17)
    expect(new Set(places.map(([, y]) => y)).size).to.be.within(5, 9)
    expect(svg.match(/stroke-dasharray="7,4"/g)).to.have.lengthOf(2 * 7) // each in the legend, too
    expect(svg.match(/stroke-dasharray="2,3"/g)).to.have.lengthOf(2 * 3)
  })

  it('breaks long titles and notes into lines', async () => {
    const words = 'a sentence about seeds '.repeat(20).trim()
    const shown = texts(await plotSvg(plot([line('a')], { title: words, note: words })))
    expect(Math.max(...shown.map((one) => one!.length))).to.be.below(120)
    expect(shown.join(' ').match(/seeds/g)).to.have.lengthOf(40)
  })

  it('cuts off what lies beyond the limits of an axis, under the same name every time', async () => {
    const beyond = plot([line('a', [0, 9])], { y: { label: '', max: 5 } })
    const svg = await plotSvg(beyond)
    const name = /<clipPath id="([^"]*)"/.exec(svg)![1]
    expect(svg).to.include(`clip-path="url(#${name})"`)
    expect(await plotSvg(beyond)).to.equal(svg)
    expect(await plotSvg(plot([line('a', [0, 9])]))).to.not.include('clipPath')
  })

  it('stays small and keeps peaks when there are very many points', async () => {
    const y = Array.from({ length: 100000 }, (_, i) => (i === 54321 ? 100 : i % 2))
    const svg = await plotSvg(plot([line('a', y)]))
    expect(svg.length).to.be.below(60000)
    const path = /role-mark series-0"[^>]*><path[^>]* d="([^"]*)"/.exec(svg)![1]!
    const heights = [...path.matchAll(/,([\d.]+)/g)].map((match) => Number(match[1])).sort((a, b) => a - b)
    expect(heights[0]! + 200).to.be.below(heights[1]!)
  })

  it('draws a constant and a single point', async () => {
    for (const scale of ['linear', 'log'] as const) {
      const svg = await plotSvg(plot([{ name: 'a', x: [5], y: [2] }], { y: { label: 'y', scale } }))
      expect(svg).to.include('mark-symbol').and.not.include('NaN')
    }
  })

  it('draws a matrix as wide as its cells, with what its numbers are', async () => {
    const svg = await plotSvg(matrix)
    expect(texts(svg)).to.include.members(['A &lt; B', 'change', 'a', 'b', 'x', 'y', '-2', '1', '0'])
    const wide = await plotSvg({
      ...matrix,
      columns: Array.from('abcdefghijklmnopqrst'),
      values: Array(40).fill(1),
    })
    const width = (one: string) => Number(/ width="(\d+)"/.exec(one)![1])
    expect(width(wide)).to.be.above(width(svg) + 400)
  })

  it('refuses data without a point to draw, and a matrix without its numbers', async () => {
    const y = { label: 'loss', scale: 'log' }
    expect(await message(plotSvg(plot([{ name: 'a', x: [1], y: [0] }], { y })))).to.equal(
      'RangeError: plotSvg: expected series to be a series with at least one point that is finite, and positive on a log axis, got [{"x":[1],"y":[0]}]',
    )
    expect(await message(plotSvg({ ...matrix, values: [1] }))).to.equal(
      'RangeError: plotSvg: expected values to be 2 x 2 numbers, got [1]',
    )
    expect(await message(plotSvg({ ...matrix, values: [null, null, null, null] }))).to.equal(
      'RangeError: plotSvg: expected values to be at least one number, got [null, null, null, null]',
    )
  })

  it('renders to PNG', async () => {
    const svg = await plotSvg(plot([line('a')], { width: 400, height: 300 }))
    const size = async (scale?: number) => {
      const { width, height } = await sharp(await svgToPng(svg, scale)).metadata()
      return [width, height]
    }
    expect(await size()).to.deep.equal([400, 300])
    expect(await size(2)).to.deep.equal([800, 600])
  })
})

describe('writePlot', () => {
  it('writes SVG and PNG, and nothing where nothing can be drawn', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'trislot-plot-'))
    const written = await writePlot(join(folder, 'loss'), plot([line('a')]))
    expect(written.map((file) => basename(file))).to.deep.equal(['loss.svg', 'loss.png'])
    expect(await readFile(written[0]!, 'utf8')).to.equal(await plotSvg(plot([line('a')])))
    expect(await writePlot(join(folder, 'none'), plot([line('a', [Number.NaN])]))).to.deep.equal([])
    await rm(folder, { recursive: true })
  })
})
