// Checks the layout of C++ sources with clang-format; `node scripts/lint-native.mjs --fix` repairs it.
import { spawnSync } from 'node:child_process'
import { readdirSync } from 'node:fs'
import { createRequire } from 'node:module'

const clangFormat = createRequire(import.meta.url)('clang-format').getNativeBinary()
const files = ['native', 'test/native', 'bench/native'].flatMap((folder) =>
  readdirSync(folder, { recursive: true })
    .filter((name) => /\.(h|cpp)$/.test(name))
    .map((name) => `${folder}/${name}`),
)
const mode = process.argv.includes('--fix') ? ['-i'] : ['--dry-run', '-Werror']
const { status } = spawnSync(clangFormat, [...mode, ...files], { stdio: 'inherit' })
process.exit(status ?? 1)
