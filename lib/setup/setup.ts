// `trislot setup`: finds LibTorch, builds the addon for it, loads it in a child process, and remembers the result.
import { copyFileSync, mkdirSync, realpathSync, statSync, writeFileSync } from 'node:fs'
import { cpus } from 'node:os'
import { join, relative, sep } from 'node:path'
import { argumentError, checkInteger, checkKnownOptions } from '../check.ts'
import { SetupError } from '../errors.ts'
import { buildAddon, parallelJobs } from './build.ts'
import { sha256File } from './download.ts'
import { type FetchContext, fetchLibtorch } from './fetch.ts'
import { cachedLibtorchs, isWhole, namedLibtorch, pythonLibtorch } from './find.ts'
import { fingerprint } from './fingerprint.ts'
import { describeRule, type Libtorch } from './libtorch.ts'
import { type AddonRecord, locateAddon } from './locate.ts'
import { withLock } from './lock.ts'
import { addonFolder, cacheHome, packageRoot } from './paths.ts'
import { proveAddon } from './prove.ts'
import { findPython, type Python } from './python.ts'
import { type Reporter, silentReporter } from './report.ts'
import { sweepStaging, withStaging } from './staging.ts'
import { checkToolchain } from './toolchain.ts'

/** Options of `setup`; the same as those of `trislot setup`. */
export interface SetupOptions {
  /** A LibTorch folder to use; else LIBTORCH, the cache, the active Python's torch, and last a download. */
  readonly libtorch?: string | undefined
  /** Require a LibTorch with CUDA, and fetch one when none is found. */
  readonly cuda?: boolean | undefined
  /** If LibTorch has to be fetched: from this wheel (or archive) on this machine. */
  readonly wheel?: string | undefined
  /** If LibTorch has to be fetched: from this base URL. */
  readonly mirror?: string | undefined
  /** The sha256 of a wheel or archive that is not pinned. */
  readonly sha256?: string | undefined
  /** Search and build anew although everything is there. */
  readonly force?: boolean | undefined
  /** Leave the build folder, so that the next build compiles only what has changed. */
  readonly keepBuild?: boolean | undefined
  /** Compilers at once; as many as cores and memory allow when left out. */
  readonly jobs?: number | undefined
}

/** What a set-up found and did. */
export interface SetupReport {
  readonly addonFile: string
  readonly libtorch: Libtorch
  /** False when everything was there already. */
  readonly built: boolean
  readonly elapsedMs: number
}

/** The machine as setup sees it; tests put their own in. */
export interface Surroundings {
  /** Folder of the package whose native sources are built. */
  readonly root: string
  /** Cache folder, as `cacheHome` gives it. */
  readonly home: string
  readonly env: NodeJS.ProcessEnv
  readonly platform: NodeJS.Platform
  readonly arch: string
  /** Version of glibc; undefined on musl and outside Linux. */
  readonly glibc: string | undefined
  readonly reporter: Reporter
  /** Finds the active Python; called only when the cache holds no LibTorch. */
  readonly python: () => Promise<Python | undefined>
  /** Replaces pins and addresses of the fetch in tests. */
  readonly fetch?: Pick<FetchContext, 'pins' | 'archiveAddress'>
}

/** This machine, quietly. */
export function defaultSurroundings(reporter: Reporter = silentReporter): Surroundings {
  const root = packageRoot()
  return {
    root,
    home: cacheHome(),
    env: process.env,
    platform: process.platform,
    arch: process.arch,
    glibc: glibcVersion(),
    reporter,
    python: () => findPython(root),
  }
}

/** Version of the running glibc; undefined on musl and outside Linux. */
export function glibcVersion(): string | undefined {
  if (process.platform !== 'linux') return undefined
  const report = process.report as unknown as { excludeNetwork?: boolean; getReport(): object }
  report.excludeNetwork = true // names of open connections would be looked up, which can take seconds
  return (report.getReport() as { header: { glibcVersionRuntime?: string } }).header.glibcVersionRuntime
}

const known = ['libtorch', 'cuda', 'wheel', 'mirror', 'sha256', 'force', 'keepBuild', 'jobs'] as const

/**
 * Makes the native addon ready: finds LibTorch, builds, loads in a child process, and records. Does nothing, in
 * milliseconds, when that has been done for these sources. Safe to call from several processes at once.
 *
 * @example
 * const { libtorch, built } = await setup()
 */
export async function setup(
  options: SetupOptions = {},
  surroundings: Surroundings = defaultSurroundings(),
): Promise<SetupReport> {
  checkOptions(options)
  const started = performance.now()
  const done = (addon: { addonFile: string; libtorch: Libtorch }, built: boolean): SetupReport => {
    const elapsedMs = performance.now() - started
    const { version, rule, root } = addon.libtorch
    surroundings.reporter.line(`LibTorch ${version} (${describeRule(rule)}): ${root}`)
    surroundings.reporter.line(
      `addon: ${addon.addonFile} (${built ? 'built and loaded' : 'already built'}, ${(elapsedMs / 1000).toFixed(1)} s)`,
    )
    return { ...addon, built, elapsedMs }
  }
  const ready = options.force ? undefined : existing(options, surroundings)
  if (ready) return done(ready, false)
  mkdirSync(surroundings.home, { recursive: true })
  return await withLock(
    join(surroundings.home, 'setup.lock'),
    async () => {
      const meanwhile = options.force ? undefined : existing(options, surroundings)
      if (meanwhile) return done(meanwhile, false)
      return done(await make(options, surroundings), true)
    },
    (pid) =>
      surroundings.reporter.line(
        `another trislot setup is running${pid === undefined ? '' : ` (process ${pid})`}: waiting`,
      ),
  )
}

function checkOptions(options: SetupOptions): void {
  checkKnownOptions('setup', options, known)
  for (const name of ['libtorch', 'wheel', 'mirror', 'sha256'] as const) {
    const value: unknown = options[name]
    if (value !== undefined && typeof value !== 'string')
      throw argumentError('setup', name, 'a string', value, { kind: 'type' })
  }
  for (const name of ['cuda', 'force', 'keepBuild'] as const) {
    const value: unknown = options[name]
    if (value !== undefined && typeof value !== 'boolean')
      throw argumentError('setup', name, 'true or false', value, { kind: 'type' })
  }
  if (options.jobs !== undefined) checkInteger('setup', 'jobs', options.jobs, 1, 1024)
  if (options.sha256 !== undefined && !/^[0-9a-f]{64}$/i.test(options.sha256)) {
    throw argumentError('setup', 'sha256', '64 hexadecimal digits', options.sha256)
  }
}

// A recorded addon serves unless something else was asked for by name.
function existing(
  options: SetupOptions,
  { root, home, env }: Surroundings,
): { addonFile: string; libtorch: Libtorch } | undefined {
  const named = namedLibtorch(options.libtorch, env, options.cuda)
  try {
    const { addonFile, record } = locateAddon(root, home)
    if (named && !sameFolder(named.root, record.libtorchRoot)) return undefined
    if (options.cuda && !record.cuda) return undefined
    const { libtorchRoot, libtorchVersion, cuda, rule } = record
    const inCache = relative(join(home, 'libtorch'), libtorchRoot).split(sep)
    if (inCache[0] !== '..' && !isWhole(join(home, 'libtorch', inCache[0] as string))) return undefined
    return {
      addonFile,
      libtorch: { root: libtorchRoot, version: libtorchVersion, cuda, rule: named?.rule ?? rule },
    }
  } catch (error) {
    if (error instanceof SetupError) return undefined
    throw error
  }
}

function sameFolder(a: string, b: string): boolean {
  try {
    return realpathSync(a) === realpathSync(b)
  } catch {
    return false
  }
}

async function make(
  options: SetupOptions,
  surroundings: Surroundings,
): Promise<{ addonFile: string; libtorch: Libtorch }> {
  const { root, home, env, reporter } = surroundings
  for (const folder of ['libtorch', 'addons']) sweepStaging(join(home, folder))
  const toolchain = await checkToolchain(env, surroundings.platform) // before half a gigabyte is fetched
  const libtorch = await findLibtorch(options, surroundings)
  reporter.line(`LibTorch ${libtorch.version} ${describeRule(libtorch.rule)}: ${libtorch.root}`)
  const name = fingerprint(root)
  const jobs = options.jobs ?? parallelJobs(cpus().length)
  const build = {
    root,
    home,
    libtorch,
    toolchain,
    jobs,
    keepBuild: options.keepBuild ?? false,
    env,
    reporter,
  }
  await buildAddon(build, (file) =>
    withStaging(join(home, 'addons'), async (staging) => {
      if (fingerprint(root) !== name) {
        throw new SetupError(
          `trislot setup: the sources in ${root} changed while they were compiled; run it again`,
        )
      }
      const copy = join(staging, 'trislot.node')
      copyFileSync(file, copy)
      reporter.line('loading the addon in a child process')
      const runsWith = await proveAddon(copy, env)
      if (runsWith.split('+')[0] !== libtorch.version.split('+')[0]) {
        throw new SetupError(
          `trislot setup: expected the addon to run with LibTorch ${libtorch.version} of ${libtorch.root}, got ${runsWith}; ` +
            'another LibTorch comes first: look at LD_LIBRARY_PATH and LD_PRELOAD',
        )
      }
      const record: AddonRecord = {
        format: 1,
        fingerprint: name,
        bytes: statSync(copy).size,
        sha256: await sha256File(copy),
        libtorchRoot: libtorch.root,
        libtorchVersion: libtorch.version,
        cuda: libtorch.cuda,
        rule: libtorch.rule,
        provedWith: process.version,
        provedAt: new Date().toISOString(),
        compiler: toolchain.compiler,
      }
      writeFileSync(join(staging, 'addon.json'), `${JSON.stringify(record, undefined, 2)}\n`)
      return [name, undefined] as const
    }),
  )
  return { addonFile: join(addonFolder(home, name), 'trislot.node'), libtorch }
}

/** Takes the first LibTorch in the documented order; fetches one when there is none. */
export async function findLibtorch(options: SetupOptions, surroundings: Surroundings): Promise<Libtorch> {
  const { env, home, reporter } = surroundings
  const cuda = options.cuda ?? false
  const named = namedLibtorch(options.libtorch, env, cuda)
  const unused = ['wheel', 'mirror'].filter((name) => options[name as 'wheel' | 'mirror'] !== undefined)
  const note = (found: Libtorch): Libtorch => {
    for (const name of unused)
      reporter.line(
        `--${name} is not used, because nothing is fetched: there is LibTorch ${found.version} in ${found.root}`,
      )
    return found
  }
  if (named) return note(named)
  const cached = cachedLibtorchs(home).find((found) => found.cuda || !cuda)
  if (cached) return note(cached)
  const python = await surroundings.python()
  const torch = pythonLibtorch(python, cuda, reporter.line)
  if (torch) return note(torch)
  mkdirSync(home, { recursive: true })
  const { wheel, mirror, sha256 } = options
  const { platform, arch, glibc } = surroundings
  return await fetchLibtorch(
    { cuda, wheel, mirror, sha256 },
    { home, python, env, platform, arch, glibc, reporter, ...surroundings.fetch },
  )
}
