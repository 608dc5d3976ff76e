import type { FigureSeries } from './figure.ts'

/** A point that can be drawn. */
export interface Point {
  readonly x: number
  readonly y: number
  readonly low?: number
  readonly high?: number
}

const MOST_POINTS = 800

/** The points of a series; undefined interrupts a line. Of very many, the lowest and highest of each piece, so that peaks stay. */
export function points(series: FigureSeries, xIsLog: boolean, yIsLog: boolean): (Point | undefined)[] {
  const { x, y, low, high } = series
  const isShown = (value: number | null | undefined, isLog: boolean): value is number =>
    typeof value === 'number' && Number.isFinite(value) && (!isLog || value > 0)
  const all = Array.from({ length: Math.min(x.length, y.length) }, (_, i): Point | undefined => {
    const [a, b] = [x[i], y[i]]
    if (!isShown(a, xIsLog) || !isShown(b, yIsLog)) return undefined
    const [from, to] = [low?.[i], high?.[i]]
    // Zero is infinitely far on a log axis: an interval goes down to a quarter of its value, at most.
    const bottom = yIsLog && typeof from === 'number' ? Math.max(from, b / 4) : from
    const hasInterval = isShown(bottom, yIsLog) && isShown(to, yIsLog)
    return { x: a, y: b, ...(hasInterval && { low: bottom, high: to }) }
  })
  return all.length <= MOST_POINTS ? all : thinned(all)
}

function thinned(all: readonly (Point | undefined)[]): (Point | undefined)[] {
  const pieces = MOST_POINTS / 2
  return Array.from({ length: pieces }, (_, piece) => {
    const begin = Math.floor((piece * all.length) / pieces)
    const part = all.slice(begin, Math.floor(((piece + 1) * all.length) / pieces))
    const shown = part.filter((point) => point !== undefined)
    if (shown.length === 0) return [undefined]
    const lowest = shown.reduce((a, b) => (b.y < a.y ? b : a))
    const highest = shown.reduce((a, b) => (b.y > a.y ? b : a))
    return lowest.x <= highest.x ? [lowest, highest] : [highest, lowest]
  }).flat()
}
