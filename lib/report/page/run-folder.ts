// What a run's folder holds, read while the run may be writing it: whatever is not there, or not whole, is left out.
import type { FileHandle } from 'node:fs/promises'
import { open, readdir, readFile } from 'node:fs/promises'
import { basename, join, resolve } from 'node:path'
import { isObject } from '../../check.ts'
import type { Head } from '../../prediction/heads.ts'
import type { Figure } from '../figure/figure.ts'
import type { RunRow } from '../run-plots.ts'

/** A JSON object of unknown origin. */
export type Fields = Readonly<Record<string, unknown>>

/** A line of stats.jsonl, as far as the page reads it. */
export interface Row extends RunRow {
  readonly imagesSeen?: number
  readonly lr?: number
  /** The open slots. */
  readonly slot?: readonly number[]
  /** Where slots that change in training are cut. */
  readonly slotEdges?: readonly number[]
  /** Losses in parts of equal width of the timesteps; see `LossByBin` of training. */
  readonly byBin?: {
    readonly count: readonly number[]
    readonly loss: readonly (number | null)[]
    readonly perHead?: Readonly<Partial<Record<Head, readonly (number | null)[]>>>
    readonly chosen?: Readonly<Partial<Record<Head, readonly number[]>>>
  }
}

/** A grid of samples of one step: previews/step-NNNNNNNN-WEIGHTS.png. */
export interface PreviewFile {
  readonly step: number
  /** `raw`, `ema`. */
  readonly weights: string
  readonly file: string
}

/** instruments/NAME.json. */
export interface InstrumentPage {
  readonly name: string
  readonly title: string
  readonly command?: string
  readonly summary: readonly string[]
  readonly plots: readonly Figure[]
  readonly tables: readonly Table[]
}

/** A table of an instrument. */
export interface Table {
  readonly title: string
  readonly columns: readonly string[]
  readonly rows: readonly (readonly (string | number | null)[])[]
}

/** A run's folder. */
export interface RunFolder {
  readonly folder: string
  readonly name: string
  readonly config: Fields
  readonly rows: readonly Row[]
  readonly timing: readonly Fields[]
  readonly previews: readonly PreviewFile[]
  readonly instruments: readonly InstrumentPage[]
  /** Lines of heads.jsonl, which head policies write. */
  readonly heads: readonly Fields[]
  /** Lines of held-out-heads.jsonl. */
  readonly heldOutHeads: readonly Fields[]
  /** Lines of gradients.jsonl. */
  readonly gradients: readonly Fields[]
  /** From the newest checkpoint. */
  readonly parameterCount?: number
  readonly image?: { readonly channels: number; readonly height: number; readonly width: number }
}

/** Reads a run's folder; a folder that does not exist yet is one with nothing in it. */
export async function readRunFolder(folder: string): Promise<RunFolder> {
  const [config, rows, timing, heads, heldOutHeads, gradients, previews, instruments, checkpoint] =
    await Promise.all([
      readJson(join(folder, 'config.json')),
      readLines(join(folder, 'stats.jsonl')),
      readLines(join(folder, 'timing.jsonl')),
      readLines(join(folder, 'heads.jsonl')),
      readLines(join(folder, 'held-out-heads.jsonl')),
      readLines(join(folder, 'gradients.jsonl')),
      findPreviews(join(folder, 'previews')),
      readInstruments(join(folder, 'instruments')),
      readNewestCheckpoint(join(folder, 'checkpoints')),
    ])
  return {
    ...{ folder, name: basename(resolve(folder)), config: isFields(config) ? config : {} },
    ...{
      rows: rows as unknown as Row[],
      timing,
      heads,
      heldOutHeads,
      gradients,
      previews,
      instruments,
      ...checkpoint,
    },
  }
}

/** A JSON file; undefined when it is missing or half written. */
export async function readJson(file: string): Promise<unknown> {
  const text = await readFile(file, 'utf8').catch(() => undefined)
  return text === undefined ? undefined : parsed(text)
}

/** Whether a value is a JSON object. */
export function isFields(value: unknown): value is Fields {
  return isObject(value)
}

/** JSON lines with a step; a line that is not whole is left out. */
async function readLines(file: string): Promise<Fields[]> {
  const text = await readFile(file, 'utf8').catch(() => '')
  return text
    .split('\n')
    .map(parsed)
    .filter(isFields)
    .filter(({ step }) => Number.isFinite(step))
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}

async function names(folder: string): Promise<string[]> {
  return (await readdir(folder).catch(() => [])).sort()
}

async function findPreviews(folder: string): Promise<PreviewFile[]> {
  return (await names(folder)).flatMap((name) => {
    const match = /^step-(\d+)-(.+)\.png$/.exec(name)
    return match ? [{ step: Number(match[1]), weights: match[2]!, file: join(folder, name) }] : []
  })
}

async function readInstruments(folder: string): Promise<InstrumentPage[]> {
  const files = (await names(folder)).filter((name) => name.endsWith('.json'))
  const values = await Promise.all(files.map((name) => readJson(join(folder, name))))
  return files.flatMap((file, i) => instrumentPage(file.slice(0, -'.json'.length), values[i]) ?? [])
}

/** What a file with an instrument's fields has to show; undefined when that is nothing. */
export function instrumentPage(name: string, value: unknown): InstrumentPage | undefined {
  if (!isFields(value)) return undefined
  const list = (of: unknown): unknown[] => (Array.isArray(of) ? of : [])
  const page = {
    name,
    title: typeof value.title === 'string' ? value.title : name,
    ...(typeof value.command === 'string' && { command: value.command }),
    summary: list(value.summary).map(String),
    plots: list(value.plots).filter(isFigure),
    tables: list(value.tables).filter(isTable),
  }
  return page.summary.length + page.plots.length + page.tables.length === 0 ? undefined : page
}

function isTable(value: unknown): value is Table {
  return (
    isFields(value) &&
    Array.isArray(value.columns) &&
    Array.isArray(value.rows) &&
    value.rows.every(Array.isArray)
  )
}

function isFigure(value: unknown): value is Figure {
  if (!isFields(value)) return false
  if (typeof value.title !== 'string') return false
  if (value.kind === 'heatmap')
    return Array.isArray(value.rows) && Array.isArray(value.columns) && Array.isArray(value.values)
  const { x, y, series } = value
  const isSeries = (one: unknown) => isFields(one) && Array.isArray(one.x) && Array.isArray(one.y)
  return isFields(x) && isFields(y) && Array.isArray(series) && series.every(isSeries)
}

async function readNewestCheckpoint(folder: string): Promise<Pick<RunFolder, 'parameterCount' | 'image'>> {
  const newest = (await names(folder)).findLast((name) => /^step-\d+$/.test(name))
  if (newest === undefined) return {}
  const state = await readJson(join(folder, newest, 'state.json'))
  const extra = isFields(state) && isFields(state.extra) ? state.extra : {}
  const image = isFields(extra.images)
    ? (extra.images as unknown as NonNullable<RunFolder['image']>)
    : undefined
  const parameterCount = await countParameters(join(folder, newest, 'model.safetensors'))
  return { ...(image && { image }), ...(parameterCount !== undefined && { parameterCount }) }
}

/** The weights that a safetensors file says in its header: eight bytes of length, then JSON with shapes. */
async function countParameters(file: string): Promise<number | undefined> {
  let handle: FileHandle | undefined
  try {
    handle = await open(file, 'r')
    const { buffer: length } = await handle.read(Buffer.alloc(8), 0, 8, 0)
    const size = Number(length.readBigUInt64LE())
    if (size > 2 ** 24) return undefined
    const { buffer } = await handle.read(Buffer.alloc(size), 0, size, 8)
    const tensors = Object.values(JSON.parse(buffer.toString('utf8')) as Fields).filter(isFields)
    const sizes = tensors.map(({ shape }) => (Array.isArray(shape) ? shape.reduce((a, b) => a * b, 1) : 0))
    return sizes.reduce((a, b) => a + b, 0)
  } catch {
    return undefined
  } finally {
    await handle?.close()
  }
}
