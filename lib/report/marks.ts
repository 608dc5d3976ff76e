import { extent } from '../statistics/extent.ts'
import type { Tick } from './figure/ticks.ts'
import type { Scale } from './scale.ts'

/** Points of one name and colour; points that are not finite (or not positive on a log axis) interrupt a line. */
export interface Series {
  /** Shown in the legend; an empty name is left out of it. */
  readonly name: string
  readonly x: ArrayLike<number>
  readonly y: ArrayLike<number>
  readonly kind?: 'line' | 'scatter' | 'bar'
  /** Any SVG colour. Default: the next of a palette that colour-blind readers can tell apart. */
  readonly color?: string
  /** 0 to 1. Default 1. */
  readonly opacity?: number
}

/** A series whose colour is settled; with dashes where the palette begins again. */
export type ColouredSeries = Series & { readonly color: string; readonly dash?: string }

const MAXIMUM_POINTS = 2000

/** A line or points as SVG. */
export function draw(series: ColouredSeries, x: Scale, y: Scale): string {
  const { kind = 'line', color, opacity = 1, dash } = series
  const points = visiblePoints(series, x, y)
  if (kind === 'scatter') {
    const dots = points.flatMap((p) => (p ? [`<circle cx="${px(p[0])}" cy="${px(p[1])}" r="2.6"/>`] : []))
    return `<g fill="${color}" fill-opacity="${opacity}">${dots.join('')}</g>`
  }
  let path = ''
  let isOpen = false
  for (const p of points) {
    if (p) path += `${isOpen ? 'L' : 'M'}${px(p[0])} ${px(p[1])}`
    isOpen = p !== undefined
  }
  const width = opacity < 1 ? 1.2 : 2.2
  return `<path d="${path}" fill="none" stroke="${color}" stroke-width="${width}" stroke-opacity="${opacity}" stroke-linejoin="round" stroke-linecap="${dash ? 'butt' : 'round'}"${dash ? ` stroke-dasharray="${dash}"` : ''}/>`
}

/** Bars from the baseline (a pixel row); those of several series stand side by side. */
export function drawBars(
  series: ColouredSeries,
  x: Scale,
  y: Scale,
  baseline: number,
  place: number,
  count: number,
): string {
  const room = 0.8 * smallestStep(Array.from(series.x)) * Math.abs(x.at(1) - x.at(0))
  const width = Math.max(1, room / count)
  const bars = Array.from(series.x, (value, i) => {
    if (!y.shows(series.y[i]!)) return ''
    const left = x.at(value) - room / 2 + place * width
    const end = y.at(series.y[i]!)
    return `<rect x="${px(left)}" y="${px(Math.min(end, baseline))}" width="${px(width)}" height="${px(Math.abs(baseline - end))}"/>`
  })
  return `<g fill="${series.color}" fill-opacity="${series.opacity ?? 1}">${bars.join('')}</g>`
}

/** With few bars, a mark under each. */
export function barTicks(series: readonly Series[]): Tick[] | undefined {
  const xs = [...new Set(series.flatMap((s) => Array.from(s.x)))]
  return xs.length <= 12 ? xs.map((value) => ({ value, text: String(value) })) : undefined
}

/** Pixels of the points; of very many, the lowest and highest of each piece, so that peaks stay. */
function visiblePoints(series: Series, x: Scale, y: Scale): ([number, number] | undefined)[] {
  const count = Math.min(series.x.length, series.y.length)
  const pixel = (i: number): [number, number] | undefined => {
    const [a, b] = [series.x[i]!, series.y[i]!]
    return x.shows(a) && y.shows(b) ? [x.at(a), y.at(b)] : undefined
  }
  if (count <= MAXIMUM_POINTS) return Array.from({ length: count }, (_, i) => pixel(i))
  const pieces = MAXIMUM_POINTS / 2
  const points: ([number, number] | undefined)[] = []
  for (let piece = 0; piece < pieces; piece++) {
    const begin = Math.floor((piece * count) / pieces)
    const end = Math.floor(((piece + 1) * count) / pieces)
    let lowest = begin
    let highest = begin
    for (let i = begin; i < end; i++) {
      if (!y.shows(series.y[i]!)) continue
      if (!y.shows(series.y[lowest]!) || series.y[i]! < series.y[lowest]!) lowest = i
      if (!y.shows(series.y[highest]!) || series.y[i]! > series.y[highest]!) highest = i
    }
    points.push(pixel(Math.min(lowest, highest)))
    if (lowest !== highest) points.push(pixel(Math.max(lowest, highest)))
  }
  return points
}

/** The smallest distance between different neighbours, the room of a group of bars; 1 of less than two. */
export function smallestStep(places: readonly number[]): number {
  const xs = [...new Set(places)].sort((a, b) => a - b)
  const [least] = extent(xs.slice(1).map((x, i) => x - xs[i]!))
  return xs.length > 1 ? least : 1
}

/** A coordinate, to a tenth of a pixel. */
export function px(value: number): string {
  return String(Math.round(value * 10) / 10)
}
