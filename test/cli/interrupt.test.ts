import { expect } from 'chai'
import { interruptible } from '../../lib/cli/interrupt.ts'

describe('interruptible', () => {
  const progress = { line: () => {}, end: () => {} }
  /** What becomes of an error after a Ctrl-C, which the work has made of the signal's own. */
  const stopped = (make: (reason: unknown) => unknown): Promise<unknown> =>
    interruptible(progress, 'stopping', async (_, signal) => {
      process.emit('SIGINT', 'SIGINT')
      throw make(signal.reason)
    }).catch((error: unknown) => error)

  it('ends with the exit code where the signal stopped the work', async () => {
    expect(await stopped((reason) => reason)).to.equal(130)
    expect(await stopped((cause) => new Error('writing', { cause }))).to.equal(130)
    expect(await stopped((cause) => new DOMException('aborted', { name: 'AbortError', cause }))).to.equal(130)
  })

  it('hides no other error behind it', async () => {
    const full = new Error('expected the disk to have room, got ENOSPC')
    expect(await stopped(() => full)).to.equal(full)
  })
})
