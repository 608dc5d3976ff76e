/** Where progress goes: one moving line on a terminal, plain lines elsewhere. */
export interface Progress {
  /** A line that stays. */
  line(text: string): void
  /**
   * `done` of `total`; `details` is shown beside the bar. Plain streams get a line every few seconds, and at the end. The time that is
   * left is reckoned from the second call on, or told.
   */
  update(done: number, total: number, details?: string, leftMs?: number): void
  /** Ends the moving line. */
  end(): void
}

const BAR_WIDTH = 24
const PLAIN_EVERY_MS = 10_000
const MOVING_EVERY_MS = 100

/** Progress on a stream, stderr as a rule. */
export function streamProgress(stream: NodeJS.WriteStream = process.stderr, label = ''): Progress {
  let first: { readonly done: number; readonly at: number } | undefined
  let shownAt = Number.NEGATIVE_INFINITY
  let isMoving = false
  const clear = (): void => {
    if (isMoving) stream.write('\r\u001b[K')
    isMoving = false
  }
  return {
    line(text) {
      clear()
      stream.write(`${text}\n`)
    },
    update(done, total, details = '', told) {
      const now = performance.now()
      first ??= { done, at: now }
      const isLast = done >= total
      if (!isLast && now - shownAt < (stream.isTTY ? MOVING_EVERY_MS : PLAIN_EVERY_MS)) return
      shownAt = now
      // What came before the first call, loading and compiling, says nothing about the speed.
      const reckoned =
        done > first.done ? ((now - first.at) / (done - first.done)) * (total - done) : undefined
      const leftMs = told ?? reckoned
      const left = isLast || leftMs === undefined ? '' : `${duration(leftMs)} left`
      const parts = [`${done}/${total}`, details, left].filter((part) => part !== '')
      if (!stream.isTTY) {
        stream.write(`${[label, ...parts].filter((part) => part !== '').join('  ')}\n`)
        return
      }
      const full = Math.round((BAR_WIDTH * done) / total)
      const bar = `${'█'.repeat(full)}${'░'.repeat(BAR_WIDTH - full)}`
      const text = `${label ? `${label} ` : ''}${bar} ${parts.join('  ')}`
      stream.write(`\r\u001b[K${text.slice(0, Math.max(20, (stream.columns ?? 100) - 1))}`)
      isMoving = true
    },
    end() {
      if (isMoving) stream.write('\n')
      isMoving = false
    },
  }
}

/** 75000 as `1:15`, 3675000 as `1:01:15`. */
export function duration(ms: number): string {
  const seconds = Math.max(0, Math.round(ms / 1000))
  const pad = (value: number): string => String(value).padStart(2, '0')
  const [hours, minutes] = [Math.floor(seconds / 3600), Math.floor(seconds / 60) % 60]
  return hours > 0 ? `${hours}:${pad(minutes)}:${pad(seconds % 60)}` : `${minutes}:${pad(seconds % 60)}`
}

/** `line`, with another line before the first that it is given: once there is something to say. */
export function lineAfter(heading: string, line: (text: string) => void): (text: string) => void {
  let isSaid = false
  return (text) => {
    if (!isSaid) line(heading)
    isSaid = true
    line(text)
  }
}
