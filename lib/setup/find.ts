// Finds LibTorch in a fixed order; fetching is what remains when nothing here matches.
import { readdirSync, readFileSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { SetupError } from '../errors.ts'
import {
  checkSupported,
  inspectLibtorch,
  isSupported,
  type Libtorch,
  type LibtorchRule,
  supportedText,
} from './libtorch.ts'
import type { Python } from './python.ts'

/** complete.json, written last into a LibTorch of the cache. */
export interface CompleteRecord {
  readonly format: 1
  readonly version: string
  readonly cuda: boolean
  /** The sha256 of every file that was unpacked, by file name. */
  readonly sources: Readonly<Record<string, string>>
  /** Size in bytes of every shared library, by path below the folder. */
  readonly libraries: Readonly<Record<string, number>>
}

/** The LibTorch that the user names: `--libtorch`, else LIBTORCH. One that is named and unusable is an error, never passed over. */
export function namedLibtorch(
  option: string | undefined,
  env: NodeJS.ProcessEnv,
  cuda = false,
): Libtorch | undefined {
  const [folder, rule]: [string | undefined, LibtorchRule] =
    option !== undefined ? [option, 'option'] : [env.LIBTORCH || undefined, 'environment']
  if (folder === undefined) return undefined
  const name = rule === 'option' ? '--libtorch' : 'LIBTORCH'
  const found = inspectLibtorch(folder, rule)
  if (found === undefined) {
    throw new SetupError(
      `trislot setup: expected ${name} to be a LibTorch folder (lib/ and include/, with its version file), got ${JSON.stringify(folder)}`,
    )
  }
  checkSupported('trislot setup', found)
  if (cuda && !found.cuda) {
    throw new SetupError(
      `trislot setup: expected ${name} to hold a CUDA LibTorch, because of --cuda, got ${found.root} without libtorch_cuda; leave out --cuda or ${name}`,
    )
  }
  return found
}

/** LibTorchs in the cache that are whole and supported, the one to take first: with CUDA before without, then newest. */
export function cachedLibtorchs(home: string): Libtorch[] {
  let names: string[]
  try {
    names = readdirSync(join(home, 'libtorch')).filter((name) => !name.startsWith('.'))
  } catch {
    return []
  }
  return names
    .filter((name) => isWhole(join(home, 'libtorch', name)))
    .map((name) => inspectLibtorch(join(home, 'libtorch', name), 'cache'))
    .filter((found): found is Libtorch => found !== undefined && isSupported(found.version))
    .sort(
      (a, b) =>
        Number(b.cuda) - Number(a.cuda) || b.version.localeCompare(a.version, 'en', { numeric: true }),
    )
}

/** Whether the libraries of a LibTorch in the cache have the sizes with which they were unpacked. */
export function isWhole(folder: string): boolean {
  try {
    const record = JSON.parse(readFileSync(join(folder, 'complete.json'), 'utf8')) as CompleteRecord
    return Object.entries(record.libraries).every(
      ([path, bytes]) => statSync(join(folder, path)).size === bytes,
    )
  } catch {
    return false
  }
}

/** The torch of the active Python when it serves; `note` gets a line when there is one that does not. */
export function pythonLibtorch(
  python: Python | undefined,
  cuda: boolean,
  note: (line: string) => void,
): Libtorch | undefined {
  if (python?.torchFolder === undefined) return undefined
  const found = inspectLibtorch(python.torchFolder, 'python')
  const problem =
    found === undefined
      ? 'has no headers, libraries or version'
      : !isSupported(found.version)
        ? `is ${found.version}, supported are ${supportedText}`
        : cuda && !found.cuda
          ? 'has no libtorch_cuda, which --cuda needs'
          : undefined
  if (problem === undefined) return found
  note(`passed over: the torch of the active Python (${python.torchFolder}) ${problem}`)
  return undefined
}
