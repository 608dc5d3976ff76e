// The whole page, from what the folders hold.
import { comparisonFigures, comparisonTable, differences, groupRuns, valueText } from './compare.ts'
import { type Html, html, Html as RawHtml } from './html.ts'
import { figures, section, table } from './parts.ts'
import type { RunFolder } from './run-folder.ts'
import { facts, factsPart, optionsPart, runParts } from './run-parts.ts'
import { LIVE_SCRIPT, SAMPLES_SCRIPT } from './script.ts'
import { studyParts } from './study.ts'
import type { StudyFolder } from './study-folder.ts'
import { STYLE } from './style.ts'

/** Runs with more than this many beside them are only compared. */
const MOST_PAGES = 8

/** What a page shows. */
export interface PageContents {
  readonly runs: readonly RunFolder[]
  readonly studies: readonly StudyFolder[]
}

/**
 * A self-contained HTML page: no script, style, picture or font from elsewhere.
 *
 * @param version - for a page that is served and renews itself: what the server calls this state of the folders
 */
export async function reportPage({ runs, studies }: PageContents, version?: string): Promise<string> {
  const [only] = runs
  const isOne = runs.length === 1 && studies.length === 0 && only !== undefined
  const isOneStudy = studies.length === 1 && runs.length === 0
  const title = isOne ? only.name : isOneStudy ? studies[0]!.name : counted(runs.length, studies.length)
  const parts = [
    ...(isOneStudy ? await studyParts(studies[0]!) : await Promise.all(studies.map(namedStudy))),
    ...(isOne ? await oneRun(only) : runs.length > 0 ? await severalRuns(runs) : []),
  ]
  const policy = `default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'${version === undefined ? '' : "; connect-src 'self'"}`
  return html`<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="${policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<link rel="icon" href="data:,">
<title>${title} – trislot</title>
<style>${new RawHtml(STYLE)}</style>
</head>
<body${version !== undefined && html` data-version="${version}"`}>
<main>
<header><h1>${title}</h1>${version !== undefined && html`<p class="live" role="status">live</p>`}</header>
${parts}
</main>
<script>${new RawHtml(SAMPLES_SCRIPT)}${version !== undefined && new RawHtml(LIVE_SCRIPT)}</script>
</body>
</html>
`.text
}

function counted(runs: number, studies: number): string {
  const words = [
    ...(runs > 0 ? [`${runs} run${runs === 1 ? '' : 's'}`] : []),
    ...(studies > 0 ? [`${studies} stud${studies === 1 ? 'y' : 'ies'}`] : []),
  ]
  return words.length === 1 && runs > 0 ? `${words[0]} compared` : words.join(' and ')
}

async function namedStudy(study: StudyFolder): Promise<Html> {
  return html`<section><h2>${study.name}</h2>${await studyParts(study)}</section>
`
}

async function oneRun(run: RunFolder): Promise<(Html | undefined)[]> {
  return [factsPart(run), ...(await runParts(run, 2)), section('Options', 2, [optionsPart(run)])]
}

async function severalRuns(runs: readonly RunFolder[]): Promise<(Html | undefined)[]> {
  const groups = groupRuns(runs)
  const keys = differences(runs.map(({ config }) => config)).filter((key) => key !== 'run')
  const names = runs.map(({ name }) => name)
  const shown = runs.length <= MOST_PAGES ? runs : []
  const pages = await Promise.all(
    shown.map(
      async (run, i) => html`<section id="run-${i + 1}"><h2>${run.name}</h2>${factsPart(run)}
${await runParts(run, 3)}${optionsPart(run)}</section>
`,
    ),
  )
  return [
    shown.length > 0
      ? html`<nav aria-label="Runs">${shown.map(({ name }, i) => html`<a href="#run-${i + 1}">${name}</a>`)}</nav>`
      : undefined,
    section('Runs', 2, [table(summaryTable(runs))]),
    keys.length === 0
      ? undefined
      : section('Options that differ', 2, [
          table({
            title: '',
            columns: ['option', ...names],
            rows: keys.map((key) => [key, ...runs.map(({ config }) => valueText(config[key]))]),
          }),
        ]),
    section('Comparison', 2, [await figures(comparisonFigures(groups)), table(comparisonTable(groups))]),
    ...pages,
  ]
}

function summaryTable(runs: readonly RunFolder[]) {
  const all = runs.map((run) => new Map(facts(run)))
  const columns = [...new Set(all.flatMap((map) => [...map.keys()]))]
  return {
    title: '',
    columns: ['run', ...columns.map((name) => name.toLowerCase())],
    rows: runs.map(({ name }, i) => [name, ...columns.map((column) => all[i]!.get(column) ?? null)]),
  }
}
