// Runs other programs: the compiler, CMake, Python.
import { spawn } from 'node:child_process'

/** What a finished program left: exit code (null when a signal ended it) and its output. */
export interface Finished {
  readonly code: number | null
  readonly signal: NodeJS.Signals | null
  readonly stdout: string
  readonly stderr: string
}

export interface RunOptions {
  readonly cwd?: string
  readonly env?: NodeJS.ProcessEnv
  readonly timeoutMs?: number
  /** Sees every whole line of stdout and stderr as it comes. */
  readonly onLine?: (line: string) => void
}

/** Runs a program to its end; undefined when there is no such program. Never throws for an exit code. */
export function run(
  program: string,
  argv: readonly string[],
  options: RunOptions = {},
): Promise<Finished | undefined> {
  return new Promise((resolve, reject) => {
    const child = spawn(program, argv, {
      cwd: options.cwd,
      env: options.env ?? process.env,
      stdio: ['ignore', 'pipe', 'pipe'],
      timeout: options.timeoutMs,
      killSignal: 'SIGKILL',
      windowsHide: true,
    })
    const output = { stdout: '', stderr: '' }
    for (const name of ['stdout', 'stderr'] as const) {
      let rest = ''
      child[name].setEncoding('utf8').on('data', (text: string) => {
        output[name] += text
        if (!options.onLine) return
        const lines = (rest + text).split(/\r?\n|\r/)
        rest = lines.pop() ?? ''
        lines.forEach(options.onLine)
      })
      child[name].on('end', () => rest && options.onLine?.(rest))
    }
    child.on('error', (error: NodeJS.ErrnoException) => {
      if (error.code === 'ENOENT' || error.code === 'EACCES') resolve(undefined)
      else reject(error)
    })
    child.on('close', (code, signal) => resolve({ code, signal, ...output }))
  })
}

/** The last lines of an output that say anything, indented for an error message. */
export function tail(text: string, count = 12): string {
  return text
    .split(/\r?\n/)
    .filter((line) => line.trim() !== '')
    .slice(-count)
    .map((line) => `  ${line.slice(0, 300)}`)
    .join('\n')
}
