// What the folder of a run says of the options that it began with.
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { isObject } from '../check.ts'
import { readCheckpoint } from './checkpoint.ts'

/**
 * @internal The options that a run with checkpoints began with: of its config.json, else of the checkpoint itself.
 *
 * @throws RangeError where neither says them, as of a checkpoint that a program saved by itself
 */
export async function begunWith<Config>(call: string, folder: string, checkpoint: string): Promise<Config> {
  const stored = await readStoredConfig<Config>(folder)
  if (stored) return stored
  const { extra } = await readCheckpoint(checkpoint)
  const kept = (extra as { run?: Config } | null)?.run
  if (kept) return kept
  throw new RangeError(
    `${call}: expected ${folder} to be the folder of a run, got ${checkpoint}, which no run saved; use another folder (option run), and begin from these weights if you like (option init, the checkpoint)`,
  )
}

/** @internal The options in a run's config.json, if it has any yet. */
export async function readStoredConfig<Config>(folder: string): Promise<Config | undefined> {
  const file = join(folder, 'config.json')
  const text = await readFile(file, 'utf8').catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return undefined
    throw error
  })
  if (text === undefined) return undefined
  let config: unknown
  try {
    config = JSON.parse(text)
  } catch {} // it stays undefined
  if (!isObject(config)) {
    throw new RangeError(
      `run: expected ${file} to be a JSON object, got a damaged file; restore it, or use another folder`,
    )
  }
  return config as Config
}
