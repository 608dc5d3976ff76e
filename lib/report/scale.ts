import { argumentError } from '../check.ts'
import { linearTicks, logTicks, type Tick } from './figure/ticks.ts'

/** An axis of a plot. Without limits it fits the data. */
export interface Axis {
  readonly label: string
  /** Shown in brackets after the label. */
  readonly unit?: string
  readonly scale?: 'linear' | 'log'
  readonly min?: number
  readonly max?: number
}

/** Maps data to pixels along one axis. */
export interface Scale {
  readonly at: (value: number) => number
  readonly ticks: Tick[]
  readonly shows: (value: number) => boolean
}

/**
 * Fits a scale to the data of all series.
 *
 * @param space - data units to leave at both ends, `zero` to start at zero, or `room` for a little of both
 */
export function makeScale(
  name: 'x' | 'y',
  axis: Axis,
  data: readonly ArrayLike<number>[],
  [from, to]: [number, number],
  space: number | 'zero' | 'room',
  tickCount: number,
): Scale {
  const isLog = axis.scale === 'log'
  let min = axis.min ?? Number.POSITIVE_INFINITY
  let max = axis.max ?? Number.NEGATIVE_INFINITY
  for (const values of data) {
    for (let i = 0; i < values.length; i++) {
      const value = values[i]!
      if (!Number.isFinite(value) || (isLog && value <= 0)) continue
      if (axis.min === undefined && value < min) min = value
      if (axis.max === undefined && value > max) max = value
    }
  }
  if (!(min <= max) || (isLog && !(min > 0))) {
    const what = `a series with at least one finite${isLog ? ', positive' : ''} ${name} value`
    throw argumentError('plotSvg', 'series', what, [min, max])
  }
  if (typeof space === 'number') {
    min -= space
    max += space
  } else if (isLog) {
    if (axis.min === undefined) min /= 1.15
    if (axis.max === undefined) max *= 1.15
  } else {
    const room = (max - min) * 0.06
    if (axis.max === undefined) max += room
    if (axis.min === undefined)
      min = space === 'zero' ? Math.min(0, min) : min >= 0 ? Math.max(0, min - room) : min - room
  }
  if (min === max) {
    max = isLog ? max * 2 : max + (Math.abs(max) || 1) / 2
    min = isLog ? min / 2 : min - (Math.abs(min) || 1) / 2
  }
  const place = isLog ? Math.log : (value: number) => value
  const [low, high] = [place(min), place(max)]
  return {
    at: (value) => from + ((place(value) - low) / (high - low)) * (to - from),
    ticks: isLog ? logTicks(min, max) : linearTicks(min, max, Math.max(2, tickCount)),
    shows: (value) => Number.isFinite(value) && (!isLog || value > 0),
  }
}
