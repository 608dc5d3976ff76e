import { existsSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { gunzipSync, gzipSync } from 'node:zlib'
import { DataError } from '../errors.ts'
import { makeFolder } from '../folder.ts'
import { writeDurably } from '../training/checkpoint.ts'
import { type CellResult, finishedCell, parseNumbers, RESULT } from './cell.ts'
import { cellFolder, type Study } from './study-file.ts'

/**
 * Writes results of finished cells, one JSON object a line, compressed where the name ends in .gz: what another machine needs to
 * count them without their runs.
 */
export async function exportCells(file: string, results: readonly CellResult[]): Promise<void> {
  const text = results.map((result) => `${JSON.stringify(result)}\n`).join('')
  await writeDurably(file, file.endsWith('.gz') ? gzipSync(text, { level: 9 }) : text)
}

/** How many cells were taken from a file, and why the others were not. */
export interface ImportedCells {
  readonly taken: number
  /** The study's folder has a result of this cell. */
  readonly present: number
  /** The study has no such cell, or other options or another evaluation for it. */
  readonly foreign: number
}

/**
 * Puts results that `exportCells` wrote into the folder of a study, as results of its cells. Nothing that is there is replaced.
 *
 * @throws DataError for a file that is not of such lines
 */
export async function importCells(file: string, study: Study): Promise<ImportedCells> {
  const count = { taken: 0, present: 0, foreign: 0 }
  for (const result of await readCells(file)) {
    const arm = study.arms.find(({ name }) => name === result.arm)
    const folder = cellFolder(study.out, result.arm, result.seed)
    if (existsSync(join(folder, RESULT))) count.present++
    else if (!arm || !study.seeds.includes(result.seed) || !finishedCell(arm, result.seed, result)) {
      count.foreign++
    } else {
      await makeFolder(folder)
      await writeDurably(join(folder, RESULT), `${JSON.stringify(result, undefined, 1)}\n`)
      count.taken++
    }
  }
  return count
}

async function readCells(file: string): Promise<CellResult[]> {
  try {
    const bytes = await readFile(file)
    const text = (file.endsWith('.gz') ? gunzipSync(bytes) : bytes).toString('utf8')
    return text
      .split('\n')
      .filter((line) => line !== '')
      .map((line, i) => {
        const value = parseNumbers(line) as CellResult | null
        if (typeof value?.arm !== 'string' || !Number.isInteger(value.seed)) {
          throw new Error(`line ${i + 1} has no arm and seed`)
        }
        return value
      })
  } catch (cause) {
    const why = (cause as Error).message
    throw new DataError(
      `importCells: expected ${file} to be results of cells, one a line, got ${why}`,
      file,
      {
        cause,
      },
    )
  }
}
