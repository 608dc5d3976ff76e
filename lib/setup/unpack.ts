// Unpacks the wanted part of a zip (wheels are zips), and refuses one that plays tricks with paths.
import { createWriteStream } from 'node:fs'
import { mkdir } from 'node:fs/promises'
import { dirname, resolve, sep } from 'node:path'
import { pipeline } from 'node:stream/promises'
import yauzl, { type Entry, type ZipFile } from 'yauzl'
import { SetupError } from '../errors.ts'

/** Says where an entry goes below the target folder; undefined leaves it out. */
export type Placement = (name: string) => string | undefined

const unpackedLimit = 16e9
const symbolicLink = 0o120000

interface Placed {
  readonly entry: Entry
  readonly file: string
}

/**
 * Unpacks the entries that `place` wants below `folder`; `onBytes` gets the bytes written so far and in all. The whole
 * directory of the zip is judged before anything is written: absolute and climbing paths, symbolic links, two entries for
 * one file and more than 16 GB are refused.
 */
export async function unpackZip(
  file: string,
  folder: string,
  place: Placement,
  onBytes: (done: number, total: number) => void = () => {},
): Promise<void> {
  await withZip(file, async (zip, entries) => {
    const wanted = choose(file, entries, folder, place)
    const total = wanted.reduce((sum, { entry }) => sum + entry.uncompressedSize, 0)
    if (total > unpackedLimit) {
      throw new SetupError(`trislot setup: expected ${file} to unpack to at most 16 GB, got ${total} bytes`)
    }
    const folders = new Set(wanted.map(({ file }) => dirname(file)))
    for (const path of folders) await mkdir(path, { recursive: true })
    let done = 0
    let next = 0
    const worker = async () => {
      for (let item = wanted[next++]; item !== undefined; item = wanted[next++]) {
        await extract(zip, file, item)
        done += item.entry.uncompressedSize
        onBytes(done, total)
      }
    }
    await Promise.all(Array.from({ length: 4 }, worker))
  })
}

/** Reads one small entry as text; undefined when the zip has none of that name. */
export async function readZipText(file: string, name: string): Promise<string | undefined> {
  return await withZip(file, async (zip, entries) => {
    const entry = entries.find((candidate) => candidate.fileName === name)
    if (entry === undefined) return undefined
    const chunks: Buffer[] = []
    for await (const chunk of await openEntry(zip, entry)) chunks.push(chunk as Buffer)
    return Buffer.concat(chunks).toString('utf8')
  })
}

async function withZip<T>(file: string, work: (zip: ZipFile, entries: Entry[]) => Promise<T>): Promise<T> {
  const refuse = (error: Error) =>
    new SetupError(`trislot setup: expected ${file} to be a sound zip archive, got: ${error.message}`)
  const zip = await new Promise<ZipFile>((done, fail) => {
    yauzl.open(file, { lazyEntries: true, autoClose: false }, (error, opened) =>
      error ? fail(refuse(error)) : done(opened),
    )
  })
  try {
    const entries = await new Promise<Entry[]>((done, fail) => {
      const list: Entry[] = []
      zip.on('entry', (entry: Entry) => {
        list.push(entry)
        zip.readEntry()
      })
      zip.on('end', () => done(list))
      zip.on('error', (error: Error) => fail(refuse(error)))
      zip.readEntry()
    })
    return await work(zip, entries)
  } finally {
    zip.close()
  }
}

function choose(archive: string, entries: readonly Entry[], folder: string, place: Placement): Placed[] {
  const placed = new Map<string, Placed>()
  for (const entry of entries) {
    const name = entry.fileName
    const refuse = (what: string) =>
      new SetupError(
        `trislot setup: expected ${archive} to hold plain files only, got ${what} ${JSON.stringify(name)}`,
      )
    if (name.includes('\0')) throw refuse('a name with a zero byte:')
    if (((entry.externalFileAttributes >>> 16) & 0o170000) === symbolicLink) throw refuse('a symbolic link:')
    if (name.endsWith('/')) continue
    const path = place(name)
    if (path === undefined) continue
    const file = resolve(folder, path)
    if (!file.startsWith(resolve(folder) + sep)) throw refuse('a path that leaves the folder:')
    if (placed.has(file)) throw refuse('a second entry for')
    placed.set(file, { entry, file })
  }
  return [...placed.values()]
}

async function extract(zip: ZipFile, archive: string, { entry, file }: Placed): Promise<void> {
  try {
    await pipeline(await openEntry(zip, entry), createWriteStream(file, { flags: 'wx', mode: 0o644 }))
  } catch (error) {
    const { message } = error as Error
    throw new SetupError(`trislot setup: cannot unpack ${entry.fileName} of ${archive}: ${message}`, {
      cause: error,
    })
  }
}

function openEntry(zip: ZipFile, entry: Entry): Promise<NodeJS.ReadableStream> {
  return new Promise((done, fail) => {
    zip.openReadStream(entry, (error, stream) => (error ? fail(error) : done(stream)))
  })
}
