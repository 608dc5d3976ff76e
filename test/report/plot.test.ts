import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { basename, join } from 'node:path'
import { expect } from 'chai'
import sharp from 'sharp'
import { linearTicks, logTicks } from '../../lib/report/figure/ticks.ts'
import { plotSvg, svgToPng } from '../../lib/report/plot.ts'
import { lossPlot, smoothed, timestepLossPlot, writeRunPlots } from '../../lib/report/run-plots.ts'

const texts = (svg: string) => [...svg.matchAll(/<text[^>]*>([^<]*)</g)].map((match) => match[1])
const axes = { x: { label: 'step' }, y: { label: 'loss', unit: 'nats' } }

describe('linearTicks', () => {
  it('are round values within the limits', () => {
    expect(linearTicks(0, 1, 5).map(({ text }) => text)).to.deep.equal([
      '0',
      '0.2',
      '0.4',
      '0.6',
      '0.8',
      '1.0',
    ])
    expect(linearTicks(-0.03, 0.04, 4).map(({ text }) => text)).to.deep.equal(['-0.02', '0', '0.02', '0.04'])
    expect(linearTicks(0, 30000, 3).map(({ text }) => text)).to.deep.equal(['0', '10k', '20k', '30k'])
  })
})

describe('logTicks', () => {
  it('are powers of ten, with 2 and 5 between them when there are few', () => {
    expect(logTicks(0.0001, 10).map(({ text }) => text)).to.deep.equal([
      '0.0001',
      '0.001',
      '0.01',
      '0.1',
      '1',
      '10',
    ])
    expect(logTicks(0.9, 60).map(({ text }) => text)).to.deep.equal(['1', '2', '5', '10', '20', '50'])
    expect(logTicks(1e-7, 1e-5).map(({ text }) => text)).to.include('1e-7')
  })
})

describe('plotSvg', () => {
  it('writes title, axes with units, and a legend of several series', () => {
    const svg = plotSvg({
      title: 'a < b & c',
      ...axes,
      series: [
        { name: 'one', x: [0, 1], y: [1, 2] },
        { name: 'two', x: [0, 1], y: [2, 1], kind: 'scatter' },
      ],
    })
    expect(texts(svg)).to.include.members(['a &lt; b &amp; c', 'step', 'loss [nats]', 'one', 'two'])
    expect(svg.match(/<circle/g)).to.have.lengthOf(2)
  })

  it('keeps a legend of many within the picture, and tells lines of one colour apart by dashes', () => {
    const names = Array.from({ length: 11 }, (_, i) => `${'long name '.repeat(2)}${i}`)
    const svg = plotSvg({ title: '', ...axes, series: names.map((name) => ({ name, x: [0, 1], y: [1, 2] })) })
    const places = names.map((name) => Number(new RegExp(`x="([\\d.]+)"[^>]*>${name}<`).exec(svg)?.[1]))
    expect(Math.max(...places)).to.be.below(860 - 8.2 * names[0]!.length)
    expect(svg.match(/stroke-dasharray/g)).to.have.lengthOf(2 * 4) // the last four, each in the legend, too
  })

  it('interrupts a line where a value is not finite', () => {
    const svg = plotSvg({
      title: '',
      ...axes,
      series: [{ name: 'a', x: [0, 1, 2, 3], y: [1, 2, Number.NaN, 4] }],
    })
    const path = /<path d="(M[^"]*)" fill="none" stroke="#0072b2"/.exec(svg)![1]!
    expect(path.match(/[ML]/g)).to.deep.equal(['M', 'L', 'M'])
  })

  it('draws slots as bands and bars side by side', () => {
    const svg = plotSvg({
      title: '',
      ...axes,
      series: [
        { name: 'a', x: [1, 2], y: [3, 4], kind: 'bar' },
        { name: 'b', x: [1, 2], y: [3, 4], kind: 'bar' },
      ],
      bands: [
        { begin: 0, end: 1 },
        { begin: 1, end: 3 },
      ],
    })
    expect(svg.match(/fill="#(e6ebf2|f7f8fa)"/g)).to.have.lengthOf(2)
    const lefts = [...svg.matchAll(/<rect x="([\d.]+)" y="[\d.]+" width="([\d.]+)" height="[\d.]+"\/>/g)]
      .slice(1) // the clip
      .map((match) => [Number(match[1]), Number(match[2])] as const)
    expect(lefts).to.have.lengthOf(4)
    expect(lefts[2]![0] - lefts[0]![0]).to.be.closeTo(lefts[0]![1], 0.2)
  })

  it('stays small and keeps peaks when there are very many points', () => {
    const y = Array.from({ length: 100000 }, (_, i) => (i === 54321 ? 100 : i % 2))
    const svg = plotSvg({ title: '', ...axes, series: [{ name: 'a', x: y.map((_, i) => i), y }] })
    expect(svg.length).to.be.below(60000)
    const path = /<path d="(M[^"]*)" fill="none" stroke="#0072b2"/.exec(svg)![1]!
    const highest = Math.min(...[...path.matchAll(/ ([\d.]+)/g)].map((match) => Number(match[1])))
    expect(highest).to.be.below(80)
  })

  it('draws a constant and a single point', () => {
    for (const scale of ['linear', 'log'] as const) {
      const svg = plotSvg({
        title: '',
        x: { label: 'x' },
        y: { label: 'y', scale },
        series: [{ name: 'a', x: [5], y: [2] }],
      })
      expect(svg).to.not.include('NaN')
    }
  })

  it('refuses data without a point to draw', () => {
    const y = { label: 'loss', scale: 'log' as const }
    expect(() => plotSvg({ title: '', x: axes.x, y, series: [{ name: 'a', x: [1], y: [0] }] })).to.throw(
      'plotSvg: expected series to be a series with at least one finite, positive y value, got [Infinity, -Infinity]',
    )
  })

  it('renders to PNG', async () => {
    const svg = plotSvg({
      title: 't',
      ...axes,
      series: [{ name: 'a', x: [0, 1], y: [1, 2] }],
      width: 400,
      height: 300,
    })
    const { width, height } = await sharp(await svgToPng(svg)).metadata()
    expect([width, height]).to.deep.equal([400, 300])
  })
})

describe('smoothed', () => {
  it('keeps a constant, does not shift a line, and passes over NaN', () => {
    expect([...smoothed([2, 2, Number.NaN, 2], 1)]).to.deep.equal([2, 2, 2, 2])
    expect(
      smoothed(
        Array.from({ length: 101 }, (_, i) => i),
        3,
      )[50],
    ).to.be.closeTo(50, 1e-9)
    expect([...smoothed([Number.NaN], 1)]).to.deep.equal([Number.NaN])
  })

  it('counts a neighbour at the half-life half', () => {
    expect(smoothed([0, 0, 1], 2)[0]).to.be.closeTo(0.5 / (1 + 0.5 + Math.SQRT1_2), 1e-12)
  })
})

describe('run plots', () => {
  const rows = Array.from({ length: 20 }, (_, step) => ({
    step,
    loss: 1 / (step + 1),
    gradNorm: 2,
    perHead: { xStart: 1, eps: 2 },
    chosen: { xStart: 0.25, eps: 0.75 },
  }))

  it('shows loss raw and smoothed', () => {
    expect(texts(lossPlot(rows))).to.include.members(['Training loss', 'loss of each step', 'smoothed'])
    expect(() => lossPlot([])).to.throw('lossPlot: expected rows to be at least one row of a run, got []')
  })

  it('writes the plots that the rows have data for', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'trislot-plots-'))
    const names = (paths: string[]) => paths.map((path) => basename(path))
    expect(names(await writeRunPlots(folder, rows))).to.deep.equal([
      'loss.svg',
      'grad-norm.svg',
      'heads.svg',
      'chosen.svg',
    ])
    expect(texts(await readFile(join(folder, 'heads.svg'), 'utf8'))).to.include.members(['xStart', 'eps'])
    const bare = rows.map(({ step, loss }) => ({ step, loss }))
    expect(names(await writeRunPlots(folder, bare, 'run 1'))).to.deep.equal(['loss.svg'])
    await rm(folder, { recursive: true })
  })

  it('shows the loss of each head over t with the slots', () => {
    const slots = [
      { begin: 0, end: 2 },
      { begin: 2, end: 5 },
    ]
    const perHead = { xStart: [1, 2, 3, 4, 5], eps: [5, 4, 3, 2, 1] }
    const svg = timestepLossPlot({ perHead, slots })
    expect(texts(svg)).to.include.members(['timestep t [0 = least noise]', 'xStart', 'eps'])
    expect(texts(svg)).to.include('2 slots of equal cumulative loss (stripes)')
    expect(texts(timestepLossPlot({ perHead, slots, tScale: 'log' }))).to.include(
      'timestep t + 1 [1 = least noise]',
    )
    expect(() => timestepLossPlot({ perHead: {} })).to.throw(
      'timestepLossPlot: expected perHead to be curves of at least one head, got {}',
    )
  })
})
