import { readFile, writeFile } from 'node:fs/promises'
import { dirname } from 'node:path'
import { DataError } from '../errors.ts'
import { makeFolder } from '../folder.ts'
import type { JsonValue } from '../timesteps/sampler.ts'
import { HeadStatistics } from './head-statistics.ts'

/** The network whose heads were measured. */
export interface MeasuredNetwork {
  /** Where it lay. */
  readonly path: string
  /** A hash of everything that decides its predictions. */
  readonly identity: string
}

/**
 * Writes statistics as JSON; folders are made.
 *
 * @param network - whose they are, so that `trislot sample` can say when they are read for another one
 */
export async function writeHeadStatistics(
  path: string,
  statistics: HeadStatistics,
  network?: MeasuredNetwork,
): Promise<void> {
  await makeFolder(dirname(path))
  const state = statistics.state() as object
  await writeFile(path, `${JSON.stringify({ ...state, ...(network && { network }) })}\n`)
}

/**
 * Reads what `writeHeadStatistics` wrote.
 *
 * @throws DataError for a file that cannot be read or holds something else
 */
export async function readHeadStatistics(path: string): Promise<HeadStatistics> {
  return (await readMeasuredHeads(path)).statistics
}

/** @internal `readHeadStatistics` with whose they are, where the file says it. */
export async function readMeasuredHeads(
  path: string,
): Promise<{ readonly statistics: HeadStatistics; readonly network?: MeasuredNetwork }> {
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
    const statistics = HeadStatistics.from(state, 'readHeadStatistics')
    const { network } = state as unknown as { network?: MeasuredNetwork }
    const isKnown = typeof network?.path === 'string' && typeof network.identity === 'string'
    return { statistics, ...(isKnown && { network }) }
  } catch (error) {
    throw fail(`something else (${(error as Error).message})`)
  }
}
