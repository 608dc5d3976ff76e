// One number for everything that the addon's bytes depend on, apart from LibTorch.
import { createHash } from 'node:crypto'
import { readdirSync, readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { join } from 'node:path'

/**
 * Names the native sources: the first 16 hexadecimal digits of a sha256 over native/, CMakeLists.txt, node-addon-api's
 * version, platform and architecture. Takes a few milliseconds, so it is done at every load.
 */
export function fingerprint(
  root: string,
  platform: string = process.platform,
  arch: string = process.arch,
): string {
  const hash = createHash('sha256')
  const names = readdirSync(join(root, 'native'), { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath ?? entry.path, entry.name).slice(root.length + 1))
    .map((name) => name.replaceAll('\\', '/'))
    .sort()
  for (const name of ['CMakeLists.txt', ...names]) {
    const bytes = readFileSync(join(root, name))
    hash.update(`${name}\0${bytes.length}\0`).update(bytes)
  }
  hash.update(`node-addon-api ${nodeAddonApiVersion(root)}\0${platform}-${arch}`)
  return hash.digest('hex').slice(0, 16)
}

function nodeAddonApiVersion(root: string): string {
  const file = createRequire(join(root, 'package.json')).resolve('node-addon-api/package.json')
  return (JSON.parse(readFileSync(file, 'utf8')) as { version: string }).version
}
