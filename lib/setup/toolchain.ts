// The compiler and CMake of this machine, checked before a build so that a lack is one clear sentence.
import { existsSync } from 'node:fs'
import { delimiter, join } from 'node:path'
import { SetupError } from '../errors.ts'
import { run } from './run.ts'

/** The tools that a build uses. */
export interface Toolchain {
  /** C++ compiler command; undefined where CMake chooses (Windows). */
  readonly cxx: string | undefined
  /** Such as `g++ 12.2.0`. */
  readonly compiler: string
  readonly cmakeVersion: string
}

const minimum = { gcc: 11, clang: 14, cmake: [3, 18] } as const

/** Finds g++ >= 11 or clang >= 14 (CXX first) and CMake >= 3.18, or throws with the command that installs what is missing. */
export async function checkToolchain(
  env: NodeJS.ProcessEnv = process.env,
  platform: NodeJS.Platform = process.platform,
): Promise<Toolchain> {
  const problems: string[] = []
  const compiler = platform === 'win32' ? { name: 'MSVC', cxx: undefined } : await findCompiler(env, problems)
  const cmakeVersion = (await run('cmake', ['--version'], { env }))?.stdout.match(
    /version (\d+\.\d+[\w.-]*)/,
  )?.[1]
  const [major = 0, minor = 0] = (cmakeVersion ?? '').split('.').map(Number)
  if (cmakeVersion === undefined) problems.push('expected CMake 3.18 or newer, got none')
  else if (major * 1000 + minor < minimum.cmake[0] * 1000 + minimum.cmake[1]) {
    problems.push(`expected CMake 3.18 or newer, got ${cmakeVersion}`)
  }
  if (
    platform !== 'win32' &&
    !(await run('make', ['--version'], { env })) &&
    !(await run('ninja', ['--version'], { env }))
  ) {
    problems.push('expected make or ninja, got neither')
  }
  if (problems.length > 0 || compiler === undefined) {
    throw new SetupError(`trislot setup: ${problems.join('; ')}; ${installHint(env, platform)}`)
  }
  return { cxx: compiler.cxx, compiler: compiler.name, cmakeVersion: cmakeVersion! }
}

async function findCompiler(
  env: NodeJS.ProcessEnv,
  problems: string[],
): Promise<{ cxx: string; name: string } | undefined> {
  const newest = [16, 15, 14, 13, 12, 11].map((version) => `g++-${version}`)
  const candidates = env.CXX ? [env.CXX] : ['c++', 'g++', 'clang++', ...newest]
  const tooOld: string[] = []
  for (const cxx of candidates) {
    const answer = await run(cxx, ['--version'], { env })
    if (answer?.code !== 0) continue
    const clang = /clang version (\d+)([\d.]*)/.exec(answer.stdout)
    const gcc = clang ? undefined : /^.*\) (\d+)([\d.]*)/.exec(answer.stdout)
    const found = clang ?? gcc
    if (!found) continue
    const name = `${clang ? 'clang' : 'g++'} ${found[1]}${found[2]}`
    if (Number(found[1]) >= (clang ? minimum.clang : minimum.gcc)) return { cxx, name }
    tooOld.push(name)
  }
  const got = tooOld.length > 0 ? [...new Set(tooOld)].join(', ') : env.CXX ? `CXX=${env.CXX}` : 'none'
  problems.push(`expected a C++20 compiler, g++ 11 or clang 14 or newer, got ${got}`)
  return undefined
}

function installHint(env: NodeJS.ProcessEnv, platform: NodeJS.Platform): string {
  if (platform === 'win32') return 'install Visual Studio Build Tools (C++ workload) and CMake'
  const has = (program: string) =>
    (env.PATH ?? '').split(delimiter).some((folder) => existsSync(join(folder, program)))
  const commands: Record<string, string> = {
    'apt-get': 'sudo apt-get install g++ cmake make',
    dnf: 'sudo dnf install gcc-c++ cmake make',
    brew: 'xcode-select --install; brew install cmake',
  }
  const known = Object.keys(commands).filter(has)
  return `install with: ${(known.length > 0 ? known.slice(0, 1) : Object.keys(commands)).map((name) => commands[name]).join(' | ')}`
}
