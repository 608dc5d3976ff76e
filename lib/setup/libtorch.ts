// What a LibTorch folder is, which version it holds, and whether this library supports it.
import { existsSync, readFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { SetupError } from '../errors.ts'

/** Where LibTorch was found, in the order in which the places are asked. */
export type LibtorchRule = 'option' | 'environment' | 'cache' | 'python' | 'fetched'

/** A LibTorch on disk: `root` holds include/ and lib/. */
export interface Libtorch {
  readonly root: string
  /** As its version file says, such as `2.15.0+cu132`. */
  readonly version: string
  /** True when lib/ holds libtorch_cuda. */
  readonly cuda: boolean
  readonly rule: LibtorchRule
}

/** LibTorch versions whose headers and libraries this library compiles against: [first, end), as minor releases. */
export const supportedLibtorch = { first: [2, 11], end: [2, 16] } as const
export const supportedText = '2.11 to 2.15'

/** One line that says by which rule a LibTorch was taken. */
export function describeRule(rule: LibtorchRule): string {
  return {
    option: 'named by --libtorch',
    environment: 'named by LIBTORCH',
    cache: 'in the cache that setup filled',
    python: 'the torch of the active Python',
    fetched: 'fetched',
  }[rule]
}

/** True for a version in the supported range; a local part (`+cpu`) does not matter, a pre-release counts as its release. */
export function isSupported(version: string): boolean {
  const parts = /^(\d+)\.(\d+)/.exec(version)
  if (!parts) return false
  const rank = Number(parts[1]) * 1000 + Number(parts[2])
  const [first, end] = [supportedLibtorch.first, supportedLibtorch.end].map(([a, b]) => a * 1000 + b)
  return rank >= first! && rank < end!
}

const libraryNames: Partial<Record<NodeJS.Platform, (name: string) => string>> = {
  darwin: (name) => `lib${name}.dylib`,
  win32: (name) => `${name}.dll`,
}

/** File name of a shared library, such as libtorch_cpu.so. */
export function libraryFile(name: string, platform: NodeJS.Platform = process.platform): string {
  return libraryNames[platform]?.(name) ?? `lib${name}.so`
}

/** The folder with include/ and lib/: the given one, or `torch` or `libtorch` inside it; undefined when there is none. */
export function libtorchRoot(folder: string): string | undefined {
  return [folder, join(folder, 'torch'), join(folder, 'libtorch')]
    .map((candidate) => resolve(candidate))
    .find(
      (candidate) =>
        existsSync(join(candidate, 'include', 'ATen', 'ATen.h')) &&
        existsSync(join(candidate, 'lib', libraryFile('torch_cpu'))),
    )
}

/** The version a LibTorch folder states: version.py of a wheel, build-version of an archive, else the headers. */
export function readVersion(root: string): string | undefined {
  const python = read(join(root, 'version.py'))?.match(/^__version__\s*(?::[^=]*)?=\s*['"]([^'"]+)['"]/m)?.[1]
  if (python) return python
  const stated = read(join(root, 'build-version'))?.trim()
  if (stated) return stated
  for (const header of ['torch/headeronly/version.h', 'torch/csrc/api/include/torch/version.h']) {
    const text = read(join(root, 'include', header))
    const numbers = ['MAJOR', 'MINOR', 'PATCH'].map(
      (part) => text?.match(new RegExp(`#define TORCH_VERSION_${part} (\\d+)`))?.[1],
    )
    if (numbers.every((number) => number !== undefined)) return numbers.join('.')
  }
  return undefined
}

function read(file: string): string | undefined {
  try {
    return readFileSync(file, 'utf8')
  } catch {
    return undefined
  }
}

/** Looks at one folder; undefined when it holds no LibTorch. The version is not judged here. */
export function inspectLibtorch(folder: string, rule: LibtorchRule): Libtorch | undefined {
  const root = libtorchRoot(folder)
  const version = root === undefined ? undefined : readVersion(root)
  if (root === undefined || version === undefined) return undefined
  return { root, version, rule, cuda: existsSync(join(root, 'lib', libraryFile('torch_cuda'))) }
}

/** Throws when the version is out of range: found, required, where from, and what to do. */
export function checkSupported(call: string, libtorch: Libtorch): void {
  if (isSupported(libtorch.version)) return
  throw new SetupError(
    `${call}: expected LibTorch ${supportedText}, got ${libtorch.version} at ${libtorch.root} (${describeRule(libtorch.rule)}); ${remedy(libtorch.rule)}`,
  )
}

function remedy(rule: LibtorchRule): string {
  if (rule === 'option') return 'name another folder with --libtorch, or leave it out: npx trislot setup'
  if (rule === 'environment')
    return 'name another folder in LIBTORCH, or unset it: unset LIBTORCH; npx trislot setup'
  return 'npx trislot setup'
}
