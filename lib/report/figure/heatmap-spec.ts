import type { Mark, Spec } from 'vega'
import { extent } from '../../statistics/extent.ts'
import { type HeatmapFigure, seriesColour } from './figure.ts'
import { CHARACTER, text } from './line-marks.ts'

const MOST_SHADE = 0.72 // ink stays readable on it in both themes

const longest = (names: readonly string[]): number => Math.max(...names.map((name) => name.length))

/** Pixels between the left side and the first cell. */
const besideRows = ({ rows }: HeatmapFigure): number => 16 + 6.7 * longest(rows)

/** Pixels of a matrix whose names and numbers all have room. */
export function widthOfMatrix(figure: HeatmapFigure): number {
  return (
    1.5 * besideRows(figure) + figure.columns.length * Math.max(48, 10 + CHARACTER * longest(figure.columns))
  )
}

/** A matrix of shaded cells with their numbers; undefined when no cell has a value. */
export function heatmapSpec(figure: HeatmapFigure, width: number): Spec | undefined {
  const { rows, columns, diverging = false } = figure
  const values = (figure.values as readonly unknown[]).flat() as (number | null)[]
  const finite = values.filter(
    (value): value is number => typeof value === 'number' && Number.isFinite(value),
  )
  if (finite.length === 0 || rows.length === 0 || columns.length === 0) return undefined
  const left = Math.min(width / 3, besideRows(figure))
  const cellWidth = Math.min(96, (width - left) / columns.length)
  const cellHeight = Math.max(18, Math.min(34, cellWidth))
  const top = 26
  const [least, greatest] = extent(finite)
  const most = Math.max(-least, greatest) || 1
  const shade = (value: number) => {
    if (diverging) return (MOST_SHADE * Math.abs(value)) / most
    return greatest === least
      ? MOST_SHADE / 2
      : 0.04 + ((MOST_SHADE - 0.04) * (value - least)) / (greatest - least)
  }
  const cells = values.flatMap((value, i) => {
    if (value === null || !Number.isFinite(value)) return []
    const [row, column] = [Math.floor(i / columns.length), i % columns.length]
    const [x, y] = [left + column * cellWidth, top + row * cellHeight]
    return [
      {
        x,
        y,
        shade: shade(value),
        colour: seriesColour(diverging && value > 0 ? 1 : 0),
        text: shortNumber(value),
      },
    ]
  })
  const fits = cellWidth >= 30
  const nth = Math.max(1, Math.ceil((6 + 6.7 * longest(columns)) / cellWidth))
  const label = { fill: 'var(--muted)', fontSize: 12 }
  const rect = {
    ...{
      x: { field: 'x' },
      y: { field: 'y' },
      width: { value: cellWidth - 1 },
      height: { value: cellHeight - 1 },
    },
    ...{ fill: { field: 'colour' }, fillOpacity: { field: 'shade' }, cornerRadius: { value: 1 } },
  }
  const number = {
    ...{
      x: { field: 'x', offset: cellWidth / 2 },
      y: { field: 'y', offset: cellHeight / 2 },
      text: { field: 'text' },
    },
    ...{
      align: { value: 'center' },
      baseline: { value: 'middle' },
      fontSize: { value: cellWidth < 44 ? 10 : 12 },
    },
    fill: { value: 'var(--ink)' },
  }
  return {
    ...{ width, height: top + rows.length * cellHeight + 4, padding: 0, autosize: 'none' },
    data: [{ name: 'numbers', values: cells }],
    marks: [
      {
        type: 'rect',
        name: 'cells',
        description: figure.label,
        from: { data: 'numbers' },
        encode: { enter: rect },
      } as Mark,
      ...(fits ? [{ type: 'text', from: { data: 'numbers' }, encode: { enter: number } } as Mark] : []),
      ...rows.map((name, i) =>
        text(name, left - 8, top + (i + 0.5) * cellHeight, { ...label, align: 'right', baseline: 'middle' }),
      ),
      ...columns.flatMap((name, i) =>
        i % nth === 0
          ? [text(name, left + (i + 0.5) * cellWidth, top - 8, { ...label, align: 'center' })]
          : [],
      ),
    ],
  }
}

/** Three digits, without the zeros that say nothing. */
export function shortNumber(value: number): string {
  if (value === 0) return '0'
  const size = Math.abs(value)
  if (size >= 1e5 || size < 1e-3) return value.toExponential(1).replace('e+', 'e')
  return String(Number(value.toPrecision(3)))
}
