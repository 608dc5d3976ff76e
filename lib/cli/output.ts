// Where results go, looked at before the work starts: hours of it must not be lost to a path that cannot be written.
import { mkdtemp, open, rmdir, stat } from 'node:fs/promises'
import { dirname, join, resolve } from 'node:path'
import { argumentError } from '../check.ts'
import { checkInstrumentName } from '../report/instrument-file.ts'
import { type InstrumentPlace, instrumentFolder } from './instrument-options.ts'
import { asUsage, UsageError } from './usage.ts'

/**
 * Checks that a file can be written; nothing is left behind.
 *
 * @throws UsageError that names the option
 */
export async function checkOutputFile(call: string, option: string, path: string): Promise<void> {
  const refuse = refusal(call, option, 'a file that can be written', path)
  const found = await stat(path).catch(() => undefined)
  if (found?.isDirectory()) throw refuse('it is a folder')
  if (found) {
    const file = await open(path, 'r+').catch((error: NodeJS.ErrnoException) => {
      throw refuse(error.code)
    })
    await file.close()
  } else await checkPlace(dirname(resolve(path)), refuse)
}

/**
 * Checks that files can be written into a folder, which need not exist yet; nothing is left behind.
 *
 * @throws UsageError that names the option
 */
export async function checkOutputFolder(call: string, option: string, path: string): Promise<void> {
  await checkPlace(resolve(path), refusal(call, option, 'a folder that can be written', path))
}

/**
 * Checks where an instrument writes: `<folder>/instruments/<name>.json` and pictures beside it, `<folder>/report.html`.
 *
 * @throws UsageError that names the option
 */
export async function checkInstrumentOutput(
  call: string,
  options: InstrumentPlace & { readonly name?: string | undefined },
): Promise<void> {
  const { name } = options
  if (name !== undefined) await asUsage(() => checkInstrumentName(call, '--name', name))
  const folder = instrumentFolder(options)
  const refuse = refusal(call, '--out', 'a folder that can be written', folder)
  await checkPlace(resolve(folder, 'instruments'), refuse)
}

type Refuse = (reason: string | undefined) => UsageError

function refusal(call: string, option: string, what: string, path: string): Refuse {
  return (reason) => new UsageError(argumentError(call, option, what, path, { hint: reason ?? '' }).message)
}

/** Tries the nearest folder that is there: permissions alone do not tell of file systems that cannot be written, or of root. */
async function checkPlace(folder: string, refuse: Refuse): Promise<void> {
  const status = await stat(folder).catch((error: NodeJS.ErrnoException) => error)
  if (status instanceof Error) {
    // ENOTDIR: the file in the way is further up.
    if (status.code !== 'ENOENT' && status.code !== 'ENOTDIR') throw refuse(status.code)
    return checkPlace(dirname(folder), refuse)
  }
  if (!status.isDirectory()) throw refuse(`${folder} is a file`)
  try {
    await rmdir(await mkdtemp(join(folder, '.trislot-')))
  } catch (error) {
    throw refuse((error as NodeJS.ErrnoException).code)
  }
}
