// A figure as a specification for vega: everything is placed here, vega scales and draws.
import type { Mark, Spec } from 'vega'
import { extent } from '../../statistics/extent.ts'
import { type FigureAxis, type FigureSeries, type LineFigure, seriesColour } from './figure.ts'
import { bandMarks, CHARACTER, endLabels, seriesData, seriesMarks, text } from './line-marks.ts'
import { type Point, points } from './points.ts'
import { linearTicks, logTicks, type Tick } from './ticks.ts'

const MOST_LABELS = 8

/** Pixels of the drawing, and whether its series are named beside their lines. */
export interface LinePlace {
  readonly width: number
  readonly height: number
}

/** Whether the names stand at the right ends of the lines; else they stand in a legend. */
export function namesLines({ series }: LineFigure, width: number): boolean {
  const named = series.filter(({ name }) => name !== '')
  if (named.some(({ name }) => name.length * CHARACTER > width / 4)) return false
  const isLine = ({ kind = 'line' }: FigureSeries) => kind === 'line' || kind === 'steps'
  return named.length > 1 && named.length <= MOST_LABELS && named.every(isLine)
}

/** Lines, points and bars; undefined when there is nothing to draw. */
export function lineSpec(figure: LineFigure, { width, height }: LinePlace): Spec | undefined {
  const { series, bands = [] } = figure
  const drawn = series.map((one) => points(one, figure.x.scale === 'log', figure.y.scale === 'log'))
  const shown = drawn.flat().filter((point): point is Point => point !== undefined)
  if (shown.length === 0) return undefined
  const hasBars = series.some(({ kind }) => kind === 'bars')
  const barRoom = hasBars ? smallestStep(drawn.flat().flatMap((point) => (point ? [point.x] : []))) : 0
  const x = domain(
    figure.x,
    shown.flatMap((p) => [p.x]),
    { room: 0, extra: barRoom / 2 },
  )
  const ys = shown.flatMap((p) => [
    p.y,
    ...(p.low === undefined ? [] : [p.low]),
    ...(p.high === undefined ? [] : [p.high]),
  ])
  const y = domain(figure.y, hasBars && figure.y.scale !== 'log' ? [0, ...ys] : ys, { room: 0.05, extra: 0 })

  const labels = namesLines(figure, width)
  const longest = labels ? Math.max(...series.map(({ name }) => name.length)) : 0
  const left = 56
  const right = width - (labels ? 14 + longest * CHARACTER : 14)
  const [top, bottom] = [bands.some(({ label = '' }) => label !== '') ? 38 : 26, height - 42]
  const yAt = pixel(y, figure.y, bottom, top)
  const xAt = pixel(x, figure.x, left, right)
  const xTicks = ticks(x, figure.x, Math.round((right - left) / 90))
  const yTicks = ticks(y, figure.y, Math.round((bottom - top) / 50))

  const colour = (i: number) => seriesColour(series[i]?.color ?? i)
  const marks: Mark[] = [
    ...bandMarks(bands, xAt, [left, right], [top, bottom]),
    ...within(
      shown,
      { x, y },
      [left, top, right, bottom],
      series.flatMap((one, i): Mark[] => {
        const bars = series.filter(({ kind }) => kind === 'bars')
        const place = {
          index: bars.indexOf(one),
          count: bars.length,
          room: barRoom * Math.abs(xAt(x[0] + 1) - xAt(x[0])),
        }
        return seriesMarks(one, `series-${i}`, one.color ?? i, drawn[i]!, {
          base: figure.y.scale === 'log' ? y[0] : 0,
          ...place,
        })
      }),
    ),
    ...(labels ? endLabels(series, drawn, colour, yAt, right + 8, [top, bottom]) : []),
    text(titleOf(figure.y), 0, 10, { fill: 'var(--muted)', fontSize: 12 }),
  ]
  return {
    ...{ width, height, padding: 0, autosize: 'none' },
    signals: [
      { name: 'xText', value: textOf(xTicks) },
      { name: 'yText', value: textOf(yTicks) },
    ],
    data: series.map((one, i) => seriesData(one, `series-${i}`, drawn[i]!)),
    scales: [
      { name: 'x', type: figure.x.scale ?? 'linear', domain: x, range: [left, right], zero: false },
      { name: 'y', type: figure.y.scale ?? 'linear', domain: y, range: [bottom, top], zero: false },
    ],
    axes: [
      axis('left', 'y', yTicks, { offset: -left, grid: true, gridScale: 'x' }),
      axis('bottom', 'x', xTicks, { offset: bottom - height, title: titleOf(figure.x) }),
    ] as unknown as NonNullable<Spec['axes']>,
    marks,
  }
}

/** Marks, in a group that cuts off what lies beyond the limits of the axes where there is such a thing. */
function within(
  shown: readonly Point[],
  { x, y }: { readonly x: Domain; readonly y: Domain },
  [left, top, right, bottom]: readonly [number, number, number, number],
  marks: Mark[],
): Mark[] {
  const isIn = ([low, high]: Domain, value: number) => value >= low && value <= high
  const isWhole = shown.every(
    (p) => isIn(x, p.x) && [p.y, p.low ?? p.y, p.high ?? p.y].every((v) => isIn(y, v)),
  )
  if (isWhole) return marks
  const path = `M${left},${top}H${right}V${bottom}H${left}Z`
  return [{ type: 'group', clip: { path: { signal: `'${path}'` } }, marks } as unknown as Mark]
}

function titleOf({ label, unit }: FigureAxis): string {
  return unit === undefined ? label : `${label} [${unit}]`
}

/** The smallest distance between different neighbours, the room of a group of bars; 1 of less than two. */
function smallestStep(places: readonly number[]): number {
  const xs = [...new Set(places)].sort((a, b) => a - b)
  const [least] = extent(xs.slice(1).map((x, i) => x - xs[i]!))
  return xs.length > 1 ? least : 1
}

type Domain = [number, number]

function domain(
  axis: FigureAxis,
  values: readonly number[],
  { room, extra }: { room: number; extra: number },
): Domain {
  const isLog = axis.scale === 'log'
  const [least, greatest] = extent(values)
  let low = axis.min ?? least - extra
  let high = axis.max ?? greatest + extra
  if (isLog) {
    const factor = low === high ? 2 : (high / low) ** room
    return [axis.min ?? low / factor, axis.max ?? high * factor]
  }
  const space = low === high ? Math.abs(low) / 2 || 1 : (high - low) * room
  if (axis.min === undefined) low = low >= 0 ? Math.max(0, low - space) : low - space
  if (axis.max === undefined) high += space
  return [low, high]
}

function pixel([low, high]: Domain, axis: FigureAxis, from: number, to: number): (value: number) => number {
  const place = axis.scale === 'log' ? Math.log : (value: number) => value
  return (value) => from + ((place(value) - place(low)) / (place(high) - place(low))) * (to - from)
}

function ticks([low, high]: Domain, axis: FigureAxis, count: number): Tick[] {
  return axis.scale === 'log' ? logTicks(low, high) : linearTicks(low, high, Math.max(2, count))
}

function textOf(marks: readonly Tick[]): Record<string, string> {
  return Object.fromEntries(marks.map(({ value, text: words }) => [String(value), words]))
}

function axis(orient: 'left' | 'bottom', scale: 'x' | 'y', marks: readonly Tick[], more: object): object {
  return {
    ...{ orient, scale, values: marks.map(({ value }) => value), ...more },
    ...{
      domain: scale === 'x',
      domainColor: 'var(--rule)',
      ticks: scale === 'x',
      tickColor: 'var(--rule)',
      tickSize: 4,
    },
    ...{
      gridColor: 'var(--grid)',
      labelColor: 'var(--muted)',
      labelFontSize: 12,
      labelPadding: 6,
      labelOverlap: false,
    },
    ...{ titleColor: 'var(--muted)', titleFontSize: 12, titleFontWeight: 400, titlePadding: 8 },
    encode: { labels: { update: { text: { signal: `${scale}Text[datum.value]` } } } },
  }
}
