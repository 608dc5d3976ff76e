import { writeFile } from 'node:fs/promises'
import { loadSharp } from '../data/decode.ts'
import { barTicks, type ColouredSeries, draw, drawBars, px, type Series, smallestStep } from './marks.ts'
import { type Axis, makeScale } from './scale.ts'

export type { Axis, Series }

/** A vertical stripe behind the data: a slot of timesteps, half-open. */
export interface Band {
  readonly begin: number
  readonly end: number
}

/** What `plotSvg` draws. */
export interface Plot {
  readonly title: string
  readonly subtitle?: string
  readonly x: Axis
  readonly y: Axis
  readonly series: readonly Series[]
  readonly bands?: readonly Band[]
  /** Pixels. Default 860 x 500. */
  readonly width?: number
  readonly height?: number
}

/** Okabe and Ito's colours, darkest first. */
export const PALETTE = ['#0072b2', '#d55e00', '#009e73', '#cc79a7', '#e69f00', '#56b4e9', '#555555'] as const

const FONT = 'system-ui, -apple-system, Segoe UI, DejaVu Sans, Helvetica, Arial, sans-serif'
const INK = '#22262b'
const MUTED = '#5b6470'

/**
 * Draws lines, points or bars as a standalone SVG.
 *
 * @throws RangeError when no series has a point that can be drawn
 */
export function plotSvg(plot: Plot): string {
  const { width = 860, height = 500, series, bands = [] } = plot
  const named = series.filter(({ name }) => name !== '')
  const hasLegend = named.length > 1
  const left = 84
  const right = width - 24
  const coloured = series.map((s, i) => ({
    ...s,
    color: s.color ?? PALETTE[i % PALETTE.length]!,
    ...(s.color === undefined && i >= PALETTE.length && { dash: i < 2 * PALETTE.length ? '8 5' : '2 5' }),
  }))
  const rows = hasLegend ? legendRows(coloured, right - left) : []
  const legendTop = 30 + (plot.title ? 26 : 0) + (plot.subtitle ? 20 : 0)
  const top = legendTop + rows.length * LEGEND_LINE + (rows.length > 1 ? 4 : 0)
  const bottom = height - 64

  const hasBars = series.some(({ kind }) => kind === 'bar')
  const barSpace = hasBars ? smallestStep(series.flatMap(({ x }) => Array.from(x))) / 2 : 0
  const x = makeScale(
    'x',
    plot.x,
    series.map((s) => s.x),
    [left, right],
    barSpace,
    Math.round((right - left) / 90),
  )
  const xTicks = (hasBars && barTicks(series)) || x.ticks
  const y = makeScale(
    'y',
    plot.y,
    series.map((s) => s.y),
    [bottom, top],
    hasBars ? 'zero' : 'room',
    Math.round((bottom - top) / 60),
  )
  const inside = (value: number) => Math.min(right, Math.max(left, x.at(value)))

  const parts: string[] = []
  for (const [i, { begin, end }] of bands.entries()) {
    const from = inside(begin)
    parts.push(
      `<rect x="${px(from)}" y="${top}" width="${px(inside(end) - from)}" height="${bottom - top}" fill="${i % 2 ? '#f7f8fa' : '#e6ebf2'}"/>`,
    )
    if (i > 0)
      parts.push(`<line x1="${px(from)}" x2="${px(from)}" y1="${top}" y2="${bottom}" stroke="#bcc6d2"/>`)
  }
  for (const { value, text } of y.ticks) {
    const at = px(y.at(value))
    parts.push(`<line x1="${left}" x2="${right}" y1="${at}" y2="${at}" stroke="#d8dde3"/>`)
    parts.push(words(text, left - 10, y.at(value) + 5, { anchor: 'end', color: MUTED }))
  }
  for (const { value, text } of xTicks) {
    const at = px(x.at(value))
    parts.push(`<line x1="${at}" x2="${at}" y1="${bottom}" y2="${bottom + 6}" stroke="${MUTED}"/>`)
    parts.push(words(text, x.at(value), bottom + 24, { anchor: 'middle', color: MUTED }))
  }
  const bars = coloured.filter(({ kind }) => kind === 'bar')
  const baseline = plot.y.scale === 'log' ? bottom : Math.min(bottom, Math.max(top, y.at(0)))
  const marks = coloured.map((s) =>
    s.kind === 'bar' ? drawBars(s, x, y, baseline, bars.indexOf(s), bars.length) : draw(s, x, y),
  )
  parts.push(`<g clip-path="url(#inside)">${marks.join('\n')}</g>`)
  parts.push(`<path d="M${left} ${top}V${bottom}H${right}" fill="none" stroke="${MUTED}"/>`)
  parts.push(words(axisTitle(plot.x), (left + right) / 2, height - 16, { anchor: 'middle', size: 16 }))
  const middle = (top + bottom) / 2
  parts.push(words(axisTitle(plot.y), 24, middle, { anchor: 'middle', size: 16, turn: true }))

  if (plot.title) parts.push(words(plot.title, left, 34, { size: 20, weight: 600 }))
  if (plot.subtitle) parts.push(words(plot.subtitle, left, 56, { color: MUTED }))
  for (const [i, row] of rows.entries()) parts.push(legend(row, left, legendTop + 10 + i * LEGEND_LINE))
  return `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}" viewBox="0 0 ${width} ${height}" font-family="${FONT}">
<rect width="${width}" height="${height}" fill="#ffffff"/>
<clipPath id="inside"><rect x="${left - 3}" y="${top - 3}" width="${right - left + 6}" height="${bottom - top + 3}"/></clipPath>
${parts.join('\n')}
</svg>
`
}

/** Renders an SVG to PNG bytes through the package sharp. */
export async function svgToPng(svg: string, scale = 1): Promise<Uint8Array> {
  const sharp = await loadSharp('svgToPng')
  return sharp(Buffer.from(svg), { density: 72 * scale })
    .png()
    .toBuffer()
}

/**
 * @internal Writes a plot as `<path>.svg` and, where the package sharp is there, `<path>.png`.
 *
 * @returns the paths
 */
export async function writePlot(path: string, svg: string): Promise<string[]> {
  await writeFile(`${path}.svg`, svg)
  const png = await svgToPng(svg).catch(() => undefined) // sharp is optional
  if (!png) return [`${path}.svg`]
  await writeFile(`${path}.png`, png)
  return [`${path}.svg`, `${path}.png`]
}

const LEGEND_LINE = 26

const legendWidth = (name: string): number => 44 + name.length * 8.2

/** The named series, as many beside each other as the width has room for. */
function legendRows(series: readonly ColouredSeries[], width: number): ColouredSeries[][] {
  const rows: ColouredSeries[][] = []
  let left = 0
  for (const item of series) {
    if (item.name === '') continue
    if (rows.length === 0 || left + legendWidth(item.name) > width) {
      rows.push([])
      left = 0
    }
    rows.at(-1)?.push(item)
    left += legendWidth(item.name)
  }
  return rows
}

function legend(series: readonly ColouredSeries[], left: number, y: number): string {
  let x = left
  return series
    .map(({ name, color, opacity = 1, dash }) => {
      const at = x
      x += legendWidth(name)
      const line = `<path d="M${px(at)} ${y - 4}h22" stroke="${color}" stroke-width="${opacity < 1 ? 2 : 4}" stroke-opacity="${opacity}"${dash ? ` stroke-dasharray="${dash}"` : ''}/>`
      return line + words(name, at + 29, y, {})
    })
    .join('\n')
}

function axisTitle({ label, unit }: Axis): string {
  return unit ? `${label} [${unit}]` : label
}

function words(
  text: string,
  x: number,
  y: number,
  options: { anchor?: string; size?: number; color?: string; weight?: number; turn?: boolean },
): string {
  const { anchor = 'start', size = 14, color = INK, weight = 400, turn = false } = options
  const place = turn ? `transform="translate(${px(x)} ${px(y)}) rotate(-90)"` : `x="${px(x)}" y="${px(y)}"`
  const escaped = text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;')
  return `<text ${place} text-anchor="${anchor}" font-size="${size}" font-weight="${weight}" fill="${color}">${escaped}</text>`
}
