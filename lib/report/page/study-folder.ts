// What a study's folder holds: OUT/ARM/seed-K are runs with result.json, study.json has statistics.
import { readdir } from 'node:fs/promises'
import { basename, join, resolve } from 'node:path'
import { type Fields, isFields, type RunFolder, readJson, readRunFolder } from './run-folder.ts'

/** One arm of a study with one seed. */
export interface StudyCell {
  readonly arm: string
  readonly seed: number
  readonly run: RunFolder
  /** result.json, once the cell is finished. */
  readonly result?: Fields
}

/** A study's folder. */
export interface StudyFolder {
  readonly name: string
  readonly about?: string
  /** The arm that others are compared with. */
  readonly control?: string
  /** What the arms are compared by, the most important first. */
  readonly metrics: readonly string[]
  /** Arms times seeds of the study's file; 0 where it is not there. */
  readonly declaredCount: number
  /** By arm, then by seed. */
  readonly cells: readonly StudyCell[]
  /** Arms of study.json, each with its metrics; undefined until it is written. */
  readonly arms?: readonly Fields[]
  /** How the loss of one image scatters, by arm; empty until study.json is written. */
  readonly scatter: readonly Fields[]
  /** The heads of the arms that have several; empty until study.json is written. */
  readonly heads: readonly Fields[]
}

/** Files that make a folder a study. */
export const STUDY_FILES = ['study.json', 'study-file.json'] as const

/** Reads a study's folder, finished or not. */
export async function readStudyFolder(folder: string): Promise<StudyFolder> {
  const [statistics, file] = (await Promise.all(STUDY_FILES.map((name) => readJson(join(folder, name))))).map(
    (value) => (isFields(value) ? value : {}),
  ) as [Fields, Fields]
  const told: Fields = { ...file, ...statistics }
  const order = isFields(file.arms) ? Object.keys(file.arms) : []
  const arms = (await folders(folder)).sort((a, b) => place(order, a) - place(order, b) || (a < b ? -1 : 1))
  // What the study's file does not declare any more is another study's; what study.json did not count has other options.
  const seedsOfFile = Array.isArray(file.seeds) ? file.seeds.map(Number) : undefined
  const isDeclared = (arm: string, seed: number): boolean =>
    (order.length === 0 || order.includes(arm)) && (!seedsOfFile || seedsOfFile.includes(seed))
  const uncounted = Array.isArray(statistics.uncounted) ? statistics.uncounted.filter(isFields) : []
  const cells = await Promise.all(
    arms.map(async (arm) => {
      const seeds = (await folders(join(folder, arm))).flatMap((name) => /^seed-(\d+)$/.exec(name)?.[1] ?? [])
      const declared = seeds.map(Number).filter((seed) => isDeclared(arm, seed))
      const read = await Promise.all(
        declared.sort((a, b) => a - b).map((seed) => readCell(folder, arm, seed)),
      )
      return read.map(({ result, ...cell }): StudyCell => {
        const isCounted = !uncounted.some((other) => other.arm === arm && other.seed === cell.seed)
        return { ...cell, ...(result && isCounted && { result }) }
      })
    }),
  )
  const compare = isFields(told.compare) ? told.compare : {}
  const words = (value: unknown) => (typeof value === 'string' && value !== '' ? value : undefined)
  const [about, control] = [words(told.about), words(compare.control)]
  return {
    name: words(told.title) ?? words(told.name) ?? basename(resolve(folder)),
    ...(about !== undefined && { about }),
    ...(control !== undefined && { control }),
    metrics: Array.isArray(compare.metrics) ? compare.metrics.map(String) : [],
    declaredCount: order.length * (Array.isArray(file.seeds) ? file.seeds.length : 0),
    cells: cells.flat(),
    ...(Array.isArray(statistics.arms) && { arms: statistics.arms.filter(isFields) }),
    scatter: Array.isArray(statistics.scatter) ? statistics.scatter.filter(isFields) : [],
    heads: Array.isArray(statistics.heads) ? statistics.heads.filter(isFields) : [],
  }
}

async function readCell(folder: string, arm: string, seed: number): Promise<StudyCell> {
  const cell = join(folder, arm, `seed-${seed}`)
  const [run, result] = await Promise.all([readRunFolder(cell), readJson(join(cell, 'result.json'))])
  return { arm, seed, run: { ...run, name: `${arm}, seed ${seed}` }, ...(isFields(result) && { result }) }
}

async function folders(folder: string): Promise<string[]> {
  const entries = await readdir(folder, { withFileTypes: true }).catch(() => [])
  return entries.filter((entry) => entry.isDirectory()).map(({ name }) => name)
}

function place(order: readonly string[], name: string): number {
  const index = order.indexOf(name)
  return index === -1 ? order.length : index
}
