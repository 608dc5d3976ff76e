// What an instrument writes: numbers as JSON, and each plot as a picture beside them.
import { readdir, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { argumentError } from '../check.ts'
import { makeFolder } from '../folder.ts'
import { sourceVersion } from '../setup/paths.ts'
import type { JsonValue } from '../timesteps/sampler.ts'
import { heatmapSvg } from './heatmap.ts'
import { plotSvg, type Series, writePlot } from './plot.ts'

/** An axis of a `LinePlot`. */
export interface PlotAxis {
  readonly label: string
  /** `linear` by default. */
  readonly scale?: 'linear' | 'log'
}

/** Points of one name. */
export interface PlotSeries {
  readonly name: string
  readonly x: readonly number[]
  readonly y: readonly number[]
  /** Bounds of an interval around each y. */
  readonly low?: readonly number[]
  readonly high?: readonly number[]
  /** `line` by default; `steps` hold their value until the next x. */
  readonly kind?: 'line' | 'points' | 'bars' | 'steps'
}

/** Lines, points or bars over one axis. */
export interface LinePlot {
  readonly title: string
  readonly kind?: undefined
  readonly x: PlotAxis
  readonly y: PlotAxis
  readonly series: readonly PlotSeries[]
  /** Stripes behind the data, half-open. */
  readonly bands?: readonly { readonly begin: number; readonly end: number; readonly label: string }[]
}

/** A matrix of numbers as colours; null is a cell without a value. */
export interface HeatmapPlot {
  readonly title: string
  readonly kind: 'heatmap'
  /** Names of the rows, top to bottom. */
  readonly rows: readonly string[]
  readonly columns: readonly string[]
  /** [rows x columns], row-major. */
  readonly values: readonly (number | null)[]
  /** What the numbers are. */
  readonly label: string
  /** Whether colours part at 0. */
  readonly diverging?: boolean
}

/** A plot of an instrument. */
export type PlotSpec = LinePlot | HeatmapPlot

/** A table of an instrument. */
export interface InstrumentTable {
  readonly title: string
  readonly columns: readonly string[]
  readonly rows: readonly (readonly (string | number | null)[])[]
}

/** What an instrument found, for its JSON file and the page of a run. */
export interface Instrument {
  /** The instrument: probe, interference, replace, ... */
  readonly kind: string
  readonly title: string
  /** The command line that made it. */
  readonly command?: string
  /** Sentences for the reader. */
  readonly summary?: readonly string[]
  readonly plots: readonly PlotSpec[]
  readonly tables?: readonly InstrumentTable[]
  /** Everything that was measured. */
  readonly data: JsonValue
}

/** @internal @throws RangeError for a name that is no file name */
export function checkInstrumentName(call: string, option: string, name: string): void {
  if (/^[\w.-]+$/.test(name) && !name.startsWith('.')) return
  throw argumentError(call, option, 'letters, digits, -, _ and dots', name)
}

/**
 * Writes `<folder>/instruments/<name>.json` with the library's version, and for each plot `<name>-<k>.svg` and `.png` (no PNG where the package sharp is
 * missing); those of an earlier one of that name are replaced.
 *
 * @returns the paths, the JSON first
 * @throws RangeError for a name that is no file name
 */
export async function writeInstrument(
  folder: string,
  { name, ...instrument }: Instrument & { readonly name: string },
): Promise<string[]> {
  checkInstrumentName('writeInstrument', 'name', name)
  const target = join(folder, 'instruments')
  await makeFolder(target)
  for (const file of await readdir(target)) {
    const rest = file.startsWith(`${name}-`) ? file.slice(name.length + 1) : ''
    if (/^\d+\.(svg|png)$/.test(rest)) await rm(join(target, file)) // of an earlier measurement of that name
  }
  const files = [join(target, `${name}.json`)]
  await writeFile(files[0] as string, `${JSON.stringify({ version: sourceVersion(), ...instrument })}\n`)
  for (const [k, plot] of instrument.plots.entries()) {
    const svg = plot.kind === 'heatmap' ? heatmapSvg(plot) : lineSvg(plot)
    files.push(...(await writePlot(join(target, `${name}-${k + 1}`), svg)))
  }
  return files
}

/** A line plot as a standalone SVG; intervals are thin lines, or small points where the data are points. */
export function lineSvg(plot: LinePlot): string {
  const series = plot.series.flatMap((one, i): Series[] => {
    const { name, x, y, low, high, kind = 'line' } = one
    const color = COLOURS[i % COLOURS.length] as string
    const drawn = kind === 'points' ? 'scatter' : kind === 'bars' ? 'bar' : 'line'
    const [xs, ys] = kind === 'steps' ? stairs(x, y) : [x, y]
    const bound = (values: readonly number[] | undefined): Series[] =>
      values && drawn !== 'bar' ? [{ name: '', x, y: values, kind: drawn, color, opacity: 0.35 }] : []
    return [{ name, x: xs, y: ys, kind: drawn, color }, ...bound(low), ...bound(high)]
  })
  const { title, x, y, bands } = plot
  return plotSvg({ title, x, y, series, ...(bands && { bands }) })
}

const COLOURS = ['#0072b2', '#d55e00', '#009e73', '#cc79a7', '#e69f00', '#56b4e9', '#555555']

function stairs(x: readonly number[], y: readonly number[]): [number[], number[]] {
  const [xs, ys]: [number[], number[]] = [[], []]
  for (const [i, value] of y.entries()) {
    xs.push(x[i] as number, x[i + 1] ?? (x[i] as number))
    ys.push(value, value)
  }
  return [xs, ys]
}
