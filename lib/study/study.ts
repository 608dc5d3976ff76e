import { dirname, join, resolve } from 'node:path'
import { argumentError, checkInteger } from '../check.ts'
import { makeFolder, writeDurably } from '../folder.ts'
import { openImages } from '../training/run.ts'
import { type RunConfig, type RunOptions, runConfig } from '../training/run-config.ts'
import { type CellResult, readFinishedCell } from './cell.ts'
import { startCell } from './cell-process.ts'
import { exportCells, importCells } from './cells-file.ts'
import type { CellName } from './comparison.ts'
import { readFailures, removeFailure, writeFailure } from './failures.ts'
import { featureClassifier, featureSource } from './features.ts'
import { checkSources } from './study-checks.ts'
import {
  cellOptions,
  parseStudy,
  type StudyArm,
  type StudyOptions,
  settingsHash,
  workers,
} from './study-file.ts'
import { writeStudyReport } from './study-report.ts'

/** A cell that is running. */
export interface RunningCell {
  readonly cell: string
  /** Steps done and to do. */
  readonly done: number
  readonly total: number
  readonly imagesPerSecond: number
}

/** How far a study is. */
export interface StudyProgress {
  readonly finishedCells: number
  readonly cellCount: number
  readonly running: readonly RunningCell[]
  /** Images trained, of all cells, and to train. */
  readonly images: number
  readonly totalImages: number
  /** Until everything is trained, at the speed so far; undefined at the beginning. */
  readonly leftMs: number | undefined
}

/** How a study is run. */
export interface StudyRunOptions {
  /** Cells at a time; as many as there are cores by default. */
  readonly jobs?: number
  /** Only these arms and seeds are trained and exported; all by default. */
  readonly arms?: readonly string[]
  readonly seeds?: readonly number[]
  /** Train nothing: write the statistics of what is there, and draw the arms of `arms`. */
  readonly onlyReport?: boolean
  /** Files that `exportTo` wrote on other machines; their results count like those of this folder. */
  readonly importFrom?: readonly string[]
  /** File for the results of the finished cells of these arms and seeds: JSON lines, compressed where its name ends in .gz. */
  readonly exportTo?: string
  /** Cells under way finish their step and save. */
  readonly signal?: AbortSignal
  /** Told in one line what begins, ends and fails. */
  readonly log?: (line: string) => void
  /** Told how far it is, about once a second for each running cell. */
  readonly onProgress?: (progress: StudyProgress) => void
}

/** How a study ended. */
export interface StudyRun {
  readonly out: string
  readonly results: readonly CellResult[]
  /** The comparison as Markdown tables. */
  readonly table: string
  readonly failures: readonly { readonly cell: string; readonly message: string }[]
  /** Some cells are not finished, because the signal came. */
  readonly wasStopped: boolean
}

/**
 * Runs a study: trains every arm with every seed into `<out>/<arm>/seed-<k>`, evaluates all on the same held-out images and
 * noise, and writes `study.json`, plots and a table. Finished cells are not repeated; a study that was killed goes on.
 *
 * @throws RangeError for a study that is wrong; a cell that fails is in `failures`, and the others go on
 *
 * @example
 * await runStudy({ name: 'lr', images: 24000, base: { data: 'digits', preset: 'digits', batchSize: 8 }, arms: { slow: { lr: 1e-4 }, fast: { lr: 4e-4 } } })
 */
export async function runStudy(given: StudyOptions, options: StudyRunOptions = {}): Promise<StudyRun> {
  const call = 'runStudy'
  const { signal, log = () => {}, onProgress, onlyReport = false, importFrom = [], exportTo } = options
  const study = await parseStudy(given, call)
  const arms = chosen(call, 'arms', study.arms, options.arms, ({ name }) => name)
  const seeds = chosen(call, 'seeds', study.seeds, options.seeds, (seed) => seed)
  if (options.jobs !== undefined) checkInteger(call, 'jobs', options.jobs, 1, 1024)
  const { jobs, threads } = workers(options.jobs)
  await makeFolder(study.out)
  if (exportTo !== undefined) await makeFolder(dirname(exportTo)) // which must not fail when everything is trained
  const declared = { ...given, out: resolve(study.out) }
  // Cells that begin later read a file that no other study in this folder writes.
  const file = join(study.out, `study-file-${settingsHash(declared)}.json`)
  for (const path of [join(study.out, 'study-file.json'), file])
    await writeDurably(path, `${JSON.stringify(declared, undefined, 2)}\n`)

  for (const from of importFrom) {
    const { taken, present, foreign } = await importCells(from, study)
    log(`${from}: ${taken} results taken, ${present} were there, ${foreign} of other cells or settings`)
  }
  // Seed by seed, so that complete pairs come first.
  const cells = seeds.flatMap((seed) => arms.map((arm) => ({ arm, seed, name: `${arm.name}/seed-${seed}` })))
  const failures: { cell: string; message: string }[] = []
  if (!onlyReport) {
    const waiting: typeof cells = []
    for (const cell of cells) if (!(await readFinishedCell(study, cell.arm, cell.seed))) waiting.push(cell)
    log(
      `${study.name}: ${cells.length} cells, ${cells.length - waiting.length} finished before; ${study.out}`,
    )
    // Of arms that have cells to train: finished ones need their images no more.
    await checkSources(
      call,
      arms.filter(({ name }) => waiting.some(({ arm }) => arm.name === name)),
    )
    await trainFeatures(
      study.out,
      waiting.map(({ arm, seed }) => ({ arm, options: cellOptions(study, arm, seed) })),
      options,
    )
    const tracker = new Tracker(cells.map(({ name, arm }) => ({ name, arm })), waiting, onProgress) // biome-ignore format: short
    const work = async (): Promise<void> => {
      for (let cell = waiting.shift(); cell && !signal?.aborted; cell = waiting.shift()) {
        const { name } = cell
        const began = performance.now()
        log(`${name} begins`)
        const { stop, ended } = startCell(file, name, threads, (message) => {
          if (message.kind === 'line') log(`${name}: ${message.text}`)
          else tracker.report(name, message)
        })
        signal?.addEventListener('abort', stop)
        if (signal?.aborted) stop()
        const end = await ended
        signal?.removeEventListener('abort', stop)
        const seconds = ((performance.now() - began) / 1000).toFixed(0)
        if (end.kind === 'finished') await removeFailure(study, cell.arm, cell.seed)
        if (end.kind === 'failed') {
          failures.push({ cell: name, message: end.message })
          await writeFailure(study, cell.arm, cell.seed, end)
          log(`${name} failed after ${seconds} s: ${end.message}`)
        } else log(`${name} ${end.kind} after ${seconds} s`)
        tracker.end(name, end.kind === 'finished')
      }
    }
    await Promise.all(Array.from({ length: Math.min(jobs, waiting.length) }, work))
  }
  const everything = study.seeds.flatMap((seed) =>
    study.arms.map((arm) => readFinishedCell(study, arm, seed)),
  )
  const finished = (await Promise.all(everything)).filter((result) => result !== undefined)
  // Tables of everything that is there: those of a few arms would lack the control, and correct for fewer comparisons than were made.
  const failed = await readFailures(study)
  const drawn = onlyReport ? arms : study.arms
  const table = await writeStudyReport(study, finished, failed, drawn.map(({ name }) => name)) // biome-ignore format: short
  const asked = new Set(cells.map(({ name }) => name))
  const isAsked = ({ arm, seed }: CellName): boolean => asked.has(`${arm}/seed-${seed}`)
  const results = finished.filter(isAsked)
  if (exportTo !== undefined) await exportCells(exportTo, results, failed.filter(isAsked))
  const wasStopped = Boolean(signal?.aborted) && results.length < cells.length
  return { out: study.out, results, table, failures, wasStopped }
}

/** Trains the classifiers of samples before the cells that want them begin, so that no two do it. */
async function trainFeatures(
  out: string,
  cells: readonly { readonly arm: StudyArm; readonly options: RunOptions }[],
  { signal, log }: StudyRunOptions,
): Promise<void> {
  const seen = new Set<string>()
  for (const { arm, options } of cells) {
    const { samples } = arm.evaluate
    const key = JSON.stringify([featureSource(arm.config as unknown as RunConfig), samples?.featureSteps])
    if (!samples || seen.has(key) || signal?.aborted) continue
    seen.add(key)
    const config = await runConfig(options)
    const dataset = await openImages(config)
    const classifier = await featureClassifier(out, config, dataset, {
      ...{ steps: samples.featureSteps, signal },
      ...(log && { log }),
    }).catch((error: unknown) => {
      if (!signal?.aborted) throw error
      return undefined
    })
    classifier?.dispose()
  }
}

/** @internal Some arms or seeds of a study, in its order. */
export function chosen<T, K>(
  call: string,
  name: string,
  all: readonly T[],
  wanted: readonly K[] | undefined,
  keyOf: (item: T) => K,
): readonly T[] {
  if (!wanted) return all
  const keys = all.map(keyOf)
  for (const key of wanted) {
    if (!keys.includes(key)) throw argumentError(call, name, `among ${keys.join(', ')}`, key)
  }
  return all.filter((item) => wanted.includes(keyOf(item)))
}

/** Adds up how far all cells are. */
class Tracker {
  readonly #running = new Map<string, RunningCell>()
  readonly #images = new Map<
    string,
    { done: number; first: number | undefined; total: number; batch: number }
  >()
  #began: number | undefined
  readonly #onProgress: StudyRunOptions['onProgress']
  #finished: number

  constructor(
    cells: readonly { name: string; arm: StudyArm }[],
    waiting: readonly { name: string }[],
    onProgress: StudyRunOptions['onProgress'],
  ) {
    this.#onProgress = onProgress
    this.#finished = cells.length - waiting.length
    for (const { name, arm } of cells) {
      const { steps, batchSize } = arm
      const isWaiting = waiting.some((cell) => cell.name === name)
      const total = steps * batchSize
      const done = isWaiting ? 0 : total
      this.#images.set(name, { done, first: isWaiting ? undefined : total, total, batch: batchSize })
    }
  }

  report(name: string, message: { done: number; total: number; imagesPerSecond: number }): void {
    const { done, total, imagesPerSecond } = message
    this.#running.set(name, { cell: name, done, total, imagesPerSecond })
    const images = this.#images.get(name)
    if (images) {
      images.done = done * images.batch
      images.first ??= images.done
    }
    this.#began ??= performance.now()
    this.#tell()
  }

  end(name: string, isFinished: boolean): void {
    this.#running.delete(name)
    if (isFinished) this.#finished++
    this.#tell()
  }

  #tell(): void {
    const cells = [...this.#images.values()]
    const sum = (of: (cell: (typeof cells)[number]) => number): number => cells.reduce((a, c) => a + of(c), 0)
    const images = sum(({ done }) => done)
    const totalImages = sum(({ total }) => total)
    const trained = sum(({ done, first }) => done - (first ?? done))
    const elapsed = performance.now() - (this.#began ?? performance.now())
    this.#onProgress?.({
      finishedCells: this.#finished,
      cellCount: cells.length,
      running: [...this.#running.values()],
      ...{ images, totalImages },
      leftMs: trained > 0 ? (elapsed / trained) * (totalImages - images) : undefined,
    })
  }
}
