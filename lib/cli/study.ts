import { readFileSync } from 'node:fs'
import type { z } from 'zod'
import { argumentError } from '../check.ts'
import { NativeError } from '../errors.ts'
import { flag, integer, numbers, text } from '../options.ts'
import { writeReport } from '../report/report.ts'
import { runCell } from '../study/cell.ts'
import { STOPPED, studyLink } from '../study/cell-process.ts'
import { chosen, runStudy, type StudyProgress } from '../study/study.ts'
import { parseStudy, type StudyOptions } from '../study/study-file.ts'
import { interruptible } from './interrupt.ts'
import { helpText, parseOptions } from './options.ts'
import { checkOutputFolder } from './output.ts'
import { streamProgress } from './progress.ts'
import { asUsage } from './usage.ts'

const about = <T extends z.ZodType>(description: string, schema: T): T => schema.meta({ description }) as T

const SHAPE = {
  file: about('JSON file that declares the study (docs/studies.md); the word after study', text()),
  out: about('folder of the study; studies/NAME by default', text().optional()),
  jobs: about('cells that are trained at a time; as many as there are cores by default', integer(1, 1024).optional()),
  arms: about('only these arms, with commas between', text().optional()),
  seeds: about('only these seeds', numbers('a list of seeds').optional()),
  control: about('the arm that the others are compared with, instead of the file’s', text().optional()),
  onlyReport: about('train nothing: statistics of what is there, and plots of it or of --arms', flag().default(false)),
  import: about('results of cells that another machine exported, with commas between', text().optional()),
  export: about('file for the results of the finished cells of these arms and seeds, one a line; compressed where it ends in .gz', text().optional()),
  cell: about('one cell in this process, such as plain/seed-0: what --jobs starts', text().optional()),
  threads: about('threads of LibTorch of one cell, with --cell', integer(1, 1024).optional()),
} satisfies Record<string, z.ZodType> // biome-ignore format: one option a line

const NOTES = `Each cell is a run in OUT/ARM/seed-K. The same command goes on where it was stopped or killed; finished cells are
not repeated. Ctrl-C stops after the steps under way and saves (exit code 130).`

/** `trislot study`. */
export async function studyCommand(argv: readonly string[]): Promise<number> {
  const call = 'trislot study'
  const { options, wantsHelp } = await asUsage(() =>
    parseOptions(call, argv, SHAPE, (given) => given, ['file']),
  )
  if (wantsHelp) {
    console.log(helpText('Trains a declared grid of runs and compares them.', `${call} FILE`, SHAPE, NOTES))
    return 0
  }
  const { file, out, control } = options
  const read = readStudy(call, file, out)
  const given = control === undefined ? read : { ...read, compare: { ...read.compare, control } }
  return options.cell === undefined
    ? studyOf(call, given, options)
    : cellOf(call, given, options.cell, options.threads)
}

type Options = ReturnType<typeof parseOptions<typeof SHAPE>>['options']

/** @internal Runs a study with progress on stderr and the table on stdout. */
export async function studyOf(
  call: string,
  given: StudyOptions,
  options: Pick<Options, 'jobs' | 'arms' | 'seeds' | 'onlyReport'> &
    Partial<Pick<Options, 'import' | 'export'>>,
): Promise<number> {
  const { jobs, seeds, onlyReport } = options
  const arms = options.arms?.split(',')
  await asUsage(async () => {
    const study = await parseStudy(given, call)
    chosen(call, '--arms', study.arms, arms, ({ name }) => name)
    chosen(call, '--seeds', study.seeds, seeds, (seed) => seed)
    await checkOutputFolder(call, '--out', study.out)
  })
  const notice = 'stopping after the steps under way, then saving; Ctrl-C again leaves at once'
  return interruptible(streamProgress(), notice, async (progress, signal) => {
    const result = await runStudy(given, {
      ...(jobs !== undefined && { jobs }),
      ...(arms !== undefined && { arms }),
      ...(seeds !== undefined && { seeds }),
      ...(options.import !== undefined && { importFrom: options.import.split(',') }),
      ...(options.export !== undefined && { exportTo: options.export }),
      onlyReport,
      signal,
      log: progress.line,
      onProgress: (state) => progress.update(state.images, state.totalImages, details(state), state.leftMs),
    })
    progress.end()
    console.log(`${result.table}\n\n${result.out}/study.md`)
    if (!result.wasStopped) console.log(await writeReport([result.out]))
    for (const { cell, message } of result.failures) progress.line(`failed: ${cell}: ${message}`)
    if (result.wasStopped) {
      progress.line('stopped; the same command goes on')
      return 130
    }
    return result.failures.length > 0 ? 1 : 0
  })
}

/** One cell; its study, if there is one, is at the other end of the channel. */
async function cellOf(
  call: string,
  given: StudyOptions,
  cell: string,
  threads: number | undefined,
): Promise<number> {
  const study = await asUsage(() => parseStudy(given, call))
  const [, name, seed] = /^(.+)\/seed-(\d+)$/.exec(cell) ?? []
  const arm = study.arms.find((one) => one.name === name)
  if (!arm || !study.seeds.includes(Number(seed))) {
    throw argumentError(call, '--cell', 'ARM/seed-K of the study', cell)
  }
  const link = studyLink()
  const progress = streamProgress()
  try {
    return await interruptible(progress, 'stopping after this step, then saving', async (_, ctrlC) => {
      let told = 0
      const warn = (text: string): void => {
        if (text.startsWith('warning: ')) link.tell({ kind: 'line', text })
      }
      const result = await runCell(study, arm, Number(seed), {
        signal: AbortSignal.any([ctrlC, link.signal]),
        ...(threads !== undefined && { threads }),
        log: process.connected ? warn : progress.line,
        onProgress(done, total, imagesPerSecond) {
          if (!process.connected) progress.update(done, total, `${imagesPerSecond.toPrecision(3)} images/s`)
          if (performance.now() - told < 1000 && done < total) return
          told = performance.now()
          link.tell({ kind: 'progress', done, total, imagesPerSecond })
        },
      })
      return result ? 0 : STOPPED
    })
  } catch (error) {
    if (error instanceof NativeError) link.tell({ kind: 'error', code: error.code })
    throw error
  } finally {
    link.close()
  }
}

function readStudy(call: string, file: string, out: string | undefined): StudyOptions {
  try {
    const given = JSON.parse(readFileSync(file, 'utf8')) as StudyOptions
    return { ...given, ...(out !== undefined && { out }) }
  } catch (error) {
    throw argumentError(call, 'FILE', 'a JSON file', file, { hint: (error as Error).message })
  }
}

function details({ finishedCells, cellCount, running }: StudyProgress): string {
  const cells = running.map(
    ({ cell, done, total, imagesPerSecond }) =>
      `${cell} ${Math.round((100 * done) / total)} % at ${imagesPerSecond.toPrecision(3)} images/s`,
  )
  return [`${finishedCells}/${cellCount} cells`, ...cells].join('  ')
}
