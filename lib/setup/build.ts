// Builds the addon with cmake-js: Node-API headers come from a package, so nothing is downloaded.
import { createHash } from 'node:crypto'
import { existsSync, mkdirSync, rmSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { cpus } from 'node:os'
import { dirname, join } from 'node:path'
import { SetupError } from '../errors.ts'
import { freeMemory } from '../free-memory.ts'
import type { Libtorch } from './libtorch.ts'
import type { Reporter } from './report.ts'
import { run } from './run.ts'
import type { Toolchain } from './toolchain.ts'

const bytesPerCompiler = 1.5e9

/** Compilers to run side by side: one a core, and no more than free memory holds at 1.5 GB each. */
export function parallelJobs(cores: number = cpus().length, freeBytes: number = freeMemory()): number {
  return Math.max(1, Math.min(cores, Math.floor(freeBytes / bytesPerCompiler)))
}

export interface BuildOptions {
  readonly root: string
  readonly home: string
  readonly libtorch: Libtorch
  readonly toolchain: Toolchain
  readonly jobs: number
  /** Leave the build folder, so that the next build compiles only what has changed. */
  readonly keepBuild: boolean
  readonly env: NodeJS.ProcessEnv
  readonly reporter: Reporter
}

/** Compiles the addon and hands the built file to `use` before the build folder goes; throws a SetupError that names the log. */
export async function buildAddon<T>(options: BuildOptions, use: (file: string) => Promise<T>): Promise<T> {
  const { root, home, libtorch, toolchain, jobs, reporter } = options
  const name = createHash('sha256')
    .update([root, libtorch.root, libtorch.version, toolchain.cxx, toolchain.compiler].join('\0'))
    .digest('hex')
    .slice(0, 16)
  const folder = join(home, 'builds', name)
  const kept = join(folder, 'kept')
  const log = join(home, 'logs', `build-${name}.log`)
  if (!existsSync(kept)) rmSync(folder, { recursive: true, force: true })
  mkdirSync(folder, { recursive: true })
  mkdirSync(dirname(log), { recursive: true })
  reporter.line(
    `building the addon with ${toolchain.compiler}, CMake ${toolchain.cmakeVersion}, ${jobs} at a time`,
  )
  const cmakeJs = createRequire(join(root, 'package.json')).resolve('cmake-js/package.json')
  const finished = await run(
    process.execPath,
    [
      ...[join(dirname(cmakeJs), 'bin', 'cmake-js'), 'build', '--directory', root, '--out', folder],
      ...['--config', 'Release', '--parallel', String(jobs), `--CDTRISLOT_LIBTORCH=${libtorch.root}`],
      ...(toolchain.cxx === undefined ? [] : ['--cxx', toolchain.cxx]),
    ],
    {
      cwd: folder,
      env: options.env,
      onLine(line) {
        const percent = /^\[\s*(\d+)%\]/.exec(line)
        const count = /^\[(\d+)\/(\d+)\]/.exec(line)
        if (percent) reporter.progress('compiling', Number(percent[1]), 100)
        else if (count) reporter.progress('compiling', Number(count[1]), Number(count[2]))
      },
    },
  )
  const output = `${finished?.stdout ?? ''}${finished?.stderr ?? ''}`
  const file = join(folder, 'Release', 'trislot.node')
  try {
    if (finished?.code !== 0 || !existsSync(file)) {
      writeFileSync(log, output)
      const ended = finished?.signal
        ? `the build was ended by ${finished.signal}`
        : 'the addon did not compile'
      const hint = /Killed|signal terminated|out of memory/i.test(output)
        ? '; memory ran out: use fewer compilers at once with --jobs 1'
        : ''
      throw new SetupError(
        `trislot setup: ${ended}${hint}; the whole log is in ${log}\n${firstErrors(output)}`,
      )
    }
    rmSync(log, { force: true })
    return await use(file)
  } finally {
    if (options.keepBuild || existsSync(kept)) writeFileSync(kept, '')
    else rmSync(folder, { recursive: true, force: true })
  }
}

function firstErrors(output: string): string {
  const lines = output.split(/\r?\n/)
  const errors = lines.filter((line) => /error|undefined reference|CMake Error/i.test(line))
  return (errors.length > 0 ? errors.slice(0, 6) : lines.filter((line) => line.trim() !== '').slice(-10))
    .map((line) => `  ${line.slice(0, 300)}`)
    .join('\n')
}
