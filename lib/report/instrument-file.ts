// What an instrument writes: numbers as JSON, and each plot as a picture beside them.
import { readdir, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { argumentError } from '../check.ts'
import { makeFolder } from '../folder.ts'
import { sourceVersion } from '../setup/paths.ts'
import type { JsonValue } from '../timesteps/sampler.ts'
import type { Figure } from './figure/figure.ts'
import { writePlot } from './plot.ts'

export type {
  Figure as PlotSpec,
  FigureAxis as PlotAxis,
  FigureSeries as PlotSeries,
  HeatmapFigure as HeatmapPlot,
  LineFigure as LinePlot,
} from './figure/figure.ts'

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
  readonly plots: readonly Figure[]
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
 * missing, and none of a plot without anything to draw); those of an earlier one of that name are replaced.
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
    files.push(...(await writePlot(join(target, `${name}-${k + 1}`), plot)))
  }
  return files
}
