import { existsSync, mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect } from 'chai'
import { cachedLibtorchs, namedLibtorch, pythonLibtorch } from '../../lib/setup/find.ts'
import { inspectLibtorch, isSupported, readVersion } from '../../lib/setup/libtorch.ts'
import { findPython } from '../../lib/setup/python.ts'
import { findLibtorch } from '../../lib/setup/setup.ts'
import {
  fakeLibtorch,
  recorder,
  rejection,
  surroundings,
  temporaryFolders,
  tinyPackage,
  writeFiles,
} from './support.ts'

describe('isSupported', () => {
  it('takes 2.11 to 2.15 with any patch and local part', () => {
    for (const version of ['2.11.0', '2.13.1+cpu', '2.15.0+cu132', '2.15.0a0+git'])
      expect(isSupported(version), version).to.equal(true)
    for (const version of ['2.10.9', '2.16.0', '1.15.0', '3.0.0', 'two'])
      expect(isSupported(version), version).to.equal(false)
  })
})

describe('readVersion', () => {
  const temporary = temporaryFolders()

  it('reads version.py, build-version, or the headers', () => {
    const root = temporary()
    const header = (at: string) => ({
      [at]: '#define TORCH_VERSION_MAJOR 2\n#define TORCH_VERSION_MINOR 11\n#define TORCH_VERSION_PATCH 3\n',
    })
    expect(readVersion(root)).to.equal(undefined)
    writeFiles(root, header('include/torch/csrc/api/include/torch/version.h'))
    expect(readVersion(root)).to.equal('2.11.3')
    writeFiles(root, { 'build-version': '2.12.0+cpu\n' })
    expect(readVersion(root)).to.equal('2.12.0+cpu')
    writeFiles(root, { 'version.py': "from typing import Optional\n__version__ = '2.13.0+cu132'\n" })
    expect(readVersion(root)).to.equal('2.13.0+cu132')
  })
})

describe('namedLibtorch', () => {
  const temporary = temporaryFolders()

  it('prefers the option to LIBTORCH and looks into torch/ and libtorch/', () => {
    const [a, b] = [temporary(), temporary()]
    fakeLibtorch(join(a, 'torch'), '2.15.0')
    fakeLibtorch(join(b, 'libtorch'), '2.14.0')
    expect(namedLibtorch(a, { LIBTORCH: b })).to.include({
      rule: 'option',
      version: '2.15.0',
      root: join(a, 'torch'),
    })
    expect(namedLibtorch(undefined, { LIBTORCH: b })).to.include({
      rule: 'environment',
      root: join(b, 'libtorch'),
    })
    expect(namedLibtorch(undefined, {})).to.equal(undefined)
  })

  it('refuses a folder that holds none, and does not pass it over', () => {
    expect(() => namedLibtorch('/nowhere', {})).to.throw(
      'trislot setup: expected --libtorch to be a LibTorch folder (lib/ and include/, with its version file), got "/nowhere"',
    )
  })

  it('says found, required, where and the remedy for another version', () => {
    const root = fakeLibtorch(temporary(), '2.10.0+cpu')
    expect(() => namedLibtorch(root, {})).to.throw(
      `trislot setup: expected LibTorch 2.11 to 2.15, got 2.10.0+cpu at ${root} (named by --libtorch); name another folder with --libtorch, or leave it out: npx trislot setup`,
    )
    expect(() => namedLibtorch(undefined, { LIBTORCH: root })).to.throw(
      '(named by LIBTORCH); name another folder in LIBTORCH, or unset it',
    )
  })

  it('refuses a CPU LibTorch when CUDA is asked for', () => {
    const root = fakeLibtorch(temporary(), '2.15.0')
    expect(() => namedLibtorch(root, {}, true)).to.throw(
      `because of --cuda, got ${root} without libtorch_cuda`,
    )
  })
})

describe('cachedLibtorchs', () => {
  const temporary = temporaryFolders()
  const fill = (
    home: string,
    name: string,
    version: string,
    libraries: Record<string, number>,
    cuda = false,
  ) => {
    fakeLibtorch(join(home, 'libtorch', name, 'torch'), version, { cuda })
    writeFileSync(join(home, 'libtorch', name, 'complete.json'), JSON.stringify({ libraries }))
  }

  it('lists whole and supported ones, CUDA first, then the newest', () => {
    const home = temporary()
    fill(home, 'a', '2.14.0', {})
    fill(home, 'b', '2.15.0', {})
    fill(home, 'c', '2.12.0', {}, true)
    fill(home, 'old', '2.1.0', {})
    fill(home, 'cut', '2.15.0', { 'torch/lib/libtorch_cpu.so': 99 })
    fakeLibtorch(join(home, 'libtorch', 'unfinished', 'torch'), '2.15.0')
    expect(cachedLibtorchs(home).map(({ version }) => version)).to.deep.equal(['2.12.0', '2.15.0', '2.14.0'])
    expect(cachedLibtorchs(join(home, 'none'))).to.deep.equal([])
  })
})

describe('pythonLibtorch', () => {
  const temporary = temporaryFolders()
  const python = (torchFolder: string | undefined) => ({ executable: 'python3', hasPip: true, torchFolder })

  it('takes a supported torch and says why it passes another over', () => {
    const [good, old] = [fakeLibtorch(temporary(), '2.13.0'), fakeLibtorch(temporary(), '2.4.1')]
    const { line, lines } = recorder()
    expect(pythonLibtorch(python(good), false, line)).to.include({ rule: 'python', root: good })
    expect(pythonLibtorch(undefined, false, line)).to.equal(undefined)
    expect(pythonLibtorch(python(undefined), false, line)).to.equal(undefined)
    expect(lines).to.deep.equal([])
    expect(pythonLibtorch(python(old), false, line)).to.equal(undefined)
    expect(pythonLibtorch(python(good), true, line)).to.equal(undefined)
    expect(lines).to.deep.equal([
      `passed over: the torch of the active Python (${old}) is 2.4.1, supported are 2.11 to 2.15`,
      `passed over: the torch of the active Python (${good}) has no libtorch_cuda, which --cuda needs`,
    ])
  })

  it('finds torch without importing it', async function () {
    const folder = temporary()
    writeFiles(folder, { 'torch/__init__.py': 'raise Exception("imported")' })
    const found = await findPython(folder, { ...process.env, PYTHONPATH: folder })
    if (found === undefined) return this.skip()
    expect(found.torchFolder).to.equal(join(folder, 'torch'))
  })

  it('is absent when no Python starts', async () => {
    expect(await findPython('/', process.env, ['no-such-python'])).to.equal(undefined)
  })
})

describe('findLibtorch', () => {
  const temporary = temporaryFolders()

  it('asks the option, LIBTORCH, the cache and Python in this order, and fetches last', async () => {
    const [root, home] = [tinyPackage(temporary()), temporary()]
    const [option, environment, torch] = [temporary(), temporary(), temporary()].map((folder) =>
      fakeLibtorch(folder, '2.15.0'),
    )
    const cached = join(home, 'libtorch', '2.15.0-cpu')
    fakeLibtorch(join(cached, 'torch'), '2.15.0')
    writeFileSync(join(cached, 'complete.json'), '{"libraries":{}}')
    const here = (more: object) =>
      surroundings(root, home, {
        python: async () => ({ executable: 'python3', hasPip: false, torchFolder: torch }),
        ...more,
      })
    const withEnvironment = here({ env: { ...process.env, LIBTORCH: environment } })
    const { LIBTORCH: _, ...bare } = process.env
    expect((await findLibtorch({ libtorch: option }, withEnvironment)).rule).to.equal('option')
    expect((await findLibtorch({}, withEnvironment)).rule).to.equal('environment')
    const told = here({ env: bare })
    expect((await findLibtorch({ wheel: 'torch-2.14.0.whl' }, told)).rule).to.equal('cache')
    expect(told.reporter.lines).to.deep.equal([
      `--wheel is not used, because nothing is fetched: there is LibTorch 2.15.0 in ${join(cached, 'torch')}`,
    ])
    expect((await findLibtorch({}, here({ env: bare }))).rule).to.equal('cache')
    expect((await findLibtorch({}, here({ env: bare, home: temporary() }))).rule).to.equal('python')
    const nothing = here({ env: bare, home: temporary(), python: async () => undefined, platform: 'sunos' })
    expect(await rejection(findLibtorch({}, nothing))).to.match(
      /^trislot setup: expected Linux on x86-64, for which a prebuilt LibTorch is pinned, got sunos-/,
    )
  })

  it('passes over a cached CPU LibTorch when CUDA is asked for', async () => {
    const [root, home] = [tinyPackage(temporary()), temporary()]
    mkdirSync(join(home, 'libtorch'))
    fakeLibtorch(join(home, 'libtorch', 'x', 'torch'), '2.15.0')
    writeFileSync(join(home, 'libtorch', 'x', 'complete.json'), '{"libraries":{}}')
    const torch = fakeLibtorch(temporary(), '2.15.0', { cuda: true })
    const { LIBTORCH: _, ...env } = process.env
    const here = surroundings(root, home, {
      env,
      python: async () => ({ executable: 'python3', hasPip: false, torchFolder: torch }),
    })
    expect(existsSync(torch)).to.equal(true)
    expect(await findLibtorch({ cuda: true }, here)).to.include({ rule: 'python', cuda: true })
    expect(inspectLibtorch(join(home, 'libtorch', 'x'), 'cache')).to.include({ cuda: false })
  })
})
