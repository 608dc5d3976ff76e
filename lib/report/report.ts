import { realpath, stat } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { argumentError } from '../check.ts'
import { makeFolder, writeDurably } from '../folder.ts'
import { type PageContents, reportPage } from './page/page.ts'
import { readRunFolder } from './page/run-folder.ts'
import { readStudyFolder, STUDY_FILES } from './page/study-folder.ts'

/** Where the page goes. */
export interface ReportOptions {
  /** `report.html` by default, in the run's folder if there is only one. */
  readonly out?: string
}

/**
 * Writes one self-contained HTML page about runs: options, curves, losses by timestep, choices among heads, samples over
 * training, what instruments found, and the runs compared, with intervals over seeds. The same folders give the same bytes.
 *
 * @param folders - of runs, or of studies; one that is there twice counts once
 * @returns the path of the page
 * @throws RangeError for a folder that holds no run, nor what instruments found
 *
 * @example
 * await writeReport(['runs/digits', 'runs/digits-min'], { out: 'report.html' })
 */
export async function writeReport(folders: readonly string[], options: ReportOptions = {}): Promise<string> {
  const call = 'writeReport'
  if (
    !Array.isArray(folders) ||
    folders.length === 0 ||
    !folders.every((folder) => typeof folder === 'string')
  )
    throw argumentError(call, 'folders', 'a list of at least one folder of a run', folders)
  for (const folder of folders) await checkFolder(call, folder)
  const distinct = await withoutRepetitions(folders)
  const page = await reportPage(await readFolders(distinct))
  const { out = distinct.length === 1 ? join(distinct[0]!, 'report.html') : 'report.html' } = options
  await makeFolder(dirname(out))
  await writeDurably(out, page)
  return out
}

/** Reads everything that a page about these folders shows. */
export async function readFolders(folders: readonly string[]): Promise<PageContents> {
  const isStudy = await Promise.all(folders.map((folder) => holdsAny(folder, STUDY_FILES)))
  const [runs, studies] = await Promise.all([
    Promise.all(folders.filter((_, i) => !isStudy[i]).map(readRunFolder)),
    Promise.all(folders.filter((_, i) => isStudy[i]).map(readStudyFolder)),
  ])
  return { runs, studies }
}

/** Each folder once, whatever paths lead to it: the same run twice is no second seed. */
async function withoutRepetitions(folders: readonly string[]): Promise<string[]> {
  const places = await Promise.all(folders.map((folder) => realpath(folder)))
  return folders.filter((_, i) => places.indexOf(places[i]!) === i)
}

async function checkFolder(call: string, folder: string): Promise<void> {
  const signs = ['config.json', 'stats.jsonl', 'study.json', 'instruments']
  if (!(await holdsAny(folder, [...signs, ...STUDY_FILES])))
    throw argumentError(call, 'folders', `folders of runs or studies, which hold ${signs.join(', ')}`, folder)
}

async function holdsAny(folder: string, names: readonly string[]): Promise<boolean> {
  const found = await Promise.all(
    names.map((name) =>
      stat(join(folder, name)).then(
        () => true,
        () => false,
      ),
    ),
  )
  return found.includes(true)
}
