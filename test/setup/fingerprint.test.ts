import { rmSync } from 'node:fs'
import { join } from 'node:path'
import { expect } from 'chai'
import { fingerprint } from '../../lib/setup/fingerprint.ts'
import { temporaryFolders, tinyPackage, writeFiles } from './support.ts'

describe('fingerprint', () => {
  const temporary = temporaryFolders()

  it('stays while nothing changes, also in another folder', () => {
    expect(fingerprint(tinyPackage(temporary()))).to.equal(fingerprint(tinyPackage(temporary())))
  })

  it('changes with a source, a new file, CMakeLists.txt, the platform and the architecture', () => {
    const root = tinyPackage(temporary())
    const seen = [
      fingerprint(root),
      fingerprint(root, 'darwin'),
      fingerprint(root, process.platform, 'riscv64'),
    ]
    for (const file of ['native/addon.cpp', 'native/deep/new.h', 'CMakeLists.txt']) {
      writeFiles(root, { [file]: '// changed' })
      seen.push(fingerprint(root))
    }
    expect(new Set(seen).size).to.equal(seen.length)
    rmSync(join(root, 'native/deep'), { recursive: true })
    expect(fingerprint(root)).to.not.equal(seen.at(-1))
  })

  it('tells a file apart from its name and content run together', () => {
    const [a, b] = [tinyPackage(temporary()), tinyPackage(temporary())]
    writeFiles(a, { 'native/x': 'yz' })
    writeFiles(b, { 'native/xy': 'z' })
    expect(fingerprint(a)).to.not.equal(fingerprint(b))
  })
})
