import { existsSync } from 'node:fs'
import { mkdtemp, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect } from 'chai'
import { makeFolder } from '../lib/folder.ts'

describe('makeFolder', () => {
  let folder: string
  before(async () => {
    folder = await mkdtemp(join(tmpdir(), 'trislot-folder-'))
  })
  after(() => rm(folder, { recursive: true }))

  const codeOf = (path: string) =>
    makeFolder(path).then(
      () => 'made',
      (error: NodeJS.ErrnoException) => error.code,
    )

  it('makes a folder and those above it, and leaves one that is there', async () => {
    const path = join(folder, 'a', 'b', 'c')
    await Promise.all([makeFolder(path), makeFolder(path)])
    expect((await stat(path)).isDirectory()).to.equal(true)
    expect(await codeOf(path)).to.equal('made')
  })

  it('makes folders side by side, whoever makes those above them first', async () => {
    for (let round = 0; round < 40; round++) {
      const top = join(folder, String(round))
      const paths = Array.from({ length: 12 }, (_, i) => join(top, 'a', 'b'.repeat(1 + (i % 3)), String(i)))
      await Promise.all(paths.map(makeFolder))
      for (const path of paths) expect(existsSync(path)).to.equal(true)
    }
  })

  it('fails where a file is in the way', async () => {
    const file = join(folder, 'file')
    await writeFile(file, '')
    expect(await codeOf(file)).to.equal('EEXIST')
    expect(await codeOf(join(file, 'below'))).to.equal('ENOTDIR')
  })

  it('fails where nothing can be made, instead of trying for ever', async function () {
    if (!existsSync('/proc/self')) this.skip()
    expect(await codeOf('/proc/nothing/here')).to.equal('ENOENT')
  })
})
