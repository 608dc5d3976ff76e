import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { gunzipSync, gzipSync } from 'node:zlib'
import { DataError } from '../errors.ts'
import { makeFolder, writeDurably } from '../folder.ts'
import { type CellResult, finishedCell, parseNumbers, RESULT, readFinishedCell } from './cell.ts'
import { type CellFailure, importFailure, isDiverged, isFailure } from './failures.ts'
import { cellFolder, type Study } from './study-file.ts'

/**
 * Writes results of finished cells, and of others that their loss was not finite (a disk that was full, or a signal, says nothing of
 * them elsewhere), one JSON object a line, compressed where the name ends in .gz: what another
 * machine needs to count them without their runs.
 */
export async function exportCells(
  file: string,
  results: readonly CellResult[],
  failures: readonly CellFailure[] = [],
): Promise<void> {
  const text = [...results, ...failures.filter(isDiverged)]
    .map((cell) => `${JSON.stringify(cell)}\n`)
    .join('')
  await writeDurably(file, file.endsWith('.gz') ? gzipSync(text, { level: 9 }) : text)
}

/** How many cells were taken from a file, and why the others were not. */
export interface ImportedCells {
  readonly taken: number
  /** The study's folder has a result of this cell that counts. */
  readonly present: number
  /** The study has no such cell, or other options or another evaluation for it. */
  readonly foreign: number
}

/**
 * Puts results that `exportCells` wrote into the folder of a study, as results of its cells. No result that counts is replaced;
 * one of other settings is.
 *
 * @throws DataError for a file that is not of such lines
 */
export async function importCells(file: string, study: Study): Promise<ImportedCells> {
  const count = { taken: 0, present: 0, foreign: 0 }
  for (const result of await readCells(file)) {
    const arm = study.arms.find(({ name }) => name === result.arm)
    if ('message' in result) {
      if (arm && study.seeds.includes(result.seed) && isDiverged(result))
        await importFailure(study, arm, result)
      continue
    }
    if (!arm || !study.seeds.includes(result.seed) || !finishedCell(arm, result.seed, result)) {
      count.foreign++
    } else if (await readFinishedCell(study, arm, result.seed)) count.present++
    else {
      const folder = cellFolder(study.out, arm.name, result.seed)
      await makeFolder(folder)
      await writeDurably(join(folder, RESULT), `${JSON.stringify(result, undefined, 1)}\n`)
      count.taken++
    }
  }
  return count
}

async function readCells(file: string): Promise<(CellResult | CellFailure)[]> {
  try {
    const bytes = await readFile(file)
    const text = (file.endsWith('.gz') ? gunzipSync(bytes) : bytes).toString('utf8')
    return text.split('\n').flatMap((line, i) => (line === '' ? [] : [cellOf(line, i + 1)]))
  } catch (cause) {
    const why = (cause as Error).message
    const message = `importCells: expected ${file} to be results of cells, one a line, got ${why}`
    throw new DataError(message, file, { cause })
  }
}

function cellOf(line: string, number: number): CellResult | CellFailure {
  let value: Partial<CellResult & CellFailure> | null
  try {
    value = parseNumbers(line) as typeof value
  } catch {
    throw new Error(`line ${number} that is no JSON`)
  }
  if (isFailure(value)) return value
  const isCell = value?.format === 1 && typeof value.arm === 'string' && Number.isInteger(value.seed)
  if (!isCell || !value?.settings || !value.heldOut) {
    throw new Error(`line ${number} without arm, seed, settings and errors of a cell`)
  }
  return value as CellResult
}
