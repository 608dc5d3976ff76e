// npm run pack:check: packs, installs the tarball into an empty project, and uses it there as a stranger would.
import { spawnSync } from 'node:child_process'
import { cpSync, existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

const require = createRequire(import.meta.url)
const folder = mkdtempSync(join(tmpdir(), 'trislot-pack-'))
const run = (program, argv, cwd = folder) => {
  console.log(`$ ${[program, ...argv].join(' ')}`)
  const { status, signal, stdout } = spawnSync(program, argv, {
    cwd,
    stdio: ['ignore', 'pipe', 'inherit'],
    encoding: 'utf8',
    maxBuffer: 1 << 28,
  })
  if (status === 0) return stdout
  console.log(stdout)
  throw new Error(`${program} ${argv[0]} ended with ${signal ?? status}`)
}
const show = (text) => console.log(text.trimEnd())

try {
  const [packed] = JSON.parse(
    run('npm', ['pack', '--json', '--pack-destination', folder], '.').replace(/^[^[]*/, ''),
  )
  console.log(`${packed.filename}: ${packed.files.length} files, ${packed.size} bytes`)
  checkContents(packed.files.map(({ path }) => path))
  show(run('npx', ['--no-install', 'publint'], '.'))

  writeFileSync(join(folder, 'package.json'), '{ "private": true }\n')
  show(run('npm', ['install', '--no-audit', '--no-fund', join(folder, packed.filename)]))
  // From a lockfile npm would run node-gyp, if it found a binding.gyp.
  show(run('npm', ['ci', '--no-audit', '--no-fund']))
  if (existsSync(join(folder, 'node_modules/trislot/build'))) throw new Error('npm ci ran something of ours')

  // The imports need no addon: it is loaded at its first use.
  const names = "Object.keys(trislot).filter((name) => name !== 'default').sort().join()"
  writeFileSync(join(folder, 'esm.mjs'), `import * as trislot from 'trislot'\nconsole.log(${names})\n`)
  writeFileSync(join(folder, 'cjs.cjs'), `const trislot = require('trislot')\nconsole.log(${names})\n`)
  const [esm, cjs] = ['esm.mjs', 'cjs.cjs'].map((file) => run(process.execPath, [file]).trim())
  if (esm === '' || esm !== cjs) throw new Error(`import and require differ:\n${esm}\n${cjs}`)

  checkTypes()
  show(run('npx', ['--no-install', 'trislot', 'setup']))
  show(run('npx', ['--no-install', 'trislot', 'doctor']))
  cpSync('scripts/pack-smoke.mjs', join(folder, 'pack-smoke.mjs'))
  show(run(process.execPath, ['pack-smoke.mjs']))
  console.log('the packed package works')
} finally {
  rmSync(folder, { recursive: true, force: true })
}

function checkContents(paths) {
  const { files, exports: entries, bin } = JSON.parse(readFileSync('package.json', 'utf8'))
  const needed = [
    ...[
      'LICENSE',
      'README.md',
      'CHANGELOG.md',
      'CMakeLists.txt',
      'dist/cjs/package.json',
      bin.trislot.slice(2),
    ],
    ...Object.values(entries['.']).flatMap(({ types, default: code }) => [types.slice(2), code.slice(2)]),
  ]
  const missing = [
    ...needed.filter((path) => !paths.includes(path)),
    ...files
      .filter((entry) => !entry.startsWith('!'))
      .map((entry) => entry.replace(/\/\*.*$/, ''))
      .filter((entry) => !paths.some((path) => path === entry || path.startsWith(`${entry}/`))),
  ]
  const foreign = paths.filter(
    (path) => /^(lib|test|bench|node_modules|docs\/(api|results))\//.test(path) || /\.node$/.test(path),
  )
  if (missing.length > 0) throw new Error(`missing in the package: ${missing.join(', ')}`)
  if (foreign.length > 0) throw new Error(`not to be in the package: ${foreign.join(', ')}`)
}

// Both kinds of consumer, strictly, with declarations of dependencies left out.
function checkTypes() {
  const source = "import * as trislot from 'trislot'\nexport const names: string[] = Object.keys(trislot)\n"
  writeFileSync(join(folder, 'esm.mts'), source)
  writeFileSync(join(folder, 'cjs.cts'), source)
  const options = ['--strict', '--noEmit', '--module', 'nodenext', '--target', 'es2022', '--types', 'node']
  const roots = ['--typeRoots', join(process.cwd(), 'node_modules/@types')]
  const tsc = require.resolve('typescript/bin/tsc')
  show(run(process.execPath, [tsc, ...options, '--skipLibCheck', 'false', ...roots, 'esm.mts', 'cjs.cts']))
}
