import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { argumentError } from '../check.ts'
import { makeFolder } from '../folder.ts'
import { ALL_HEADS, type Head } from '../prediction/heads.ts'
import { type Band, plotSvg, type Series } from './plot.ts'

/** What a run writes down about a step; more fields do no harm. */
export interface RunRow {
  readonly step: number
  readonly loss: number
  readonly gradNorm?: number
  /** Mean loss of each head. */
  readonly perHead?: Readonly<Partial<Record<Head, number>>>
  /** Share of examples for which each head was chosen, 0 to 1. */
  readonly chosen?: Readonly<Partial<Record<Head, number>>>
}

const HEAD_COLOURS: Record<Head, string> = {
  xStart: '#0072b2',
  v: '#009e73',
  eps: '#d55e00',
  xPrev: '#cc79a7',
  F: '#e69f00',
}

/** Training loss by step: raw, faint, and smoothed, on a log axis. */
export function lossPlot(rows: readonly RunRow[], title = 'Training loss'): string {
  checkRows('lossPlot', rows)
  return plotSvg({
    title,
    x: { label: 'step', unit: 'optimizer updates' },
    y: { label: 'loss', unit: 'mean squared error', scale: 'log' },
    series: [...rawAndSmooth(rows, (row) => row.loss, 'loss', '#0072b2')],
  })
}

/** Norm of the gradient by step, before clipping. */
export function gradNormPlot(rows: readonly RunRow[], title = 'Gradient norm'): string {
  checkRows('gradNormPlot', rows)
  return plotSvg({
    title,
    x: { label: 'step', unit: 'optimizer updates' },
    y: { label: 'gradient norm', unit: 'L2, before clipping', scale: 'log' },
    series: rawAndSmooth(rows, (row) => row.gradNorm ?? Number.NaN, 'gradient norm', '#555555'),
  })
}

/** Smoothed loss of each head by step. */
export function headLossPlot(rows: readonly RunRow[], title = 'Loss of each head'): string {
  checkRows('headLossPlot', rows)
  return plotSvg({
    title,
    x: { label: 'step', unit: 'optimizer updates' },
    y: { label: 'loss', unit: 'mean squared error', scale: 'log' },
    series: headsIn(rows, 'perHead').map((head) => smoothedSeries(rows, 'perHead', head)),
  })
}

/** How often each head was chosen, smoothed, by step. */
export function chosenPlot(rows: readonly RunRow[], title = 'Which head is chosen'): string {
  checkRows('chosenPlot', rows)
  return plotSvg({
    title,
    x: { label: 'step', unit: 'optimizer updates' },
    y: { label: 'share of examples', min: 0, max: 1 },
    series: headsIn(rows, 'chosen').map((head) => smoothedSeries(rows, 'chosen', head)),
  })
}

/** A loss curve of each head over the timesteps, and the slots that were cut from it. */
export interface TimestepLoss {
  /** Loss at each timestep, [T] for every head present. */
  readonly perHead: Readonly<Partial<Record<Head, ArrayLike<number>>>>
  /** The timesteps, [T]; 0, 1, 2, ... by default. */
  readonly t?: ArrayLike<number>
  readonly slots?: readonly Band[]
  /** `log` spreads the small timesteps, where slots are narrow: the axis is then t + 1. Default `linear`. */
  readonly tScale?: 'linear' | 'log'
  readonly title?: string
  readonly subtitle?: string
}

/** Loss of each head against the timestep, on a log axis, with the slots as stripes. */
export function timestepLossPlot({
  perHead,
  t,
  slots,
  tScale = 'linear',
  title,
  subtitle,
}: TimestepLoss): string {
  const heads = ALL_HEADS.filter((head) => perHead[head])
  if (heads.length === 0)
    throw argumentError('timestepLossPlot', 'perHead', 'curves of at least one head', perHead)
  const count = perHead[heads[0]!]!.length
  const shift = tScale === 'log' ? 1 : 0
  const x = Array.from({ length: count }, (_, i) => (t?.[i] ?? i) + shift)
  const bands = slots?.map(({ begin, end }) => ({ begin: begin + shift, end: end + shift }))
  return plotSvg({
    title: title ?? 'Loss over the timesteps',
    subtitle: subtitle ?? (slots ? `${slots.length} slots of equal cumulative loss (stripes)` : ''),
    x: { label: shift ? 'timestep t + 1' : 'timestep t', unit: `${shift} = least noise`, scale: tScale },
    y: { label: 'loss', unit: 'mean squared error', scale: 'log' },
    series: heads.map((head) => ({ name: head, x, y: perHead[head]!, color: HEAD_COLOURS[head] })),
    ...(bands && { bands }),
  })
}

/** Terms of the bits per dimension at each visited timestep, on log axes. */
export function boundPlot(terms: {
  readonly t: ArrayLike<number>
  readonly bound: ArrayLike<number>
  readonly xStartMse: ArrayLike<number>
  readonly epsMse: ArrayLike<number>
  readonly subtitle?: string
}): string {
  const x = Array.from(terms.t, (t) => t + 1)
  return plotSvg({
    title: 'Terms of the bits per dimension',
    subtitle: terms.subtitle ?? '',
    x: { label: 'timestep t + 1', unit: '1 = least noise', scale: 'log' },
    y: { label: 'term', unit: 'mean over images', scale: 'log' },
    series: [
      { name: 'bound (bits per dimension)', x, y: terms.bound },
      { name: 'error of xStart', x, y: terms.xStartMse },
      { name: 'error of eps', x, y: terms.epsMse },
    ],
  })
}

/**
 * Writes the plots that the rows have data for (`loss.svg`, `grad-norm.svg`, `heads.svg`, `chosen.svg`) into a folder.
 *
 * @returns the paths
 */
export async function writeRunPlots(
  folder: string,
  rows: readonly RunRow[],
  title?: string,
): Promise<string[]> {
  checkRows('writeRunPlots', rows)
  const named = (what: string) => (title ? `${what}: ${title}` : what)
  const plots: [string, string][] = [['loss.svg', lossPlot(rows, named('Training loss'))]]
  if (rows.some((row) => (row.gradNorm ?? 0) > 0)) {
    plots.push(['grad-norm.svg', gradNormPlot(rows, named('Gradient norm'))])
  }
  if (headsIn(rows, 'perHead').length > 0)
    plots.push(['heads.svg', headLossPlot(rows, named('Loss of each head'))])
  if (headsIn(rows, 'chosen').length > 0)
    plots.push(['chosen.svg', chosenPlot(rows, named('Which head is chosen'))])
  await makeFolder(folder)
  const files = plots.map(([name]) => join(folder, name))
  await Promise.all(plots.map(([, svg], i) => writeFile(files[i]!, svg)))
  return files
}

/**
 * A mean of neighbours on both sides whose weights fall exponentially, so that a curve is not shifted; values that are
 * not finite are passed over.
 *
 * @param halfLife - distance, in values, at which a neighbour counts half
 * @returns [values.length]
 */
export function smoothed(values: ArrayLike<number>, halfLife: number): Float64Array {
  const keep = 0.5 ** (1 / halfLife)
  const count = values.length
  const sums = new Float64Array(count)
  const totals = new Float64Array(count)
  for (const direction of [1, -1]) {
    let sum = 0
    let total = 0
    for (let k = 0; k < count; k++) {
      const i = direction === 1 ? k : count - 1 - k
      sums[i]! += keep * sum // what came before, without the value itself
      totals[i]! += keep * total
      const counts = Number.isFinite(values[i])
      sum = keep * sum + (counts ? values[i]! : 0)
      total = keep * total + (counts ? 1 : 0)
    }
  }
  return sums.map((sum, i) => {
    const counts = Number.isFinite(values[i])
    const total = totals[i]! + (counts ? 1 : 0)
    return total === 0 ? Number.NaN : (sum + (counts ? values[i]! : 0)) / total
  })
}

function checkRows(call: string, rows: readonly RunRow[]): void {
  if (!Array.isArray(rows) || rows.length === 0)
    throw argumentError(call, 'rows', 'at least one row of a run', rows)
}

function headsIn(rows: readonly RunRow[], field: 'perHead' | 'chosen'): Head[] {
  return ALL_HEADS.filter((head) => rows.some((row) => Number.isFinite(row[field]?.[head])))
}

function halfLifeOf(rows: readonly RunRow[]): number {
  return Math.max(1, rows.length / 100)
}

function smoothedSeries(rows: readonly RunRow[], field: 'perHead' | 'chosen', head: Head): Series {
  const values = rows.map((row) => row[field]?.[head] ?? Number.NaN)
  return {
    name: head,
    x: rows.map((row) => row.step),
    y: smoothed(values, halfLifeOf(rows)),
    color: HEAD_COLOURS[head],
  }
}

function rawAndSmooth(
  rows: readonly RunRow[],
  of: (row: RunRow) => number,
  name: string,
  color: string,
): Series[] {
  const x = rows.map((row) => row.step)
  const y = rows.map(of)
  return [
    { name: `${name} of each step`, x, y, color, opacity: 0.35 },
    { name: 'smoothed', x, y: smoothed(y, halfLifeOf(rows)), color },
  ]
}
