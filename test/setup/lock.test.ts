import { spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, utimesSync, writeFileSync } from 'node:fs'
import { hostname } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { expect } from 'chai'
import { withLock } from '../../lib/setup/lock.ts'
import { rejection, temporaryFolders } from './support.ts'

describe('withLock', () => {
  const temporary = temporaryFolders()
  const held = (owner: object) => {
    const lock = join(temporary(), 'lock')
    mkdirSync(lock)
    writeFileSync(join(lock, 'owner.json'), JSON.stringify(owner))
    return lock
  }

  it('lets one work at a time and tells the others who holds it', async () => {
    const lock = join(temporary(), 'lock')
    const events: string[] = []
    const work = (name: string) => async () => {
      events.push(`${name} begins`)
      await sleep(50)
      events.push(`${name} ends`)
    }
    const waits: unknown[] = []
    await Promise.all([withLock(lock, work('a')), withLock(lock, work('b'), (pid) => waits.push(pid))])
    expect(events).to.deep.equal(['a begins', 'a ends', 'b begins', 'b ends'])
    expect(waits).to.deep.equal([process.pid])
    expect(existsSync(lock)).to.equal(false)
  })

  it('is released when the work fails', async () => {
    const lock = join(temporary(), 'lock')
    expect(await rejection(withLock(lock, async () => Promise.reject(new Error('no'))))).to.equal('no')
    expect(await withLock(lock, async () => 'again')).to.equal('again')
  })

  it('is taken over when its process is gone', async () => {
    const { pid } = spawnSync(process.execPath, ['-e', ''])
    expect(await withLock(held({ token: 'x', pid, host: hostname() }), async () => 'mine')).to.equal('mine')
  })

  it('is taken over when it has not been renewed for a minute', async () => {
    const lock = held({ token: 'x', pid: 1, host: 'another machine' })
    const old = new Date(Date.now() - 61_000)
    utimesSync(lock, old, old)
    expect(await withLock(lock, async () => 'mine')).to.equal('mine')
  })
})
