// One set-up at a time: two that write the same cache would corrupt it. A directory is the lock, because making one is atomic everywhere.
import { randomUUID } from 'node:crypto'
import { mkdirSync, readFileSync, renameSync, rmSync, statSync, utimesSync, writeFileSync } from 'node:fs'
import { hostname } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'

const heartbeatMs = 5_000
const staleMs = 60_000

interface Owner {
  readonly token: string
  readonly pid: number
  readonly host: string
}

/**
 * Runs `work` while holding the lock `folder`; waits for another holder, and calls `onWait` once with its process id.
 * A lock is stale when its process is gone (on this machine) or has not renewed it for a minute; it is then taken over.
 */
export async function withLock<T>(
  folder: string,
  work: () => Promise<T>,
  onWait: (pid: number | undefined) => void = () => {},
): Promise<T> {
  const me: Owner = { token: randomUUID(), pid: process.pid, host: hostname() }
  let waited = false
  while (!acquire(folder, me)) {
    const owner = readOwner(folder)
    if (isStale(folder, owner)) {
      breakLock(folder, owner)
      continue
    }
    if (!waited) onWait(owner?.pid)
    waited = true
    await sleep(200)
  }
  const release = () => {
    if (readOwner(folder)?.token === me.token) rmSync(folder, { recursive: true, force: true })
  }
  const heartbeat = setInterval(() => {
    try {
      utimesSync(folder, new Date(), new Date())
    } catch {}
  }, heartbeatMs)
  heartbeat.unref()
  process.once('exit', release)
  try {
    return await work()
  } finally {
    clearInterval(heartbeat)
    process.removeListener('exit', release)
    release()
  }
}

function acquire(folder: string, me: Owner): boolean {
  try {
    mkdirSync(folder)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EEXIST') return false
    throw error
  }
  writeFileSync(join(folder, 'owner.json'), JSON.stringify(me))
  return true
}

function readOwner(folder: string): Owner | undefined {
  try {
    return JSON.parse(readFileSync(join(folder, 'owner.json'), 'utf8')) as Owner
  } catch {
    return undefined
  }
}

function isStale(folder: string, owner: Owner | undefined): boolean {
  const touched = statSync(folder, { throwIfNoEntry: false })?.mtimeMs
  if (touched === undefined) return false
  if (Date.now() - touched > staleMs) return true
  return owner !== undefined && owner.host === hostname() && !isAlive(owner.pid)
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0)
    return true
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM'
  }
}

// Renaming first means that of two that find the lock stale only one removes it; a fresh lock taken by mistake goes back.
function breakLock(folder: string, owner: Owner | undefined): void {
  const aside = `${folder}.stale-${randomUUID()}`
  try {
    renameSync(folder, aside)
    if (readOwner(aside)?.token === owner?.token) rmSync(aside, { recursive: true, force: true })
    else renameSync(aside, folder)
  } catch {}
}
