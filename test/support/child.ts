import { spawn } from 'node:child_process'

const root = new URL('../..', import.meta.url).pathname

/** What a child process did. */
export interface ChildResult {
  readonly code: number | null
  readonly signal: NodeJS.Signals | null
  readonly stdout: string
  readonly stderr: string
}

/** Runs TypeScript source as an ES module in a process of its own; `lib` stands for this library's folder. */
export function runChild(
  source: string,
  { nodeOptions = [], timeoutMs = 60_000 }: { nodeOptions?: string[]; timeoutMs?: number } = {},
): Promise<ChildResult> {
  const code = source.replaceAll("'lib/", `'${root}lib/`).replaceAll("'test/", `'${root}test/`)
  const args = [...nodeOptions, '--import', 'tsx', '--input-type=module', '--eval', code]
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, args, {
      cwd: root,
      stdio: ['ignore', 'pipe', 'pipe'],
      timeout: timeoutMs,
    })
    let stdout = ''
    let stderr = ''
    child.stdout.on('data', (chunk) => {
      stdout += chunk
    })
    child.stderr.on('data', (chunk) => {
      stderr += chunk
    })
    child.on('error', reject)
    child.on('close', (code, signal) => resolve({ code, signal, stdout, stderr }))
  })
}
