// `trislot doctor`: everything that a maintainer asks for, and a tiny forward-backward.
import { readFileSync } from 'node:fs'
import { cpus, totalmem } from 'node:os'
import { freeMemory } from '../free-memory.ts'
import { describeRule } from './libtorch.ts'
import { locateAddon } from './locate.ts'
import { cacheHome, packageRoot, packageVersion } from './paths.ts'
import { proveAddon } from './prove.ts'
import { megabytes } from './report.ts'
import { glibcVersion } from './setup.ts'

/** What doctor asks of the native side. */
export interface DoctorNative {
  /** Facts about LibTorch at run time: threads, BLAS, oneDNN, CPU capability, CUDA. */
  runtimeInfo(): Promise<Record<string, unknown>>
  /** A tiny forward and backward. */
  selfTest(): Promise<{ loss: number; gradNorm: number }>
}

/** The answers of doctor; `ok` is false when `problems` has any. */
export interface DoctorReport {
  readonly ok: boolean
  readonly problems: readonly string[]
  readonly trislot: string
  readonly node: string
  readonly platform: string
  /** glibc and its version, or what else there is. */
  readonly libc: string
  /** First line of the NVIDIA driver's version file, or `none`. */
  readonly cudaDriver: string
  readonly cores: number
  readonly memory: { readonly totalBytes: number; readonly freeBytes: number }
  readonly cache: string
  readonly addon?: {
    readonly file: string
    readonly compiler: string
    readonly provedWith: string
    readonly provedAt: string
  }
  readonly libtorch?: {
    readonly version: string
    readonly root: string
    readonly rule: string
    readonly cuda: boolean
  }
  readonly runtime?: Readonly<Record<string, unknown>>
  readonly selfTest?: { readonly loss: number; readonly gradNorm: number }
}

/** Where doctor looks; by default this package and this user's cache. */
export interface DoctorPlace {
  readonly root?: string
  readonly home?: string
}

/**
 * Examines the installation and never throws: what is broken is listed in `problems`, each with its way out. The addon is
 * loaded in a child process first, so that a crash is a finding and not the end of doctor.
 */
export async function doctor(
  loadNative: () => Promise<DoctorNative> = loadOwnNative,
  place: DoctorPlace = {},
): Promise<DoctorReport> {
  const problems: string[] = []
  const attempt = async <T>(work: () => T | Promise<T>): Promise<T | undefined> => {
    try {
      return await work()
    } catch (error) {
      problems.push(error instanceof Error ? error.message : String(error))
      return undefined
    }
  }
  const root = place.root ?? (await attempt(packageRoot))
  const home = place.home ?? cacheHome()
  const located = root === undefined ? undefined : await attempt(() => locateAddon(root, home))
  const proved = located && (await attempt(() => proveAddon(located.addonFile)))
  const native = proved === undefined ? undefined : await attempt(loadNative)
  const runtime = native && (await attempt(() => native.runtimeInfo()))
  const selfTest = native && (await attempt(() => native.selfTest()))
  if (
    selfTest &&
    !(Number.isFinite(selfTest.loss) && Number.isFinite(selfTest.gradNorm) && selfTest.gradNorm > 0)
  ) {
    problems.push(
      `doctor: expected the forward-backward to give a finite loss and gradient, got loss ${selfTest.loss} and gradient norm ${selfTest.gradNorm}`,
    )
  }
  const libc = glibcVersion()
  const record = located?.record
  return {
    ok: problems.length === 0,
    problems,
    trislot: root === undefined ? 'unknown' : packageVersion(root),
    node: process.version,
    platform: `${process.platform}-${process.arch}`,
    libc: libc ? `glibc ${libc}` : process.platform === 'linux' ? 'not glibc' : 'system',
    cudaDriver: cudaDriver(),
    cores: cpus().length,
    memory: { totalBytes: totalmem(), freeBytes: freeMemory() },
    cache: home,
    ...(located && record
      ? {
          addon: {
            file: located.addonFile,
            compiler: record.compiler,
            provedWith: record.provedWith,
            provedAt: record.provedAt,
          },
          libtorch: {
            version: located.libtorchVersion,
            root: located.libtorchRoot,
            rule: describeRule(record.rule),
            cuda: record.cuda,
          },
        }
      : {}),
    ...(runtime ? { runtime } : {}),
    ...(selfTest ? { selfTest } : {}),
  }
}

// Imported late: doctor has to work, and to explain, when nothing is built.
async function loadOwnNative(): Promise<DoctorNative> {
  const addon = (await import('../native.ts')).native()
  return { runtimeInfo: () => addon.runtimeInfo(), selfTest: () => addon.selfTest('cpu') }
}

function cudaDriver(): string {
  try {
    return readFileSync('/proc/driver/nvidia/version', 'utf8').split('\n')[0]!.trim()
  } catch {
    return 'none'
  }
}

/** The report as lines of text, one fact a line. */
export function formatReport(report: DoctorReport): string {
  const facts: [string, unknown][] = [
    ['trislot', report.trislot],
    ['Node', report.node],
    ['platform', `${report.platform}, ${report.libc}, ${report.cores} cores`],
    ['memory', `${megabytes(report.memory.freeBytes)} free of ${megabytes(report.memory.totalBytes)}`],
    ['CUDA driver', report.cudaDriver],
    ['cache', report.cache],
  ]
  const { addon, libtorch, selfTest } = report
  if (addon) facts.push(['addon', `${addon.file} (${addon.compiler}, loaded with Node ${addon.provedWith})`])
  if (libtorch) {
    facts.push(['LibTorch', `${libtorch.version}, ${libtorch.cuda ? 'with' : 'without'} CUDA libraries`])
    facts.push(['LibTorch found', `${libtorch.rule}: ${libtorch.root}`])
  }
  facts.push(...Object.entries(report.runtime ?? {}))
  if (selfTest)
    facts.push([
      'forward-backward',
      `loss ${selfTest.loss.toFixed(6)}, gradient norm ${selfTest.gradNorm.toFixed(6)}`,
    ])
  const width = Math.max(...facts.map(([name]) => name.length))
  const lines = facts.map(
    ([name, value]) =>
      `${name.padEnd(width)}  ${asText(value).replaceAll('\n', `\n${' '.repeat(width + 2)}`)}`,
  )
  lines.push(...report.problems.map((problem) => `PROBLEM: ${problem}`))
  lines.push(
    report.ok
      ? 'everything works'
      : `${report.problems.length} problem${report.problems.length === 1 ? '' : 's'}`,
  )
  return lines.join('\n')
}

function asText(value: unknown): string {
  return (typeof value === 'object' && value !== null ? JSON.stringify(value) : String(value)).trim()
}
