// Cells run in processes of their own: one that fails takes no other with it, and each has its own threads of LibTorch.
import { type ChildProcess, spawn } from 'node:child_process'
import { join } from 'node:path'
import { packageRoot } from '../setup/paths.ts'

/** What a cell's process tells the study. */
export type CellMessage =
  | { readonly kind: 'progress'; readonly done: number; readonly total: number; readonly imagesPerSecond: number }
  | { readonly kind: 'line'; readonly text: string }
  | { readonly kind: 'error'; readonly code: string } // biome-ignore format: one message a line

/** How a cell's process ended. */
export type CellEnd =
  | { readonly kind: 'finished' }
  | { readonly kind: 'stopped' }
  | { readonly kind: 'failed'; readonly message: string; readonly code?: string | undefined }

/** Exit code of a cell that was told to stop. */
export const STOPPED = 130

const LAST_LINES = 12

/**
 * Starts `trislot study FILE --cell ARM/seed-K`. It is a process group of its own, so that a Ctrl-C in a terminal reaches the
 * study alone, which then tells its cells; and it stops by itself when the study is gone.
 */
export function startCell(
  file: string,
  cell: string,
  threads: number,
  onMessage: (message: Exclude<CellMessage, { readonly kind: 'error' }>) => void,
): { readonly stop: () => void; readonly ended: Promise<CellEnd> } {
  const command = [join(packageRoot(), 'bin', 'trislot.js'), 'study', file, '--cell', cell]
  const child: ChildProcess = spawn(process.execPath, [...command, '--threads', String(threads)], {
    detached: true,
    stdio: ['ignore', 'ignore', 'pipe', 'ipc'],
    env: { ...process.env, OMP_NUM_THREADS: String(threads) },
  })
  let errors = ''
  child.stderr?.setEncoding('utf8').on('data', (text: string) => {
    errors = (errors + text).slice(-10_000)
  })
  let error: string | undefined
  child.on('message', (told) => {
    const message = told as CellMessage
    if (message.kind === 'error') error = message.code
    else onMessage(message)
  })
  const ended = new Promise<CellEnd>((resolve) => {
    child.on('error', ({ message }) => resolve({ kind: 'failed', message }))
    child.on('close', (code, signal) => {
      if (code === 0) resolve({ kind: 'finished' })
      else if (code === STOPPED) resolve({ kind: 'stopped' })
      else {
        const lines = errors.trim().split('\n').slice(-LAST_LINES).join('\n')
        const message = lines || `ended by ${signal ?? `exit code ${code}`}`
        resolve({ kind: 'failed', message, code: error })
      }
    })
  })
  return { stop: () => child.connected && child.send('stop', () => {}), ended }
}

/** The cell's side: a signal that the study's word, or its end, aborts, and a way to tell it something. */
export function studyLink(): {
  readonly signal: AbortSignal
  readonly tell: (message: CellMessage) => void
  readonly close: () => void
} {
  const controller = new AbortController()
  const abort = (): void => controller.abort(new Error('stopped by the study'))
  process.on('message', abort)
  process.on('disconnect', abort)
  const hadStudy = process.send !== undefined
  if (hadStudy && !process.connected) abort() // it was killed while this process began
  return {
    signal: controller.signal,
    tell: (message) => {
      if (process.connected) process.send?.(message, undefined, undefined, () => {})
    },
    close() {
      process.off('message', abort)
      process.off('disconnect', abort)
      if (process.connected) process.disconnect()
    },
  }
}
