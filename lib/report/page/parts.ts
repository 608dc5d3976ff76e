// Pieces of the page: figures, tables, sections.
import type { Figure, LineFigure } from '../figure/figure.ts'
import { seriesColour, seriesPen } from '../figure/figure.ts'
import { figureSvg } from '../figure/figure-svg.ts'
import { namesLines } from '../figure/line-spec.ts'
import { type Content, type Html, html, Html as RawHtml } from './html.ts'
import type { InstrumentPage, Table } from './run-folder.ts'

/** A section with its heading; undefined when it would be empty. */
export function section(
  title: string,
  level: 2 | 3,
  parts: readonly (Html | undefined)[],
  intro?: string,
): Html | undefined {
  const present = parts.filter((part) => part !== undefined)
  if (present.length === 0) return undefined
  const heading = level === 2 ? html`<h2>${title}</h2>` : html`<h3>${title}</h3>`
  return html`<section>${heading}${intro && html`<p>${intro}</p>`}
${present}</section>
`
}

/** Figures: heatmaps across the page, others two abreast where there is room. */
export async function figures(list: readonly Figure[]): Promise<Html | undefined> {
  if (list.length === 0) return undefined
  // Lines stand two abreast; of an odd number the first goes across.
  const lines = list.filter(({ kind }) => kind !== 'heatmap')
  const drawn = await Promise.all(
    list.map((figure) => {
      const isAlone = lines.length % 2 === 1 && figure === lines[0]
      return figurePart(figure, figure.kind === 'heatmap' || isAlone)
    }),
  )
  return html`<div class="figures">${drawn}</div>`
}

async function figurePart(figure: Figure, isWide: boolean): Promise<Html> {
  const size = isWide ? { width: 1040, height: 360 } : { width: 510, height: 300 }
  const svg = await figureSvg(figure, size)
  const title = html`<figcaption>${figure.title}</figcaption>`
  const legend = figure.kind !== 'heatmap' && svg !== undefined && legendOf(figure, size.width)
  const label = figure.kind === 'heatmap' && html`<p class="note">${figure.label}</p>`
  const note = figure.note !== undefined && html`<p class="note">${figure.note}</p>`
  return html`<figure class="${isWide ? 'wide' : 'half'}">${title}${legend}
${svg === undefined ? html`<p class="note">Nothing to draw yet.</p>` : new RawHtml(svg)}${label}${note}</figure>
`
}

function legendOf(figure: LineFigure, width: number): Html | false {
  const named = figure.series
    .map(({ name, color }, i) => ({ name, colour: seriesColour(color ?? i), pen: seriesPen(color ?? i) }))
    .filter(({ name }) => name !== '')
  if (named.length < 2 || namesLines(figure, width)) return false
  return html`<ul class="legend">${named.map(({ name, colour, pen }) => html`<li><i style="border-top:3px ${pen} ${colour}"></i>${name}</li>`)}</ul>`
}

/** A section for each instrument; undefined when there is none. */
export async function instrumentSections(
  instruments: readonly InstrumentPage[],
  level: 2 | 3,
): Promise<Html | undefined> {
  if (instruments.length === 0) return undefined
  const parts = instruments.map(async ({ title, command, summary, plots, tables }) =>
    section(title, level, [
      ...summary.map((sentence) => html`<p>${sentence}</p>`),
      await figures(plots),
      ...tables.map(table),
      command === undefined ? undefined : html`<p class="note command"><code>${command}</code></p>`,
    ]),
  )
  return html`${await Promise.all(parts)}`
}

/** A table whose numbers stand right. */
export function table({ title, columns, rows }: Table): Html {
  const isNumeric = columns.map((_, k) => k > 0 && rows.every((row) => isNumber(row[k])))
  const side = (k: number): Content => isNumeric[k] && html` class="number"`
  return html`<div class="table"><table>${title && html`<caption>${title}</caption>`}
<thead><tr>${columns.map((name, k) => html`<th scope="col"${side(k)}>${name}</th>`)}</tr></thead>
<tbody>${rows.map((row) => html`<tr>${columns.map((_, k) => cell(row[k] ?? null, k, side(k)))}</tr>\n`)}</tbody></table></div>
`
}

function cell(value: string | number | null, k: number, side: Content): Html {
  const words = value === null ? '–' : typeof value === 'number' ? numberText(value) : value
  return k === 0 ? html`<th scope="row">${words}</th>` : html`<td${side}>${words}</td>`
}

function isNumber(value: string | number | null | undefined): boolean {
  return (
    value === null ||
    value === undefined ||
    typeof value === 'number' ||
    /^[-+×÷≥\d.,e \u2009%]+( to [-+×÷\d.,e %]+)?$/.test(value)
  )
}

function numberText(value: number): string {
  if (Number.isInteger(value)) return value.toLocaleString('en-US')
  return String(Number(value.toPrecision(5)))
}
