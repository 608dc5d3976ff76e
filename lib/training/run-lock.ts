// One process a run: two that write the same stats and checkpoints would ruin both.
import { randomUUID } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { constants, copyFile, link, readFile, rename, rm, rmdir, writeFile } from 'node:fs/promises'
import { hostname } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { exists, makeFolder } from '../folder.ts'

const WITHOUT_LINKS = ['EPERM', 'ENOTSUP', 'EOPNOTSUPP', 'ENOSYS']

interface Owner {
  readonly pid: number
  readonly host: string
  /** When the process began, in the kernel's ticks, so that another process with its number is not taken for it. */
  readonly started: string
}

/** Works in a run's folder that is made where it is not there, and locked; a start that failed leaves no empty one behind. */
export async function inRunFolder<T>(folder: string, work: () => Promise<T>): Promise<T> {
  const isNew = !(await exists(folder))
  await makeFolder(folder)
  const unlock = await lockRun(folder)
  try {
    return await work()
  } finally {
    await unlock()
    if (isNew) await rmdir(folder).catch(() => {}) // which only an empty one allows
  }
}

/**
 * Locks a run's folder for this process.
 *
 * @param place - puts the complete file at its name unless there is one
 * @returns the function that unlocks it
 * @throws Error that names the process that holds it; the lock of a dead process on this machine is taken over
 */
export async function lockRun(
  folder: string,
  place: (from: string, to: string) => Promise<void> = link,
): Promise<() => Promise<void>> {
  const file = join(folder, 'lock.json')
  const mine = join(folder, `.lock-${randomUUID()}`)
  const owner: Owner = { pid: process.pid, host: hostname(), started: startOf(process.pid) }
  await writeFile(mine, `${JSON.stringify(owner)}\n`)
  try {
    for (let attempt = 0; attempt < 10; attempt++) {
      try {
        await place(mine, file).catch((error: NodeJS.ErrnoException) => {
          // Without hard links (FAT, some network and cloud drives) nearly as good: the file exists a moment before its text.
          if (!WITHOUT_LINKS.includes(error.code ?? '')) throw error
          return copyFile(mine, file, constants.COPYFILE_EXCL)
        })
        return () => rm(file, { force: true })
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error
      }
      const text = await readFile(file, 'utf8').catch(() => undefined)
      if (text === undefined) continue
      const holder = holderBy(text)
      if (holder) {
        throw new Error(
          `run: expected ${folder} to be used by no other process, got process ${holder.pid} on ${holder.host}; ` +
            `wait for it, or remove ${file} if it is gone`,
        )
      }
      // Renaming first means that of two that find the lock stale only one removes it.
      const aside = join(folder, `.lock-${randomUUID()}`)
      await rename(file, aside).catch(() => {})
      if ((await readFile(aside, 'utf8').catch(() => text)) !== text)
        await rename(aside, file).catch(() => {})
      await rm(aside, { force: true })
    }
    throw new Error(`run: expected ${file} to be free after ten attempts, got a lock each time`)
  } finally {
    await rm(mine, { force: true })
  }
}

/** Waits until no process holds a run's folder, as one that was told to stop and saves, but no longer than `ms`. */
export async function whenFree(folder: string, ms: number, signal?: AbortSignal): Promise<void> {
  for (const end = performance.now() + ms; performance.now() < end && !signal?.aborted; await sleep(100)) {
    const text = await readFile(join(folder, 'lock.json'), 'utf8').catch(() => undefined)
    if (text === undefined || !holderBy(text)) return
  }
}

/** Who holds a folder by the text of its lock: a process of this machine that is gone does not. */
function holderBy(text: string): Owner | undefined {
  const owner = parse(text)
  return owner && (owner.host !== hostname() || isAlive(owner)) ? owner : undefined
}

function parse(text: string): Owner | undefined {
  try {
    const owner = JSON.parse(text) as Owner
    return Number.isInteger(owner.pid) ? owner : undefined
  } catch {
    return undefined
  }
}

function isAlive({ pid, started }: Owner): boolean {
  try {
    process.kill(pid, 0)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EPERM') return false
  }
  return started === startOf(pid) && statOf(pid)[0] !== 'Z' // killed, but nobody has asked how it ended
}

/** Fields of /proc/PID/stat from the third on; none where there is no /proc. */
function statOf(pid: number): string[] {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'latin1')
    return stat.slice(stat.lastIndexOf(')') + 2).split(' ')
  } catch {
    return []
  }
}

/** Field 22: when it began; empty where that is not known. */
function startOf(pid: number): string {
  return statOf(pid)[19] ?? ''
}
