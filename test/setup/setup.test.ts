import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { expect } from 'chai'
import { parallelJobs } from '../../lib/setup/build.ts'
import { fingerprint } from '../../lib/setup/fingerprint.ts'
import { libraryFile } from '../../lib/setup/libtorch.ts'
import { locateAddon } from '../../lib/setup/locate.ts'
import { defaultSurroundings, type SetupOptions, setup } from '../../lib/setup/setup.ts'
import { checkToolchain } from '../../lib/setup/toolchain.ts'
import {
  addonSource,
  fakeLibtorch,
  rejection,
  surroundings,
  temporaryFolders,
  tinyPackage,
  writeFiles,
} from './support.ts'

// These build a real addon of ten lines with the real compiler, in a package of its own.
describe('setup', function () {
  this.timeout(120_000)
  const temporary = temporaryFolders()
  const prepare = (body?: string) => {
    const here = surroundings(tinyPackage(temporary(), body), join(temporary(), 'home'))
    return { here, libtorch: fakeLibtorch(temporary(), '2.15.0+cpu') }
  }

  it('builds, loads in a child process and records; does nothing the second time', async () => {
    const { here, libtorch } = prepare()
    const first = await setup({ libtorch }, here)
    expect(first).to.deep.include({
      built: true,
      libtorch: { root: libtorch, version: '2.15.0+cpu', cuda: false, rule: 'option' },
    })
    expect(here.reporter.lines).to.include(`LibTorch 2.15.0+cpu named by --libtorch: ${libtorch}`)
    const located = locateAddon(here.root, here.home)
    expect(located).to.include({
      addonFile: first.addonFile,
      libtorchRoot: libtorch,
      libtorchVersion: '2.15.0+cpu',
      rule: 'option',
    })
    expect(located.record).to.include({ provedWith: process.version, fingerprint: fingerprint(here.root) })
    expect(await readdir(join(here.home, 'builds'))).to.deep.equal([])
    expect(await readdir(here.root)).to.have.members([
      'CMakeLists.txt',
      'native',
      'node_modules',
      'package.json',
    ])

    const second = await setup({}, here)
    expect(second).to.deep.include({ built: false, addonFile: first.addonFile, libtorch: first.libtorch })
    expect(here.reporter.lines.at(-2)).to.equal(`LibTorch 2.15.0+cpu (named by --libtorch): ${libtorch}`)
    expect(here.reporter.lines.at(-1)).to.match(/already built, \d\.\d s\)$/)

    // The same addon with another LibTorch named, then with the LibTorch replaced under it.
    const other = fakeLibtorch(temporary(), '2.15.0')
    expect(await setup({ libtorch: other, keepBuild: true }, here)).to.deep.include({ built: true })
    expect(await readdir(join(here.home, 'builds'))).to.have.length(1)
    writeFiles(other, { 'version.py': "__version__ = '2.14.0'\n" })
    expect(() => locateAddon(here.root, here.home)).to.throw(
      `trislot: expected LibTorch 2.15.0, against which the addon was built, at ${other} (named by --libtorch), got 2.14.0; run: npx trislot setup`,
    )
    writeFileSync(first.addonFile, 'cut')
    expect(() => locateAddon(here.root, here.home)).to.throw(/bytes, got 3; run: npx trislot setup --force$/)
  })

  it('is not ready where its LibTorch in the cache has lost a library, and fetches it anew', async () => {
    const { here } = prepare()
    const { LIBTORCH: _, ...env } = process.env
    const alone = { ...here, env, python: async () => undefined, platform: 'sunos' as const }
    const cached = join(here.home, 'libtorch', '2.15.0-cpu')
    fakeLibtorch(join(cached, 'torch'), '2.15.0')
    const library = join('torch', 'lib', libraryFile('torch_cpu'))
    writeFiles(cached, { 'complete.json': JSON.stringify({ libraries: { [library]: 0 } }) })
    expect((await setup({}, alone)).built).to.equal(true)
    expect((await setup({}, alone)).built).to.equal(false)
    writeFileSync(join(cached, library), 'cut')
    expect(await rejection(setup({}, alone))).to.match(/^trislot setup: expected Linux on x86-64, for which/)
  })

  it('builds once when two run at the same time', async () => {
    const { here, libtorch } = prepare()
    const reports = await Promise.all([setup({ libtorch }, here), setup({ libtorch }, here)])
    expect(reports.map(({ built }) => built)).to.have.members([true, false])
    expect(here.reporter.lines).to.include(
      `another trislot setup is running (process ${process.pid}): waiting`,
    )
  })

  it('turns a crash while loading into a sentence and records nothing', async () => {
    const { here, libtorch } = prepare('abort(); return nullptr;')
    expect(await rejection(setup({ libtorch }, here))).to.match(
      /^trislot setup: loading .*trislot\.node in a child process was ended by SIGABRT/,
    )
    expect(await readdir(join(here.home, 'addons'))).to.deep.equal([])
    expect(() => locateAddon(here.root, here.home)).to.throw(
      `trislot: expected a native addon built from these sources in ${join(here.home, 'addons', fingerprint(here.root))}, got none; run: npx trislot setup`,
    )
  })

  it('shows what the loader says of an addon that does not load', async () => {
    const { here, libtorch } = prepare('void missing_symbol(); missing_symbol(); return nullptr;')
    expect(await rejection(setup({ libtorch }, here))).to.match(
      /in a child process failed with exit code 1\n {2}.*trislot\.node: undefined symbol: \S*missing_symbol\S*$/,
    )
  })

  it('refuses an addon that runs with another LibTorch than the one found', async () => {
    const { here, libtorch } = prepare('return text(env, "2.12.0");')
    expect(await rejection(setup({ libtorch }, here))).to.contain(
      `expected the addon to run with LibTorch 2.15.0+cpu of ${libtorch}, got 2.12.0; another LibTorch comes first: look at LD_LIBRARY_PATH and LD_PRELOAD`,
    )
  })

  it('refuses sources that change while they are compiled', async () => {
    const { here, libtorch } = prepare()
    const list = readFileSync(join(here.root, 'CMakeLists.txt'), 'utf8')
    writeFiles(here.root, { 'CMakeLists.txt': `${list}file(WRITE \${CMAKE_SOURCE_DIR}/native/new.h "")\n` })
    expect(await rejection(setup({ libtorch }, here))).to.equal(
      `trislot setup: the sources in ${here.root} changed while they were compiled; run it again`,
    )
    expect(await readdir(join(here.home, 'addons'))).to.deep.equal([])
  })

  it('keeps the log of a failed build and shows its first errors', async () => {
    const { here, libtorch } = prepare('return no_such_name;')
    const message = await rejection(setup({ libtorch }, here))
    const log = /the whole log is in (\S+)/.exec(message)?.[1]
    expect(message).to.match(
      /^trislot setup: the addon did not compile; the whole log is in .*\n.*error: .*no_such_name/,
    )
    expect(readFileSync(log!, 'utf8')).to.contain('no_such_name')
    writeFiles(here.root, { 'native/addon.cpp': addonSource('return text(env, "2.15.0");') })
    expect(await setup({ libtorch }, here)).to.include({ built: true })
    expect(existsSync(log!)).to.equal(false)
  })

  it('checks the compiler and CMake before anything is fetched', async () => {
    const { here } = prepare()
    const bare = { ...here, env: { PATH: '/nowhere' } }
    expect(await rejection(setup({}, bare))).to.equal(
      'trislot setup: expected a C++20 compiler, g++ 11 or clang 14 or newer, got none; expected CMake 3.18 or newer, got none; expected make or ninja, got neither; ' +
        'install with: sudo apt-get install g++ cmake make | sudo dnf install gcc-c++ cmake make | xcode-select --install; brew install cmake',
    )
  })

  it('refuses options that do not exist or are of the wrong kind', async () => {
    const { here } = prepare()
    const refused = (options: object) => rejection(setup(options as SetupOptions, here))
    expect(await refused({ libtoch: 'x' })).to.contain('got unknown libtoch (did you mean libtorch?)')
    expect(await refused({ jobs: 0 })).to.equal('setup: expected jobs to be an integer in [1, 1024], got 0')
    expect(await refused({ cuda: 'yes' })).to.equal('setup: expected cuda to be true or false, got "yes"')
    expect(await refused({ sha256: 'abc' })).to.equal(
      'setup: expected sha256 to be 64 hexadecimal digits, got "abc"',
    )
  })
})

describe('checkToolchain', () => {
  const temporary = temporaryFolders()

  it('names a compiler and a CMake that are too old', async () => {
    const folder = temporary()
    const program = (name: string, answer: string) =>
      writeFileSync(join(folder, name), `#!/bin/sh\necho '${answer}'\n`, { mode: 0o755 })
    program('g++', 'g++ (Debian 10.2.1-6) 10.2.1 20210110')
    program('clang++', 'Debian clang version 13.0.1')
    program('cmake', 'cmake version 3.16.3')
    program('make', 'GNU Make 4.3')
    program('apt-get', '')
    const env = { PATH: folder }
    expect(await rejection(checkToolchain(env, 'linux'))).to.equal(
      'trislot setup: expected a C++20 compiler, g++ 11 or clang 14 or newer, got g++ 10.2.1, clang 13.0.1; expected CMake 3.18 or newer, got 3.16.3; ' +
        'install with: sudo apt-get install g++ cmake make',
    )
    program('g++-12', 'g++-12 (Debian 12.2.0-14) 12.2.0')
    program('cmake', 'cmake version 3.25.1')
    expect(await checkToolchain(env, 'linux')).to.deep.equal({
      cxx: 'g++-12',
      compiler: 'g++ 12.2.0',
      cmakeVersion: '3.25.1',
    })
    expect(await rejection(checkToolchain({ ...env, CXX: 'no-such-compiler' }, 'linux'))).to.contain(
      'got CXX=no-such-compiler; install',
    )
  })
})

describe('parallelJobs', () => {
  it('is one a core, fewer when memory is short, and never none', () => {
    expect(parallelJobs(8, 100e9)).to.equal(8)
    expect(parallelJobs(8, 4e9)).to.equal(2)
    expect(parallelJobs(8, 1e8)).to.equal(1)
  })
})

describe('defaultSurroundings', () => {
  it('knows the C library of this machine', () => {
    if (process.platform === 'linux')
      expect(defaultSurroundings().glibc ?? 'musl').to.match(/^(\d+\.\d+|musl)$/)
  })
})
