// The marks of a line figure.
import type { Mark } from 'vega'
import { type Band, type FigureSeries, seriesColour, seriesPen } from './figure.ts'
import type { Point } from './points.ts'

/** Pixels of a letter at 12 px, generously. */
export const CHARACTER = 7.3

const LABEL_HEIGHT = 15

type Pair = readonly [number, number]

/** Dashes and gaps of each pen, in pixels. */
export const DASHES = { solid: [], dashed: [7, 4], dotted: [2, 3] } as const

/** What every text of a drawing shares; several words are lines below each other. */
export function text(
  words: string | readonly string[],
  x: number,
  y: number,
  look: Record<string, string | number>,
): Mark {
  const values = Object.fromEntries(Object.entries(look).map(([key, value]) => [key, { value }]))
  return {
    type: 'text',
    encode: { enter: { text: { value: words }, x: { value: x }, y: { value: y }, ...values } },
  } as Mark
}

/** Stripes behind the data, with their names where these fit. */
export function bandMarks(
  bands: readonly Band[],
  xAt: (value: number) => number,
  [left, right]: Pair,
  [top, bottom]: Pair,
): Mark[] {
  const inside = (value: number) => Math.min(right, Math.max(left, xAt(value)))
  return bands.flatMap(({ begin, end, label = '' }, i) => {
    const [from, to] = [inside(begin), inside(end)]
    if (!(to > from)) return []
    const enter = { x: { value: from }, x2: { value: to }, y: { value: top }, y2: { value: bottom } }
    const stripe = {
      type: 'rect',
      name: `band-${i}`,
      encode: { enter: { ...enter, fill: { value: i % 2 ? 'none' : 'var(--stripe)' } } },
    }
    const fits = label !== '' && to - from > label.length * CHARACTER
    const look = { align: 'center', fill: 'var(--muted)', fontSize: 11 }
    return [stripe as Mark, ...(fits ? [text(label, (from + to) / 2, top - 4, look)] : [])]
  })
}

/** What a series is drawn as: a line of one point has no length. */
function drawnAs(
  { kind = 'line' }: FigureSeries,
  drawn: readonly (Point | undefined)[],
): 'line' | 'points' | 'bars' {
  if (kind === 'bars' || kind === 'points') return kind
  return drawn.filter((point) => point !== undefined).length === 1 ? 'points' : 'line'
}

/** The points of a series for its marks; those of a line keep the gaps that interrupt it. */
export function seriesData(one: FigureSeries, name: string, drawn: readonly (Point | undefined)[]) {
  const isLine = drawnAs(one, drawn) === 'line'
  const values = isLine
    ? drawn.map((point) => point ?? { gap: true })
    : drawn.filter((point) => point !== undefined)
  return { name: `points-of-${name}`, values }
}

/**
 * The marks of a series, named `name`, with its interval, named `interval-of-NAME`.
 *
 * @param bar - where bars begin, and the place of these among the series that are bars, in pixels
 */
export function seriesMarks(
  one: FigureSeries,
  name: string,
  index: number | string,
  drawn: readonly (Point | undefined)[],
  bar: { readonly base: number; readonly index: number; readonly count: number; readonly room: number },
): Mark[] {
  const { kind = 'line', low, high, opacity = 1 } = one
  const as = drawnAs(one, drawn)
  const color = seriesColour(index)
  const dash = DASHES[seriesPen(index)]
  const x = { scale: 'x', field: 'x' }
  const y = { scale: 'y', field: 'y' }
  const bounds = { y: { scale: 'y', field: 'low' }, y2: { scale: 'y', field: 'high' } }
  const hasInterval =
    low !== undefined && high !== undefined && drawn.some((point) => point?.low !== undefined)
  const interpolate = { value: kind === 'steps' ? 'step-after' : 'linear' }
  const fill = { fill: { value: color }, fillOpacity: { value: opacity } }
  const mark = (type: string, own: string, enter: object) =>
    ({
      type,
      name: own,
      description: one.name,
      from: { data: `points-of-${name}` },
      encode: { enter },
    }) as Mark
  const width = (0.8 * bar.room) / bar.count
  const offset = as === 'bars' ? -0.4 * bar.room + bar.index * width : 0

  if (as === 'line') {
    const stroke = {
      stroke: { value: color },
      strokeOpacity: { value: opacity },
      ...(dash.length > 0 && { strokeDash: { value: dash } }),
    }
    const pen = {
      strokeWidth: { value: opacity < 0.5 ? 1 : 1.9 },
      strokeJoin: { value: 'round' },
      strokeCap: { value: 'round' },
    }
    const shade = { fill: { value: color }, fillOpacity: { value: 0.16 } }
    const isWhole = { signal: 'isValid(datum.low) && isValid(datum.high)' }
    return [
      ...(hasInterval
        ? [mark('area', `interval-of-${name}`, { x, ...bounds, interpolate, defined: isWhole, ...shade })]
        : []),
      mark('line', name, { x, y, interpolate, defined: { signal: '!datum.gap' }, ...stroke, ...pen }),
    ]
  }
  const drawing =
    as === 'bars'
      ? mark('rect', name, {
          x: { ...x, offset },
          width: { value: Math.max(0.5, width - 1) },
          y,
          y2: { scale: 'y', value: bar.base },
          ...fill,
        })
      : mark('symbol', name, { x, y, size: { value: 30 }, ...fill })
  if (!hasInterval) return [drawing]
  const middle = as === 'bars' ? { ...x, offset: offset + width / 2 } : x
  const whisker = { stroke: { value: as === 'bars' ? 'var(--ink)' : color }, strokeWidth: { value: 1.4 } }
  return [drawing, mark('rule', `interval-of-${name}`, { x: middle, ...bounds, ...whisker })]
}

/** Names beside the right ends of the lines, pushed apart until none covers another. */
export function endLabels(
  series: readonly FigureSeries[],
  drawn: readonly (readonly (Point | undefined)[])[],
  colour: (i: number) => string,
  yAt: (value: number) => number,
  x: number,
  [top, bottom]: Pair,
): Mark[] {
  const labels = series
    .flatMap(({ name }, i) => {
      const shown = drawn[i]!.filter((point) => point !== undefined)
      const last = shown.length > 0 && shown.reduce((a, b) => (b.x >= a.x ? b : a))
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
    return text(name, x, y, { baseline: 'middle', fill: colour(i), fontSize: 12, fontWeight: 600 })
  })
}
