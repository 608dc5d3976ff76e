// A figure as a specification for vega: everything is placed here, vega scales and draws.
import type { Mark, Spec } from 'vega'
import { linearTicks, logTicks, type Tick } from '../ticks.ts'
import { type FigureAxis, type FigureSeries, type LineFigure, seriesColour } from './figure.ts'
import { type Point, points } from './points.ts'

const LABEL_HEIGHT = 15
const CHARACTER = 6.7 // pixels of a letter at 12 px, generously
const MOST_LABELS = 8

/** Pixels of the drawing, and whether its series are named beside their lines. */
export interface LinePlace {
  readonly width: number
  readonly height: number
}

/** Whether the names stand at the right ends of the lines; else the page shows a legend. */
export function namesLines({ series }: LineFigure): boolean {
  const named = series.filter(({ name }) => name !== '')
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
  const barRoom = hasBars ? barSpace(drawn) : 0
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

  const labels = namesLines(figure)
  const longest = labels ? Math.max(...series.map(({ name }) => name.length)) : 0
  const left = 56
  const right = width - (labels ? Math.min(200, 14 + longest * CHARACTER) : 14)
  const [top, bottom] = [26, height - 42]
  const yAt = pixel(y, figure.y, bottom, top)
  const xAt = pixel(x, figure.x, left, right)
  const xTicks = ticks(x, figure.x, Math.round((right - left) / 90))
  const yTicks = ticks(y, figure.y, Math.round((bottom - top) / 50))

  const colour = (i: number) => seriesColour(series[i]?.color ?? i)
  const marks: Mark[] = [
    ...bandMarks(bands, xAt, [left, right], [top, bottom]),
    ...series.flatMap((one, i): Mark[] => {
      const bars = series.filter(({ kind }) => kind === 'bars')
      const place = {
        index: bars.indexOf(one),
        count: bars.length,
        room: barRoom * Math.abs(xAt(x[0] + 1) - xAt(x[0])),
      }
      return seriesMarks(one, `series-${i}`, colour(i), drawn[i]!, {
        base: figure.y.scale === 'log' ? y[0] : 0,
        ...place,
      })
    }),
    ...(labels ? endLabels(series, drawn, colour, yAt, right + 8, [top, bottom]) : []),
    text(figure.y.label, 0, 10, { fill: 'var(--muted)', fontSize: 12 }),
  ]
  return {
    ...{ width, height, padding: 0, autosize: 'none' },
    config: { background: null, font: 'inherit' } as unknown as NonNullable<Spec['config']>,
    signals: [
      { name: 'xText', value: textOf(xTicks) },
      { name: 'yText', value: textOf(yTicks) },
    ],
    data: series.map((_, i) => ({ name: `points-of-series-${i}`, values: drawn[i]!.map((p) => p ?? { gap: true }) })),
    scales: [
      { name: 'x', type: figure.x.scale ?? 'linear', domain: x, range: [left, right], zero: false },
      { name: 'y', type: figure.y.scale ?? 'linear', domain: y, range: [bottom, top], zero: false },
    ],
    axes: [
      axis('left', 'y', yTicks, { offset: -left, grid: true }),
      axis('bottom', 'x', xTicks, { offset: bottom - height, title: figure.x.label }),
    ] as unknown as NonNullable<Spec['axes']>,
    marks,
  }
}

/** What every text of a drawing shares. */
export function text(words: string, x: number, y: number, look: Record<string, string | number>): Mark {
  const values = Object.fromEntries(Object.entries(look).map(([key, value]) => [key, { value }]))
  return {
    type: 'text',
    encode: { enter: { text: { value: words }, x: { value: x }, y: { value: y }, ...values } },
  } as Mark
}

type Domain = [number, number]

function domain(
  axis: FigureAxis,
  values: readonly number[],
  { room, extra }: { room: number; extra: number },
): Domain {
  const isLog = axis.scale === 'log'
  let low = axis.min ?? values.reduce((a, b) => Math.min(a, b), Number.POSITIVE_INFINITY) - extra
  let high = axis.max ?? values.reduce((a, b) => Math.max(a, b), Number.NEGATIVE_INFINITY) + extra
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

function bandMarks(
  bands: NonNullable<LineFigure['bands']>,
  xAt: (value: number) => number,
  [left, right]: Domain,
  [top, bottom]: Domain,
): Mark[] {
  const inside = (value: number) => Math.min(right, Math.max(left, xAt(value)))
  return bands.flatMap(({ begin, end, label = '' }, i) => {
    const [from, to] = [inside(begin), inside(end)]
    if (!(to > from)) return []
    const enter = { x: { value: from }, x2: { value: to }, y: { value: top }, y2: { value: bottom } }
    const stripe = {
      type: 'rect',
      name: 'band',
      encode: { enter: { ...enter, fill: { value: i % 2 ? 'none' : 'var(--stripe)' } } },
    }
    const fits = label !== '' && to - from > label.length * CHARACTER
    const look = { align: 'center', fill: 'var(--muted)', fontSize: 11 }
    return [stripe as Mark, ...(fits ? [text(label, (from + to) / 2, top + 13, look)] : [])]
  })
}

function seriesMarks(
  { kind = 'line', name, low, high, opacity = 1 }: FigureSeries,
  data: string,
  color: string,
  drawn: readonly (Point | undefined)[],
  bar: { base: number; index: number; count: number; room: number },
): Mark[] {
  const from = { data: `points-of-${data}` }
  const defined = { signal: '!datum.gap' }
  const [x, y] = [
    { scale: 'x', field: 'x' },
    { scale: 'y', field: 'y' },
  ]
  const interpolate = { value: kind === 'steps' ? 'step-after' : 'linear' }
  const hasInterval = low !== undefined && high !== undefined
  const shared = { from, description: name || 'unnamed' }
  const marks: object[] = []
  if (hasInterval && (kind === 'line' || kind === 'steps')) {
    const bounds = { y: { scale: 'y', field: 'low' }, y2: { scale: 'y', field: 'high' } }
    const enter = {
      x,
      ...bounds,
      interpolate,
      defined: { signal: 'isValid(datum.low) && isValid(datum.high)' },
    }
    marks.push({
      type: 'area',
      name: `interval-of-${data}`,
      ...shared,
      encode: { enter: { ...enter, fill: { value: color }, fillOpacity: { value: 0.16 } } },
    })
  }
  if (kind === 'bars') {
    const width = Math.max(1, (0.8 * bar.room) / bar.count)
    const offset = -0.4 * bar.room + bar.index * width
    const enter = {
      x: { ...x, offset },
      width: { value: Math.max(0.5, width - 1) },
      y,
      y2: { scale: 'y', value: bar.base },
    }
    marks.push({
      type: 'rect',
      name: data,
      ...shared,
      encode: { enter: { ...enter, fill: { value: color }, fillOpacity: { value: opacity } } },
    })
  } else if (kind === 'points') {
    const enter = { x, y, size: { value: 30 }, fill: { value: color }, fillOpacity: { value: opacity } }
    marks.push({ type: 'symbol', name: data, ...shared, encode: { enter } })
  } else {
    const stroke = {
      stroke: { value: color },
      strokeWidth: { value: opacity < 0.5 ? 1 : 1.9 },
      strokeOpacity: { value: opacity },
    }
    const ends = { strokeJoin: { value: 'round' }, strokeCap: { value: 'round' } }
    marks.push({
      type: 'line',
      name: data,
      ...shared,
      encode: { enter: { x, y, interpolate, defined, ...stroke, ...ends } },
    })
    // A line of one point has no length.
    if (drawn.filter((point) => point !== undefined).length === 1) {
      marks.push({
        type: 'symbol',
        name: `only-point-of-${data}`,
        ...shared,
        encode: { enter: { x, y, size: { value: 24 }, fill: { value: color } } },
      })
    }
  }
  if (hasInterval && (kind === 'bars' || kind === 'points')) {
    const offset = kind === 'bars' ? -0.4 * bar.room + (bar.index + 0.5) * ((0.8 * bar.room) / bar.count) : 0
    const enter = { x: { ...x, offset }, y: { scale: 'y', field: 'low' }, y2: { scale: 'y', field: 'high' } }
    const stroke = { value: kind === 'bars' ? 'var(--ink)' : color }
    marks.push({
      type: 'rule',
      name: `interval-of-${data}`,
      ...shared,
      encode: { enter: { ...enter, stroke, strokeWidth: { value: 1.4 } } },
    })
  }
  return marks as Mark[]
}

/** Names beside the last points of the lines, pushed apart until none covers another. */
function endLabels(
  series: readonly FigureSeries[],
  drawn: readonly (readonly (Point | undefined)[])[],
  colour: (i: number) => string,
  yAt: (value: number) => number,
  x: number,
  [top, bottom]: Domain,
): Mark[] {
  const labels = series
    .flatMap(({ name }, i) => {
      const last = drawn[i]!.findLast((point) => point !== undefined)
      return name === '' || !last ? [] : [{ name, i, y: yAt(last.y) }]
    })
    .sort((a, b) => a.y - b.y)
  for (let i = 0; i < labels.length; i++) {
    labels[i]!.y = Math.max(labels[i]!.y, i === 0 ? top : labels[i - 1]!.y + LABEL_HEIGHT)
  }
  for (let i = labels.length - 1; i >= 0; i--) {
    labels[i]!.y = Math.min(labels[i]!.y, i === labels.length - 1 ? bottom : labels[i + 1]!.y - LABEL_HEIGHT)
  }
  return labels.map(({ name, i, y }) => {
    const words = name.length > 28 ? `${name.slice(0, 27)}…` : name
    return text(words, x, y, { baseline: 'middle', fill: colour(i), fontSize: 12, fontWeight: 600 })
  })
}

/** The smallest distance between neighbouring x: the room of a group of bars. */
function barSpace(drawn: readonly (readonly (Point | undefined)[])[]): number {
  const xs = [...new Set(drawn.flat().flatMap((point) => (point ? [point.x] : [])))].sort((a, b) => a - b)
  const steps = xs.slice(1).map((x, i) => x - xs[i]!)
  return steps.reduce((a, b) => Math.min(a, b), Number.POSITIVE_INFINITY) === Number.POSITIVE_INFINITY
    ? 1
    : Math.min(...steps)
}
