// Where things are: the package itself, and the per-user cache that `trislot setup` fills.
import { spawnSync } from 'node:child_process'
import { existsSync, readFileSync } from 'node:fs'
import { homedir } from 'node:os'
import { dirname, join, posix, win32 } from 'node:path'
import { SetupError } from '../errors.ts'
import setupFolder from './root.cts'

/** Folder of trislot's package.json, found upwards from this file: a source checkout or an installed package. */
export function packageRoot(): string {
  for (let folder = setupFolder; ; folder = dirname(folder)) {
    try {
      const found = JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8')) as { name?: string }
      if (found.name === 'trislot') return folder
    } catch {}
    if (folder === dirname(folder)) {
      throw new SetupError(
        `trislot: expected a package.json named trislot above ${setupFolder}, got none; install trislot again`,
      )
    }
  }
}

/** This library's version, as its package.json says; `unknown` when that cannot be read. */
export function packageVersion(root: string = packageRoot()): string {
  try {
    return (JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as { version: string }).version
  } catch {
    return 'unknown'
  }
}

/** The version and, in a git checkout, its commit: `0.1.0+9dc431a`, with `.dirty` where files differ from it. */
export function sourceVersion(root: string = packageRoot()): string {
  const version = packageVersion(root)
  if (!existsSync(join(root, '.git'))) return version
  const git = (...words: string[]): string | undefined => {
    const { status, stdout } = spawnSync('git', ['-C', root, ...words], { encoding: 'utf8' })
    return status === 0 ? stdout.trim() : undefined
  }
  const commit = git('rev-parse', '--short', 'HEAD')
  if (commit === undefined) return version
  return `${version}+${commit}${git('status', '--porcelain', '--untracked-files=no') ? '.dirty' : ''}`
}

/**
 * Home of everything that `trislot setup` makes: TRISLOT_HOME, else XDG_CACHE_HOME/trislot, else the platform's per-user
 * cache folder. Never inside node_modules or the package, so that one LibTorch serves every project.
 */
export function cacheHome(
  env: NodeJS.ProcessEnv = process.env,
  platform: NodeJS.Platform = process.platform,
  home: string = homedir(),
): string {
  const path = platform === 'win32' ? win32 : posix
  if (env.TRISLOT_HOME) return path.resolve(env.TRISLOT_HOME)
  if (env.XDG_CACHE_HOME) return path.join(env.XDG_CACHE_HOME, 'trislot')
  if (platform === 'darwin') return path.join(home, 'Library', 'Caches', 'trislot')
  if (platform === 'win32')
    return path.join(env.LOCALAPPDATA ?? path.join(home, 'AppData', 'Local'), 'trislot')
  return path.join(home, '.cache', 'trislot')
}

/** Folder of the addon built from the native sources of this fingerprint. */
export function addonFolder(home: string, fingerprint: string): string {
  return join(home, 'addons', fingerprint)
}
