import { argumentError } from '../check.ts'
import { extent } from '../statistics/extent.ts'
import type { HeatmapPlot } from './instrument-file.ts'

const CELL = 52
const LEFT = 170
const TOP = 112
const FONT = 'system-ui, -apple-system, Segoe UI, DejaVu Sans, Helvetica, Arial, sans-serif'
const LIGHT = [247, 248, 250] as const
const BLUE = [0, 90, 160] as const
const RED = [190, 70, 0] as const

/**
 * Draws a matrix as a standalone SVG, each cell with its number.
 *
 * @throws RangeError when there are not rows x columns values
 */
export function heatmapSvg(plot: HeatmapPlot): string {
  const { title, rows, columns, values, label, diverging = false } = plot
  if (values.length !== rows.length * columns.length) {
    throw argumentError('heatmapSvg', 'values', `${rows.length} x ${columns.length} numbers`, values)
  }
  const known = values.filter((value) => value !== null && Number.isFinite(value)) as number[]
  const [least, most] = extent(known)
  const extreme = Math.max(-least, most, Number.MIN_VALUE)
  const [min, max] = diverging ? [-extreme, extreme] : [least, most]
  const width = Math.max(LEFT + columns.length * CELL + 24, 520)
  const height = TOP + rows.length * CELL + 24

  const parts = [
    text(title, 24, 32, 'start', 20, 600),
    text(label, 24, 56, 'start', 14),
    ...columns.map((name, j) => text(name, LEFT + (j + 0.5) * CELL, TOP - 12, 'middle', 11)),
    ...rows.map((name, i) => text(name, LEFT - 10, TOP + (i + 0.5) * CELL + 4, 'end', 12)),
  ]
  for (const [k, value] of values.entries()) {
    const [x, y] = [LEFT + (k % columns.length) * CELL, TOP + Math.floor(k / columns.length) * CELL]
    const isKnown = value !== null && Number.isFinite(value)
    const share = !isKnown ? 0 : diverging ? value / max : max > min ? (value - min) / (max - min) : 0
    const fill = isKnown ? mix(share < 0 ? BLUE : RED, diverging ? Math.abs(share) : share) : '#ffffff'
    parts.push(
      `<rect x="${x}" y="${y}" width="${CELL - 1}" height="${CELL - 1}" fill="${fill}" stroke="#d8dde3"/>`,
    )
    if (!isKnown) continue
    const ink = Math.abs(share) > 0.6 ? '#ffffff' : '#22262b'
    parts.push(text(short(value), x + CELL / 2, y + CELL / 2 + 4, 'middle', 11, 400, ink))
  }
  return `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}" viewBox="0 0 ${width} ${height}" font-family="${FONT}">
<rect width="${width}" height="${height}" fill="#ffffff"/>
${parts.join('\n')}
</svg>
`
}

function mix(target: readonly [number, number, number], share: number): string {
  return `rgb(${LIGHT.map((light, i) => Math.round(light + ((target[i] as number) - light) * share)).join(',')})`
}

/** Three digits, in powers of ten where the number is very small or large. */
function short(value: number): string {
  const size = Math.abs(value)
  if (value !== 0 && (size < 1e-3 || size >= 1e4)) return value.toExponential(1)
  return String(Number(value.toPrecision(3)))
}

function text(
  words: string,
  x: number,
  y: number,
  anchor: string,
  size: number,
  weight = 400,
  color = '#22262b',
): string {
  const escaped = words.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;')
  return `<text x="${x}" y="${y}" text-anchor="${anchor}" font-size="${size}" font-weight="${weight}" fill="${color}">${escaped}</text>`
}
