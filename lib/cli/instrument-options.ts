// What the instruments' commands have in common: whose network, which images, where the results go.
import { basename, dirname, isAbsolute, relative, resolve } from 'node:path'
import type { z } from 'zod'
import { device, integer, text } from '../options.ts'
import { type Instrument, writeInstrument } from '../report/instrument-file.ts'
import { writeReport } from '../report/report.ts'
import { NOT_HELD_OUT } from './held-out-images.ts'
import { MODEL_SHAPE } from './model-options.ts'
import { IMAGES_SHAPE, type SamplingNetwork, SOURCE_SHAPE } from './network-for-sampling.ts'
import { kebab } from './options.ts'
import { RUNTIME_SHAPE } from './runtime-options.ts'

const about = <T extends z.ZodType>(description: string, schema: T): T => schema.meta({ description }) as T

/** Options of every instrument. */
export const INSTRUMENT_SHAPE = {
  ...SOURCE_SHAPE,
  ...IMAGES_SHAPE,
  seed: about('keys images, noise and draws', integer(0).default(1)),
  name: about('of the files; the instrument and the checkpoint by default', text().optional()),
  out: about(
    'folder in which instruments/NAME.json, its plots and the page report.html are written; the run’s, that of a checkpoint which lies in no run, or . for a file of weights',
    text().optional(),
  ),
  device: about('cpu, cuda or cuda:N', device().default('cpu')),
  ...RUNTIME_SHAPE,
  ...MODEL_SHAPE,
} satisfies Record<string, z.ZodType>

/** Writes what an instrument found where the options say, and that folder's page; prints its summary, tables and paths. */
export async function printInstrument(
  instrument: Instrument,
  options: InstrumentPlace & { readonly name?: string | undefined },
  network: SamplingNetwork,
  isHeldOut: boolean,
): Promise<void> {
  const name = options.name ?? `${instrument.kind}-${network.name}`
  const summary = [...(instrument.summary ?? []), ...(isHeldOut ? [] : [NOT_HELD_OUT])]
  const folder = instrumentFolder(options)
  const files = await writeInstrument(folder, { ...instrument, summary, name })
  const page = await writeReport([folder])
  for (const sentence of summary) console.log(sentence)
  for (const { title, columns, rows } of instrument.tables ?? []) {
    console.log(`\n${title}\n${alignedTable([columns, ...rows])}`)
  }
  console.log(`\n${files[0]}\n${files.length - 1} pictures beside it\n${page}`)
}

/** Options that say where an instrument writes. */
export interface InstrumentPlace {
  readonly run?: string | undefined
  readonly checkpoint?: string | undefined
  readonly out?: string | undefined
}

/** The folder in which an instrument writes: `--out`, the run's, or where a checkpoint belongs. */
export function instrumentFolder({ out, run, checkpoint }: InstrumentPlace): string {
  return out ?? run ?? (checkpoint === undefined ? '.' : folderOfCheckpoint(checkpoint))
}

/** The run of a checkpoint, `<run>/checkpoints/step-...`; of one that lies elsewhere, such as a copy, the folder that it lies in. */
export function folderOfCheckpoint(checkpoint: string): string {
  const parent = dirname(resolve(checkpoint))
  const folder = basename(parent) === 'checkpoints' ? dirname(parent) : parent
  return isAbsolute(checkpoint) ? folder : relative('.', folder) || '.'
}

/** The command line in words, for the record: what was given, in the order of the options. */
export function commandOf(call: string, given: Record<string, unknown>): string {
  const words = Object.entries(given).flatMap(([key, value]) => {
    if (typeof value === 'boolean') return [value ? `--${kebab(key)}` : `--no-${kebab(key)}`]
    return [`--${kebab(key)}`, Array.isArray(value) ? value.join(',') : String(value)]
  })
  return [call, ...words].join(' ')
}

/** Rows in columns as wide as their longest word. */
function alignedTable(rows: readonly (readonly (string | number | null)[])[]): string {
  const words = rows.map((row) => row.map((cell) => (cell === null ? '' : String(cell))))
  const widths = words[0]!.map((_, j) => Math.max(...words.map((row) => row[j]?.length ?? 0)))
  return words
    .map((row) => `  ${row.map((word, j) => word.padEnd(widths[j]!)).join('  ')}`.trimEnd())
    .join('\n')
}
