import { accessSync, constants } from 'node:fs'
import { delimiter, join } from 'node:path'
import type { Browser, Page } from 'puppeteer-core'
import { launch } from 'puppeteer-core'

const NAMES = ['chromium', 'chromium-browser', 'google-chrome', 'google-chrome-stable']

/** The Chromium of this machine: `$CHROMIUM`, or the first of the usual names on the path. */
export function findChromium(): string | undefined {
  if (process.env.CHROMIUM) return process.env.CHROMIUM
  const folders = (process.env.PATH ?? '').split(delimiter)
  const files = NAMES.flatMap((name) => folders.map((folder) => join(folder, name)))
  return files.find((file) => {
    try {
      accessSync(file, constants.X_OK)
      return true
    } catch {
      return false
    }
  })
}

/** Starts Chromium; without one the tests are skipped, but with `TRISLOT_BROWSER=required` they fail. */
export async function startBrowser(test: Mocha.Context): Promise<Browser> {
  const executablePath = findChromium()
  if (executablePath === undefined) {
    const missing = 'no Chromium found: install it or set CHROMIUM'
    if (process.env.TRISLOT_BROWSER === 'required') throw new Error(missing)
    console.log(`      ${missing}; skipped`)
    test.skip()
  }
  // Containers run as root, for whom Chromium has no sandbox; the pages are ours.
  return launch({ executablePath, args: ['--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage'] })
}

/** What a page said and asked for while it was open. */
export interface Watched {
  readonly page: Page
  /** Errors and warnings of the console, and exceptions. */
  readonly complaints: string[]
  /** Requests of anything but data URIs. */
  readonly requests: string[]
}

/** Opens a page in a theme, and writes down its complaints and requests. */
export async function openPage(
  browser: Browser,
  url: string,
  theme: 'light' | 'dark' = 'light',
  width = 1200,
): Promise<Watched> {
  const page = await browser.newPage()
  const [complaints, requests]: [string[], string[]] = [[], []]
  page.on('console', (message) => {
    if (message.type() === 'error' || message.type() === 'warn') complaints.push(message.text())
  })
  page.on('pageerror', (error) => complaints.push(String(error)))
  page.on('request', (request) => {
    if (!request.url().startsWith('data:')) requests.push(request.url())
  })
  await page.setViewport({ width, height: 900 })
  await page.emulateMediaFeatures([{ name: 'prefers-color-scheme', value: theme }])
  await page.goto(url)
  return { page, complaints, requests }
}
