import { type ChildProcess, spawn } from 'node:child_process'
import { main } from '../../lib/cli/main.ts'

/** What a shell starts. */
export const BIN = new URL('../../bin/trislot.js', import.meta.url).pathname

/** What a command printed, and how it ended. */
export interface Ended {
  readonly code: number | null
  readonly signal: NodeJS.Signals | null
  readonly out: string
  readonly err: string
}

/** Starts the command line in a process of its own. */
export function start(argv: readonly string[], options: { cwd?: string } = {}) {
  return watch(spawn(process.execPath, [BIN, ...argv], { stdio: ['ignore', 'pipe', 'pipe'], ...options }))
}

/** Collects the output of a child. */
export function watch(child: ChildProcess): { readonly child: ChildProcess; readonly ended: Promise<Ended> } {
  let out = ''
  let err = ''
  child.stdout?.on('data', (chunk) => (out += chunk))
  child.stderr?.on('data', (chunk) => (err += chunk))
  const ended = new Promise<Ended>((resolve, reject) => {
    child.on('error', reject)
    child.on('close', (code, signal) => resolve({ code, signal, out, err }))
  })
  return { child, ended }
}

/** Runs the command line in this process; its progress goes nowhere. */
export async function command(...argv: string[]): Promise<{ code: number; out: string; err: string }> {
  const { log, error } = console
  const lines = { out: [] as string[], err: [] as string[] }
  console.log = (...words) => lines.out.push(words.join(' '))
  console.error = (...words) => lines.err.push(words.join(' '))
  const write = process.stderr.write
  process.stderr.write = () => true
  try {
    const code = await main(argv)
    return { code, out: lines.out.join('\n'), err: lines.err.join('\n') }
  } finally {
    console.log = log
    console.error = error
    process.stderr.write = write
  }
}

/** Waits until something is true; fails after a while. */
export async function until(condition: () => boolean | Promise<boolean>, what: string): Promise<void> {
  for (let i = 0; i < 1500; i++) {
    if (await condition()) return
    await new Promise((resolve) => setTimeout(resolve, 20))
  }
  throw new Error(`waited 30 s in vain for ${what}`)
}
