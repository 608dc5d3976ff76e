// How setup tells what it is doing: lines for what happened, and one moving line on a terminal.

/** Receives the lines and the progress of a set-up. */
export interface Reporter {
  line(text: string): void
  /** `done` of `total` units of work; total 0 means unknown. */
  progress(label: string, done: number, total: number): void
}

/** Writes to a stream: progress moves on a terminal, and is a line at each quarter elsewhere. */
export function streamReporter(stream: NodeJS.WriteStream = process.stdout): Reporter {
  let moving = false
  let quarter = ''
  const clear = () => {
    if (moving) stream.write('\r\u001b[K')
    moving = false
  }
  return {
    line(text) {
      clear()
      stream.write(`${text}\n`)
    },
    progress(label, done, total) {
      const fraction = total > 0 ? Math.min(1, done / total) : undefined
      const shown = fraction === undefined ? megabytes(done) : `${Math.floor(fraction * 100)} %`
      if (stream.isTTY) {
        stream.write(`\r\u001b[K${label} ${shown}`)
        moving = true
      } else if (fraction !== undefined && quarter !== `${label} ${Math.floor(fraction * 4)}`) {
        quarter = `${label} ${Math.floor(fraction * 4)}`
        stream.write(`${label} ${shown}\n`)
      }
    },
  }
}

/** Says nothing. */
export const silentReporter: Reporter = { line() {}, progress() {} }

/** Bytes as people read them: 553 MB, 3.2 GB. */
export function megabytes(bytes: number): string {
  return bytes >= 1e9 ? `${(bytes / 1e9).toFixed(1)} GB` : `${(bytes / 1e6).toFixed(bytes < 1e7 ? 1 : 0)} MB`
}
