import type { FileHandle } from 'node:fs/promises'
import { open, readFile, truncate } from 'node:fs/promises'
import { isObject } from '../check.ts'
import { DataError } from '../errors.ts'
import type { Head } from '../prediction/heads.ts'
import type { RunRow } from '../report/run-plots.ts'
import type { StepReport } from './loop.ts'
import type { LossByBin } from './loss-bins.ts'

/** A line of stats.jsonl; a pure function of the run's options and the step, so that a resumed run writes the same bytes. */
export interface StatsRow extends RunRow {
  /** Steps done. */
  readonly imagesSeen: number
  readonly lr: number
  /** The open slots, for slot samplers. */
  readonly slot?: readonly number[]
  /** Where the slots are cut now, 0 to T, where that changes in training. */
  readonly slotEdges?: readonly number[]
  /** Mean of the variational bound in bits per dimension, before its weight, where it takes part. */
  readonly bound?: number
  /** Power of two of the loss scale, with fp16. */
  readonly lossScaleLog2?: number
  /** The step was not finite, and nothing was changed. */
  readonly skipped?: true
  /** Losses by timestep of all steps since the row before. */
  readonly byBin?: LossByBin
}

/** The line of one step. */
export function statsRow(
  report: StepReport,
  heads: readonly Head[],
  slots: Pick<StatsRow, 'slot' | 'slotEdges'>,
  byBin?: LossByBin,
): StatsRow {
  const { step, loss, gradNorm, perHead, chosen, lr, t, bound, lossScale, skipped } = report
  const count = t.length
  const mean = (head: number): number => {
    let sum = 0
    for (let i = 0; i < count; i++) sum += perHead[i * heads.length + head] as number
    return sum / count
  }
  const share = (head: number): number => chosen.filter((column) => column === head).length / count
  const choosesHeads = chosen.some((column) => column >= 0)
  const perName = (of: (head: number) => number) =>
    Object.fromEntries(heads.map((name, head) => [name, of(head)]))
  return {
    step: step + 1,
    imagesSeen: (step + 1) * count,
    loss,
    gradNorm,
    perHead: perName(mean),
    ...(choosesHeads && { chosen: perName(share) }),
    lr,
    ...slots,
    ...(bound && { bound: bound.reduce((sum, bits) => sum + bits, 0) / count }),
    ...(lossScale !== 1 && { lossScaleLog2: Math.log2(lossScale) }),
    ...(skipped && { skipped }),
    ...(byBin && { byBin }),
  }
}

/** A file of JSON lines that can be cut back to a step. */
export class JsonLines {
  readonly #handle: FileHandle
  private constructor(handle: FileHandle) {
    this.#handle = handle
  }

  /**
   * Opens a file for appending, after removing every line beyond `lastStep` and a line that a killed process left
   * unfinished. A damaged line with good ones behind it stays where it is, and `log` is told.
   */
  static async open<T extends { step: number }>(
    file: string,
    lastStep: number,
    log: (line: string) => void = () => {},
  ): Promise<{ lines: JsonLines; rows: T[] }> {
    const bytes = await readFile(file).catch((error: NodeJS.ErrnoException) => {
      if (error.code === 'ENOENT') return Buffer.alloc(0)
      throw new DataError(`expected ${file} to be a file of lines, got ${error.code}`, file, { cause: error })
    })
    const rows: T[] = []
    let kept = 0
    let lines = 0
    let keptLines = 0
    for (let begin = 0; ; ) {
      const end = bytes.indexOf(10, begin)
      if (end === -1) break
      lines++
      const row = parseLine<T>(bytes.toString('utf8', begin, end))
      if (row && row.step > lastStep) break
      begin = end + 1
      if (!row) continue
      rows.push(row)
      kept = begin
      keptLines = lines
    }
    const damaged = keptLines - rows.length
    if (damaged > 0) log(`warning: lines of ${file} that cannot be read are passed over: ${damaged}`)
    if (kept < bytes.length) await truncate(file, kept)
    return { lines: new JsonLines(await open(file, 'a')), rows }
  }

  async write(row: object): Promise<void> {
    await this.#handle.appendFile(`${JSON.stringify(row)}\n`)
  }

  /** Waits until the disk has every line. */
  async sync(): Promise<void> {
    await this.#handle.sync()
  }

  async close(): Promise<void> {
    await this.#handle.close()
  }
}

/** An object that a line holds; undefined where it is damaged. */
export function parseLine<T>(line: string): T | undefined {
  try {
    const value: unknown = JSON.parse(line)
    return isObject(value) ? (value as T) : undefined
  } catch {
    return undefined
  }
}
