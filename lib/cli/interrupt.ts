/** What a first and a second Ctrl-C do. */
export interface Interrupts {
  readonly signal: AbortSignal
  /** Exit code of the signal that arrived, 130 for Ctrl-C, 143 for SIGTERM; undefined when none did. */
  code(): number | undefined
  /** That code, where an error is what the signal made of the work; any other error is thrown, such as a disk that is full. */
  codeOf(error: unknown): number
  stop(): void
}

/** The first SIGINT or SIGTERM aborts the signal and says `notice`; the second ends the process at once. */
export function onInterrupt(notice: (text: string) => void, text: string): Interrupts {
  const controller = new AbortController()
  let code: number | undefined
  const handle = (name: NodeJS.Signals): void => {
    const own = name === 'SIGINT' ? 130 : 143
    if (code !== undefined) {
      // By the signal itself: process.exit() would wait for the step under way.
      process.off('SIGINT', handle)
      process.off('SIGTERM', handle)
      process.kill(process.pid, name)
      return
    }
    code = own
    notice(text)
    controller.abort(new Error('interrupted'))
  }
  process.on('SIGINT', handle)
  process.on('SIGTERM', handle)
  return {
    signal: controller.signal,
    code: () => code,
    codeOf(error) {
      if (code === undefined || !isOfSignal(error, controller.signal)) throw error
      return code
    },
    stop() {
      process.off('SIGINT', handle)
      process.off('SIGTERM', handle)
    },
  }
}

/**
 * Runs work that Ctrl-C may stop: the signal's error becomes its exit code, any other goes on to the caller, and the
 * progress line ends either way.
 */
export async function interruptible<P extends { line(text: string): void; end(): void }>(
  progress: P,
  notice: string,
  work: (progress: P, signal: AbortSignal) => Promise<number>,
): Promise<number> {
  const interrupts = onInterrupt(progress.line, notice)
  try {
    return await work(progress, interrupts.signal)
  } catch (error) {
    return interrupts.codeOf(error)
  } finally {
    progress.end()
    interrupts.stop()
  }
}

function isOfSignal(error: unknown, signal: AbortSignal): boolean {
  if (error === signal.reason) return true
  return error instanceof Error && (error.name === 'AbortError' || isOfSignal(error.cause, signal))
}
