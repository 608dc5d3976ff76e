// Work in a temporary sibling and rename: a folder in the cache is either whole or absent.
import { randomUUID } from 'node:crypto'
import { mkdirSync, readdirSync, renameSync, rmSync } from 'node:fs'
import { join } from 'node:path'

const prefix = '.staging-'

/**
 * Runs `work` with a fresh folder in `parent`, then renames it to the name that the work returns, replacing what was there.
 * When the work fails, or the process is ended by a signal that it can see, the folder goes and nothing else has changed.
 */
export async function withStaging<T>(
  parent: string,
  work: (folder: string) => Promise<readonly [name: string, result: T]>,
): Promise<T> {
  mkdirSync(parent, { recursive: true })
  const folder = join(parent, `${prefix}${process.pid}-${randomUUID()}`)
  mkdirSync(folder)
  const remove = () => rmSync(folder, { recursive: true, force: true })
  const stop = (signal: NodeJS.Signals) => process.exit(signal === 'SIGINT' ? 130 : 143)
  process.once('exit', remove)
  process.once('SIGINT', stop)
  process.once('SIGTERM', stop)
  try {
    const [name, result] = await work(folder)
    const target = join(parent, name)
    const old = join(parent, `${prefix}old-${randomUUID()}`)
    try {
      renameSync(target, old)
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error
    }
    renameSync(folder, target)
    rmSync(old, { recursive: true, force: true })
    return result
  } finally {
    remove()
    process.removeListener('exit', remove)
    process.removeListener('SIGINT', stop)
    process.removeListener('SIGTERM', stop)
  }
}

/** Removes what a set-up that was killed outright left behind; only for the holder of the lock. */
export function sweepStaging(parent: string): void {
  try {
    for (const name of readdirSync(parent)) {
      if (name.startsWith(prefix)) rmSync(join(parent, name), { recursive: true, force: true })
    }
  } catch {}
}
