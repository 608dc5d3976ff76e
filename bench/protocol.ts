// The line protocol of the workers: one JSON object a line on stdin, one answer a line on stdout.
//
//   { command: 'info' }                                      -> { name, versions, threads, device }
//   { command: 'build', work, network, size, batch, precision, variant } -> { parameterCount }
//   { command: 'warm' | 'time', steps }                      -> { ms: [...], loss }; one entry a step
//   { command: 'memory' }                                    -> { peakBytes }; growth of the process since `build` began
//   { command: 'ceiling', precision }                        -> { convolution, matrix } in GFLOP/s (Python only)
//   { command: 'close' }                                     -> {}, and the worker ends
//
// An answer without `error` succeeded. bench/worker.ts, bench/reference/bench_worker.py and bench/native/bench_worker.cpp
// speak it.
import { type ChildProcess, spawn } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { createInterface, type Interface } from 'node:readline'
import type { Precision, UNetConfig } from '../lib/index.ts'

/** Training steps, or steps of DDIM sampling. */
export type Work = 'train' | 'ddim'

/** What a worker makes and then steps. */
export interface Job {
  readonly work: Work
  readonly network: UNetConfig
  readonly size: number
  readonly batch: number
  readonly precision: Precision
  /** Choices of one implementation; PyTorch's are listed in `rivals.ts`. */
  readonly variant: Readonly<Record<string, boolean>>
  /** How trislot trains several heads, as `--mix` has it; their mean by default. */
  readonly mix?: string
}

/** What a worker says about itself. */
export interface WorkerInfo {
  readonly name: string
  readonly versions: Readonly<Record<string, string>>
  readonly threads: number
  readonly device: string
}

/** How a worker is started. */
export interface WorkerCommand {
  readonly label: string
  readonly program: string
  readonly argv: readonly string[]
  readonly env?: Readonly<Record<string, string>>
}

const alive = new Set<ChildProcess>()
process.once('exit', () => {
  for (const child of alive) child.kill('SIGKILL')
})

/** A worker process; one question at a time. */
export class Worker {
  readonly label: string
  readonly #child: ChildProcess
  readonly #lines: Interface
  readonly #ended: Promise<string>
  #stderr = ''

  constructor({ label, program, argv, env }: WorkerCommand) {
    this.label = label
    this.#child = spawn(program, argv, { env: { ...process.env, ...env }, stdio: ['pipe', 'pipe', 'pipe'] })
    alive.add(this.#child)
    this.#lines = createInterface({ input: this.#child.stdout! })
    this.#child.stdin!.on('error', () => {}) // the end of the process is reported instead
    this.#child.stderr!.setEncoding('utf8').on('data', (text: string) => {
      this.#stderr = (this.#stderr + text).slice(-4000)
    })
    this.#ended = new Promise((resolve) => {
      this.#child.once('error', (error) => resolve(error.message))
      this.#child.once('close', (code, signal) => {
        alive.delete(this.#child)
        resolve(`exit ${signal ?? code}\n${this.#stderr}`)
      })
    })
  }

  /** Asks and waits; throws what the worker reports, and when it ends or takes longer than `timeoutMs`. */
  async ask<T = Record<string, unknown>>(question: object, timeoutMs?: number): Promise<T> {
    const answer = new Promise<string>((resolve) => this.#lines.once('line', resolve))
    this.#child.stdin!.write(`${JSON.stringify(question)}\n`)
    let timer: NodeJS.Timeout | undefined
    const late = new Promise<never>((_, reject) => {
      if (timeoutMs === undefined) return
      timer = setTimeout(() => reject(new WorkerTimeout(this.label, timeoutMs)), timeoutMs)
    })
    const ended = this.#ended.then((how) => {
      throw new Error(
        `bench: expected the worker ${this.label} to answer ${JSON.stringify(question)}, got ${how}`,
      )
    })
    try {
      const line = await Promise.race([answer, ended, late])
      const parsed = JSON.parse(line) as T & { error?: string }
      if (parsed.error !== undefined) throw new Error(`bench: ${this.label}: ${parsed.error}`)
      return parsed
    } finally {
      clearTimeout(timer)
    }
  }

  info(): Promise<WorkerInfo> {
    return this.ask<WorkerInfo>({ command: 'info' })
  }

  async build(job: Job, timeoutMs?: number): Promise<number> {
    const question = { command: 'build', ...job }
    return (await this.ask<{ parameterCount: number }>(question, timeoutMs)).parameterCount
  }

  /** Milliseconds of each of `steps` steps. */
  async time(steps: number, timeoutMs?: number): Promise<number[]> {
    const { ms, loss } = await this.ask<{ ms: number[]; loss: number | null }>(
      { command: 'time', steps },
      timeoutMs,
    )
    if (loss !== null && !Number.isFinite(loss))
      throw new Error(`bench: ${this.label}: expected a finite loss, got ${loss}`)
    return ms
  }

  async peakBytes(): Promise<number> {
    return (await this.ask<{ peakBytes: number }>({ command: 'memory' })).peakBytes
  }

  /** Processor time used so far in milliseconds, of all threads; Linux only. */
  cpuMs(): number {
    const fields = readFileSync(`/proc/${this.#child.pid}/stat`, 'utf8').split(') ')[1]!.split(' ')
    return (Number(fields[11]) + Number(fields[12])) * 10
  }

  /** Ends the process: after its answer, or at once when it does not answer. */
  async close(): Promise<void> {
    if (!alive.has(this.#child)) return
    await this.ask({ command: 'close' }, 5000).catch(() => this.#child.kill('SIGKILL'))
    await this.#ended
  }
}

/** A worker did not answer in time. */
export class WorkerTimeout extends Error {
  constructor(label: string, ms: number) {
    super(`bench: expected ${label} to answer within ${Math.round(ms / 1000)} s, got nothing`)
  }
}
