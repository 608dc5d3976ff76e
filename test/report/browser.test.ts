import { appendFile, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { expect } from 'chai'
import type { Browser } from 'puppeteer-core'
import { writeReport } from '../../lib/report/report.ts'
import { watchRun } from '../../lib/report/watch.ts'
import { openPage, startBrowser } from '../support/browser.ts'
import { until } from '../support/command.ts'
import { INSTRUMENT, madeRow, makeRun, reportFolder } from '../support/report-runs.ts'

/** Contrast of every text on the page with the paper (WCAG 2). As text, because a loader may add functions of its own. */
const CONTRASTS = `(() => {
  const light = (colour) => {
    const [r, g, b] = colour.match(/[\\d.]+/g).map((value) => {
      const share = value / 255
      return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4
    })
    return 0.2126 * r + 0.7152 * g + 0.0722 * b
  }
  const paper = light(getComputedStyle(document.body).backgroundColor)
  const drawn = [...document.querySelectorAll('svg.plot text')].map((one) => getComputedStyle(one).fill)
  const written = [...document.querySelectorAll('p, dt, dd, h1, h2')].map((one) => getComputedStyle(one).color)
  return [...drawn, ...written].map(light).map((ink) => (Math.max(ink, paper) + 0.05) / (Math.min(ink, paper) + 0.05))
})()`

describe('the page in Chromium', () => {
  let browser: Browser | undefined
  let work: Awaited<ReturnType<typeof reportFolder>>
  before(async function () {
    work = await reportFolder()
    browser = await startBrowser(this)
  })
  after(async () => {
    await browser?.close()
    await work.remove()
  })

  for (const theme of ['light', 'dark'] as const) {
    it(`shows headings, curves, tables and pictures, asks for nothing and complains of nothing: ${theme}`, async () => {
      const run = await makeRun(join(work.folder, `run-${theme}`), {
        previews: [100, 200, 300],
        instruments: { probe: INSTRUMENT },
      })
      const url = pathToFileURL(await writeReport([run])).href
      const { page, complaints, requests } = await openPage(browser!, url, theme)
      const texts = (selector: string) =>
        page.$$eval(selector, (found) => found.map((one) => one.textContent))
      expect(await texts('h1, h2')).to.deep.equal([
        ...[
          `run-${theme}`,
          'Training',
          'Timesteps',
          'Heads',
          'Samples',
          'Held-out loss by timestep',
          'Options',
        ],
      ])
      const drawn = await page.$$eval('figure:has(> svg.plot)', (found) =>
        found.map((one) => ({
          title: one.querySelector('figcaption')?.textContent,
          series: one.querySelectorAll('[class*=" role-mark series-"]').length,
          isVisible: one.querySelector('svg')!.getBoundingClientRect().height > 100,
        })),
      )
      expect(drawn.map(({ title, series }) => [title, series])).to.deep.equal([
        ['Training loss', 2],
        ['Error of each head', 6],
        ['Gradient norm', 2],
        ['Loss over the timesteps as training goes on', 4],
        ['Error of xStart over the timesteps as training goes on', 4],
        ['Error of v over the timesteps as training goes on', 4],
        ['Error of eps over the timesteps as training goes on', 4],
        ['Error of each head over the timesteps', 3],
        ['Which head is chosen, over training', 3],
        ['Which head is chosen, by timestep', 3],
        ['Loss', 2],
        ['Change', 0],
      ])
      expect(drawn.slice(0, 8).every(({ isVisible }) => isVisible)).to.equal(true)
      expect(await texts('table td, table tbody th')).to.deep.equal(['eps', '100', 'v', '–'])
      const sizes = await page.$$eval('img', async (found) => {
        for (const image of found) image.loading = 'eager'
        await Promise.all(found.map((image) => image.decode()))
        return found.map((image) => image.naturalWidth)
      })
      expect(sizes).to.deep.equal(new Array(2 + 6).fill(24))
      expect(complaints).to.deep.equal([])
      expect(requests).to.deep.equal([url])
      await page.close()
    })
  }

  it('has readable text in both themes, that of the curves included', async () => {
    const url = pathToFileURL(await writeReport([await makeRun(join(work.folder, 'contrast'))])).href
    for (const theme of ['light', 'dark'] as const) {
      const { page } = await openPage(browser!, url, theme)
      const ratios = (await page.evaluate(CONTRASTS)) as number[]
      expect(ratios.length).to.be.above(50)
      expect(Math.min(...ratios)).to.be.above(4.5) // WCAG AA
      await page.close()
    }
  })

  it('fits a narrow screen', async () => {
    const run = await makeRun(join(work.folder, 'narrow'), {
      previews: [100, 200],
      instruments: { probe: INSTRUMENT },
    })
    const { page } = await openPage(browser!, pathToFileURL(await writeReport([run])).href, 'light', 400)
    expect(await page.evaluate('document.documentElement.scrollWidth')).to.equal(400)
    await page.close()
  })

  it('moves the samples to the step of the slider and of a picture in the filmstrip', async () => {
    const run = await makeRun(join(work.folder, 'slider'), { previews: [100, 200, 300] })
    const { page } = await openPage(browser!, pathToFileURL(await writeReport([run])).href)
    const shown = () => page.$$eval('.stage', (found) => found.map((one) => one.alt))
    await page.$eval('.slider input', (slider) => {
      slider.value = '0'
      slider.dispatchEvent(new Event('input'))
    })
    expect(await shown()).to.deep.equal(['step 100, weights', 'step 100, average of the weights'])
    await page.click('.film [data-step="200"]')
    expect(await shown()).to.deep.equal(['step 200, weights', 'step 200, average of the weights'])
    expect(await page.$eval('.slider output', (one) => one.textContent)).to.equal('200')
    await page.close()
  })

  it('does not run what options and names say', async () => {
    const evil = '</script><script>document.title = "taken"</script><img src=x onerror="document.title = 1">'
    const run = await makeRun(join(work.folder, 'evil'), {
      config: { data: evil, [evil]: evil },
      instruments: {
        evil: { ...INSTRUMENT, title: evil, plots: [{ ...INSTRUMENT.plots[0], title: `"${evil}` }] },
      },
    })
    const url = pathToFileURL(await writeReport([run])).href
    const { page, complaints, requests } = await openPage(browser!, url)
    expect(await page.title()).to.equal('evil – trislot')
    expect([complaints, requests]).to.deep.equal([[], [url]])
    await page.close()
  })

  it('renews itself while a run trains, from before its folder exists', async () => {
    const folder = join(work.folder, 'live')
    const watch = await watchRun(folder, { everyMs: 20 })
    try {
      const { page, complaints, requests } = await openPage(browser!, watch.url, 'dark')
      const facts = () => page.$eval('main', (main) => main.textContent ?? '')
      expect(await facts()).to.include('No step is logged yet.')
      await makeRun(folder)
      await until(async () => (await facts()).includes('300 of 300'), 'the first steps')
      expect(await page.$$eval('svg.plot', (found) => found.length)).to.equal(10)
      await page.$eval('details', (details) => (details.open = true))
      const line = JSON.stringify(madeRow(310))
      await appendFile(join(folder, 'stats.jsonl'), line.slice(0, 40))
      await appendFile(join(folder, 'stats.jsonl'), `${line.slice(40)}\n`)
      await until(async () => (await facts()).includes('310 of 300'), 'the line that was appended')
      expect(await page.$eval('details', (details) => details.open)).to.equal(true)
      expect(complaints).to.deep.equal([])
      expect(requests.every((url) => url.startsWith(watch.url))).to.equal(true)
      await page.close()
    } finally {
      await watch.close()
      await rm(folder, { recursive: true, force: true })
    }
  })
})
