import { readFile, writeFile } from 'node:fs/promises'
import { dirname } from 'node:path'
import { DataError } from '../errors.ts'
import { makeFolder } from '../folder.ts'
import type { JsonValue } from '../timesteps/sampler.ts'
import { HeadStatistics } from './head-statistics.ts'

/** Writes statistics as JSON; folders are made. */
export async function writeHeadStatistics(path: string, statistics: HeadStatistics): Promise<void> {
  await makeFolder(dirname(path))
  await writeFile(path, `${JSON.stringify(statistics.state())}\n`)
}

/**
 * Reads what `writeHeadStatistics` wrote.
 *
 * @throws DataError for a file that cannot be read or holds something else
 */
export async function readHeadStatistics(path: string): Promise<HeadStatistics> {
  const fail = (got: string): DataError =>
    new DataError(`readHeadStatistics: expected ${path} to hold head statistics, got ${got}`)
  const text = await readFile(path, 'utf8').catch((error: NodeJS.ErrnoException) => {
    throw fail(`no file that can be read (${error.code}); trislot measure --head-statistics writes one`)
  })
  let state: JsonValue
  try {
    state = JSON.parse(text) as JsonValue
  } catch {
    throw fail('no JSON')
  }
  try {
    return HeadStatistics.from(state, 'readHeadStatistics')
  } catch (error) {
    throw fail(`something else (${(error as Error).message})`)
  }
}
