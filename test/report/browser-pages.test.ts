import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { expect } from 'chai'
import type { Browser } from 'puppeteer-core'
import { writeReport } from '../../lib/report/report.ts'
import { openPage, startBrowser } from '../support/browser.ts'
import { madeHeads, makeRun, makeStudy, reportFolder } from '../support/report-runs.ts'

/** A figure as the browser has it. */
interface Shown {
  readonly title: string
  readonly text: string
  /** Lines or points, intervals, and stripes. */
  readonly series: number
  readonly intervals: number
  readonly bands: { readonly x: number; readonly width: number }[]
  /** Marks that have a size on the screen. */
  readonly drawn: number
  readonly isVisible: boolean
}

/** All figures. As text, because a loader may add functions of its own. */
const FIGURES = `[...document.querySelectorAll('figure:has(> svg.plot)')].map((one) => {
  const boxes = (name) =>
    [...one.querySelectorAll('[class*=" role-mark ' + name + '"]')].map((mark) => mark.getBoundingClientRect())
  const marks = [...boxes('series-'), ...boxes('interval-of-series-')]
  return {
    title: one.querySelector('figcaption').textContent,
    text: one.textContent,
    series: boxes('series-').length,
    intervals: boxes('interval-of-series-').length,
    bands: boxes('band-').map(({ x, width }) => ({ x, width })),
    drawn: marks.filter(({ width, height }) => width > 50 && height > 0).length,
    isVisible: one.querySelector('svg').getBoundingClientRect().height > 100,
  }
})`

describe('pages of several runs, of slots, of heads and of studies in Chromium', () => {
  let browser: Browser | undefined
  let work: Awaited<ReturnType<typeof reportFolder>>
  let compared: string
  let ofSlots: string
  let ofHeads: string
  let ofStudy: string
  const at = (name: string) => join(work.folder, name)
  before(async function () {
    work = await reportFolder()
    browser = await startBrowser(this)
    const runs = (['min', 'mean'] as const).flatMap((choose, k) =>
      [0, 1, 2].map((seed) => {
        const config = { seed, choose }
        return makeRun(at(`${choose}-${seed}`), { config, previews: [100], scale: 1 + k + seed / 10 })
      }),
    )
    compared = await writeReport(await Promise.all(runs), { out: at('compared.html') })
    const slotEdges = [0, 50, 200, 1000]
    ofSlots = await writeReport([await makeRun(at('slots'), { config: { sampler: 'slots', slotEdges } })])
    const heads = [madeHeads(100, 0.2), madeHeads(200, 0.4), madeHeads(300, 0.6)]
    ofHeads = await writeReport([await makeRun(at('heads'), { heads })])
    ofStudy = await writeReport([await makeStudy(at('study'))])
  })
  after(async () => {
    await browser?.close()
    await work.remove()
  })

  /** What a page shows, after the checks that hold for every page. */
  async function opened(file: string, theme: 'light' | 'dark') {
    const url = pathToFileURL(file).href
    const { page, complaints, requests } = await openPage(browser!, url, theme)
    const figures = (await page.evaluate(FIGURES)) as Shown[]
    const tables = await page.$$eval('table', (found) =>
      found.map((one) =>
        [...one.querySelectorAll('tbody tr')].map((row) =>
          [...row.querySelectorAll('th, td')].map((cell) => cell.textContent ?? ''),
        ),
      ),
    )
    const headings = await page.$$eval('h1, h2', (found) => found.map((one) => one.textContent))
    const widths = await page.$$eval('img', async (found) => {
      for (const image of found) image.loading = 'eager'
      await Promise.all(found.map((image) => image.decode()))
      return found.map((image) => image.naturalWidth)
    })
    const colours = (await page.evaluate(
      '[getComputedStyle(document.body).backgroundColor, getComputedStyle(document.querySelector("h1")).color]',
    )) as string[]
    const text = await page.$eval('main', (main) => main.textContent ?? '')
    expect(complaints).to.deep.equal([])
    expect(requests).to.deep.equal([url]) // the file itself, and nothing else
    const [paper, ink] = colours.map((colour) => Number(/\d+/.exec(colour)?.[0]))
    expect(paper! > ink!).to.equal(theme === 'light')
    for (const { isVisible, title } of figures) expect(isVisible, title).to.equal(true)
    await page.close()
    return { headings, figures, tables, widths, text }
  }

  for (const theme of ['light', 'dark'] as const) {
    it(`compares two configurations of three seeds with intervals: ${theme}`, async () => {
      const { headings, figures, tables, widths, text } = await opened(compared, theme)
      const names = ['min-0', 'min-1', 'min-2', 'mean-0', 'mean-1', 'mean-2']
      expect(headings).to.deep.equal([
        '6 runs compared',
        'Runs',
        'Options that differ',
        'Comparison',
        ...names,
      ])
      const [runs, options, ends] = tables as [string[][], string[][], string[][]]
      expect(runs.map(([name]) => name)).to.deep.equal(names)
      expect(options).to.deep.equal([
        ['seed', '0', '1', '2', '0', '1', '2'],
        ['choose', 'min', 'min', 'min', 'mean', 'mean', 'mean'],
      ])
      expect(ends.map(([name, seeds]) => [name, seeds])).to.deep.equal([['min', '3'], ['mean', '3']]) // biome-ignore format: rows
      for (const [, , mean, interval] of ends) {
        const [low, high] = (interval as string).split(' to ').map(Number)
        expect(Number(mean)).to.be.within(low!, high!)
      }
      const comparison = figures.slice(0, 6)
      expect(comparison.map(({ title }) => title)).to.deep.equal([
        ...['Training loss', 'Error of xStart', 'Error of v', 'Error of eps', 'Gradient norm'],
        'Loss over the timesteps',
      ])
      for (const { title, series, intervals, drawn, text: words } of comparison) {
        expect([title, series, intervals, drawn]).to.deep.equal([title, 2, 2, 4])
        expect(words).to.include('min (3 seeds)').and.include('mean (3 seeds)')
      }
      expect(text).to.include('Bands: 95 % intervals of the mean over seeds')
      expect(figures).to.have.length(6 + 6 * 10)
      expect(widths).to.deep.equal(new Array(6 * 2).fill(24))
    })

    it(`marks slots on every axis of timesteps: ${theme}`, async () => {
      const { headings, figures, text } = await opened(ofSlots, theme)
      expect(headings.slice(0, 4)).to.deep.equal(['slots', 'Training', 'Timesteps', 'Heads'])
      expect(text).to.include('Stripes are the 3 slots of timesteps.')
      const striped = figures.filter(({ bands }) => bands.length > 0)
      expect(striped.map(({ title }) => title)).to.deep.equal([
        'Loss over the timesteps as training goes on',
        'Error of xStart over the timesteps as training goes on',
        'Error of v over the timesteps as training goes on',
        'Error of eps over the timesteps as training goes on',
        'Error of each head over the timesteps',
        'Which head is chosen, by timestep',
      ])
      for (const { bands, text: words } of striped) {
        expect(bands).to.have.length(3)
        const [first, second, third] = bands as [Shown['bands'][0], Shown['bands'][0], Shown['bands'][0]]
        expect(second.width / first.width).to.be.closeTo(3, 0.05)
        expect(third.width / first.width).to.be.closeTo(16, 0.2)
        expect(second.x).to.be.closeTo(first.x + first.width, 0.5)
        expect(third.x).to.be.closeTo(second.x + second.width, 0.5)
        expect(words).to.include('slot 2').and.include('slot 3') // the first is too narrow for its name
      }
      const spent = figures.find(({ title }) => title === 'Where training spends its examples')
      expect(spent?.text).to.include('0–99').and.include('900–999')
    })

    it(`shows how often each head wins, from heads.jsonl: ${theme}`, async () => {
      const { figures } = await opened(ofHeads, theme)
      const titles = figures.map(({ title }) => title)
      const first = titles.indexOf('Errors of the heads, and what choosing or mixing can reach')
      expect(titles.slice(first)).to.deep.equal([
        'Errors of the heads, and what choosing or mixing can reach',
        'Which head has the smallest error, over training',
        'Which head has the smallest error, by noise level',
        'Correlation of the heads’ errors',
        'Difference of brightness between heads',
      ])
      const [errors, over, wins, correlation] = figures.slice(first) as [Shown, Shown, Shown, Shown]
      expect([errors, over, wins, correlation].map(({ series }) => series)).to.deep.equal([6, 3, 3, 3])
      expect(over.text).to.include('share of images, in v space, all timesteps alike')
      expect(wins.text).to.include('share of images, in v space, at step 300')
      for (const { text } of [over, wins]) {
        for (const head of ['xStart', 'v', 'eps']) expect(text).to.include(head)
      }
      expect(errors.text).to.include('best mixture').and.include('minimum (needs truth)')
      expect(correlation.text).to.include('xStart and v')
      expect(over.drawn).to.equal(3) // rates that change while training; level lines have no height
    })

    it(`shows a study, its arms with intervals and their differences from the control: ${theme}`, async () => {
      const { headings, figures, tables, text } = await opened(ofStudy, theme)
      expect(headings).to.deep.equal(['Learning rates', 'Held-out error', 'Options that differ', 'Training'])
      expect(text).to.include('Which is better? 6 of 6 runs finished.')
      expect(tables).to.deep.equal([
        [
          ['plain', '3', '0.1100', '0.08516 to 0.1348', '–', '–'],
          ['better', '3', '0.09900', '0.07664 to 0.1214', '-10.00 %', '-10.00 % to -10.00 %'],
        ],
        [['lr', '0.0001', '0.00009']],
      ])
      expect(figures.map(({ title, series, intervals }) => [title, series, intervals])).to.deep.equal([
        ['Held-out error while training', 2, 2],
        ['Held-out error by noise level, at the end', 2, 2],
        ['Training loss', 2, 2],
        ['Error of xStart', 2, 2],
        ['Error of v', 2, 2],
        ['Error of eps', 2, 2],
        ['Gradient norm', 2, 2],
        ['Loss over the timesteps', 2, 2],
      ])
      for (const { text: words } of figures) expect(words).to.include('plain').and.include('better')
    })
  }
})
