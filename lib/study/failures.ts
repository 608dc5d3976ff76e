import { rm } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { makeFolder, writeDurably } from '../folder.ts'
import { packageVersion } from '../setup/paths.ts'
import { optionsHash, readFinishedCell, readJson } from './cell.ts'
import type { CellName } from './comparison.ts'
import { cellFolder, type Study, type StudyArm } from './study-file.ts'

/** A cell that ended without a result. */
export interface CellFailure extends CellName {
  /** Hash of the run's options: with others it may fare better, and the failure counts no more. */
  readonly options: string
  /** Of a `NativeError`: ERR_NON_FINITE where the loss was not finite, as when training diverges. */
  readonly code?: string
  readonly message: string
  readonly version: string
}

/** Keeps why a cell failed in its folder, until it is finished. */
export async function writeFailure(
  study: Study,
  arm: StudyArm,
  seed: number,
  { message, code }: { readonly message: string; readonly code?: string | undefined },
): Promise<void> {
  await put(study, {
    ...{ arm: arm.name, seed, options: optionsHash(arm, seed), message, version: packageVersion() },
    ...(code !== undefined && { code }),
  })
}

/** Keeps a failure of another machine, unless the cell is finished or has failed here, or its options are others. */
export async function importFailure(study: Study, arm: StudyArm, failure: CellFailure): Promise<void> {
  const { seed } = failure
  const isOurs = failure.options === optionsHash(arm, seed)
  const file = fileOf(study, failure)
  if (isOurs && !(await readFinishedCell(study, arm, seed)) && !(await readJson(file)))
    await put(study, failure)
}

async function put(study: Study, failure: CellFailure): Promise<void> {
  const file = fileOf(study, failure)
  await makeFolder(dirname(file)) // which a cell that could not begin has not made
  await writeDurably(file, `${JSON.stringify(failure, undefined, 1)}\n`)
}

function fileOf({ out }: Study, { arm, seed }: CellName): string {
  return join(cellFolder(out, arm, seed), 'failure.json')
}

/** Whether a value of a file is a failure. */
export function isFailure(value: unknown): value is CellFailure {
  const { arm, seed, options, message } = (value ?? {}) as Partial<CellFailure>
  return [arm, options, message].every((word) => typeof word === 'string') && Number.isInteger(seed)
}

/** Forgets a failure, as of a cell that is finished now. */
export async function removeFailure(study: Study, arm: StudyArm, seed: number): Promise<void> {
  await rm(fileOf(study, { arm: arm.name, seed }), { force: true })
}

/** The failures of cells that have no result with the options of the study. */
export async function readFailures(study: Study): Promise<CellFailure[]> {
  const cells = study.seeds.flatMap((seed) => study.arms.map((arm) => ({ arm, seed })))
  const found = await Promise.all(
    cells.map(async ({ arm, seed }) => {
      const failure = await readJson<CellFailure>(fileOf(study, { arm: arm.name, seed }))
      const counts = failure?.options === optionsHash(arm, seed)
      return counts && !(await readFinishedCell(study, arm, seed)) ? [failure] : []
    }),
  )
  return found.flat()
}

/** Whether a cell has no result because its loss was not finite, which says something of its arm; a full disk does not. */
export function isDiverged({ code }: CellFailure): boolean {
  return code === 'ERR_NON_FINITE'
}
