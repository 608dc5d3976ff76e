import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { argumentError } from '../check.ts'
import { makeFolder } from '../folder.ts'
import { ALL_HEADS, type Head } from '../prediction/heads.ts'
import { pictureSvg } from './figure/picture.ts'
import {
  choiceFigure,
  gradientNormFigure,
  HEAD_COLOUR,
  headErrorsFigure,
  lossFigure,
} from './page/run-figures.ts'
import { type Band, plotSvg } from './plot.ts'

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
export async function timestepLossPlot({
  perHead,
  t,
  slots,
  tScale = 'linear',
  title,
  subtitle,
}: TimestepLoss): Promise<string> {
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
    series: heads.map((head) => ({ name: head, x, y: Array.from(perHead[head]!), color: HEAD_COLOUR[head] })),
    ...(bands && { bands }),
  })
}

/** Terms of the bits per dimension at each visited timestep, on log axes. */
export async function boundPlot(terms: {
  readonly t: ArrayLike<number>
  readonly bound: ArrayLike<number>
  readonly xStartMse: ArrayLike<number>
  readonly epsMse: ArrayLike<number>
  readonly subtitle?: string
}): Promise<string> {
  const x = Array.from(terms.t, (t) => t + 1)
  return plotSvg({
    title: 'Terms of the bits per dimension',
    subtitle: terms.subtitle ?? '',
    x: { label: 'timestep t + 1', unit: '1 = least noise', scale: 'log' },
    y: { label: 'term', unit: 'mean over images', scale: 'log' },
    series: [
      { name: 'bound (bits per dimension)', x, y: Array.from(terms.bound) },
      { name: 'error of xStart', x, y: Array.from(terms.xStartMse) },
      { name: 'error of eps', x, y: Array.from(terms.epsMse) },
    ],
  })
}

/**
 * Writes the plots that the rows have data for (`loss.svg`, `grad-norm.svg`, `heads.svg`, `chosen.svg`) into a folder; they are
 * figures of the run's page.
 *
 * @returns the paths
 */
export async function writeRunPlots(
  folder: string,
  rows: readonly RunRow[],
  title?: string,
): Promise<string[]> {
  if (!Array.isArray(rows) || rows.length === 0)
    throw argumentError('writeRunPlots', 'rows', 'at least one row of a run', rows)
  const figures = {
    loss: lossFigure(rows),
    'grad-norm': gradientNormFigure(rows),
    heads: headErrorsFigure(rows),
    chosen: choiceFigure(rows),
  }
  await makeFolder(folder)
  const files: string[] = []
  for (const [name, figure] of Object.entries(figures)) {
    if (!figure) continue
    const svg = await pictureSvg(title ? { ...figure, title: `${figure.title}: ${title}` } : figure)
    if (svg === undefined) continue
    const file = join(folder, `${name}.svg`)
    await writeFile(file, svg)
    files.push(file)
  }
  return files
}
