import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { expect } from 'chai'
import { archivePlacement, wheelPlacement } from '../../lib/setup/fetch.ts'
import { sweepStaging, withStaging } from '../../lib/setup/staging.ts'
import { readZipText, unpackZip } from '../../lib/setup/unpack.ts'
import { rejection, temporaryFolders, zip, zipOfLink } from './support.ts'

describe('unpackZip', () => {
  const temporary = temporaryFolders()
  const archive = (bytes: Uint8Array) => {
    const file = join(temporary(), 'a.zip')
    writeFileSync(file, bytes)
    return file
  }

  it('unpacks the wanted entries to the wanted places and reports all bytes', async () => {
    const [file, folder] = [archive(zip({ 'a/b.txt': 'bee', 'c.txt': 'sea', 'd/': '' })), temporary()]
    let last = [0, 0]
    await unpackZip(
      file,
      folder,
      (name) => (name === 'c.txt' ? undefined : `deep/${name}`),
      (...bytes) => {
        last = bytes
      },
    )
    expect(readFileSync(join(folder, 'deep/a/b.txt'), 'utf8')).to.equal('bee')
    expect(existsSync(join(folder, 'deep/c.txt'))).to.equal(false)
    expect(last).to.deep.equal([3, 3])
    expect(await readZipText(file, 'c.txt')).to.equal('sea')
    expect(await readZipText(file, 'none')).to.equal(undefined)
  })

  const hostile: [string, Uint8Array, RegExp][] = [
    [
      'a path that climbs',
      zip({ 'good.txt': '', '../evil.txt': '' }),
      /invalid relative path: \.\.\/evil\.txt$/,
    ],
    ['an absolute path', zip({ 'good.txt': '', '/evil.txt': '' }), /absolute path: \/evil\.txt$/],
    ['a drive letter', zip({ 'good.txt': '', 'C:evil.txt': '' }), /absolute path: C:evil\.txt$/],
    [
      'a zero byte',
      zip({ 'good.txt': '', 'evil\0.txt': '' }),
      /got a name with a zero byte: "evil\\u0000\.txt"$/,
    ],
    ['a symbolic link', zipOfLink('evil', '/etc'), /got a symbolic link: "evil"$/],
    [
      'two entries for one file',
      zip({ 'good.txt': '', './good.txt': '' }),
      /got a second entry for "\.\/good\.txt"$/,
    ],
    ['no zip at all', new Uint8Array(100), /to be a sound zip archive, got: /],
  ]
  for (const [what, bytes, message] of hostile) {
    it(`refuses ${what} and writes nothing`, async () => {
      const folder = temporary()
      expect(await rejection(unpackZip(archive(bytes), folder, (name) => name))).to.match(message)
      expect(await readdir(folder)).to.deep.equal([])
    })
  }

  it('refuses a placement outside the folder', async () => {
    const message = await rejection(unpackZip(archive(zip({ a: '' })), temporary(), () => '../a'))
    expect(message).to.match(/got a path that leaves the folder: "a"$/)
  })

  it('refuses damaged data', async () => {
    const bytes = zip({ 'a.txt': 'x'.repeat(5000) })
    bytes.fill(255, 36, 44)
    const message = await rejection(unpackZip(archive(bytes), temporary(), (name) => name))
    expect(message).to.match(/^trislot setup: cannot unpack a\.txt of .*a\.zip: /)
  })
})

describe('withStaging', () => {
  const temporary = temporaryFolders()

  it('renames the finished folder into place, over an older one', async () => {
    const parent = temporary()
    for (const text of ['old', 'new']) {
      const result = await withStaging(parent, async (folder) => {
        writeFileSync(join(folder, 'file'), text)
        return ['target', text.length] as const
      })
      expect(result).to.equal(3)
    }
    expect(readFileSync(join(parent, 'target/file'), 'utf8')).to.equal('new')
    expect(await readdir(parent)).to.deep.equal(['target'])
  })

  it('leaves nothing when the work fails', async () => {
    const parent = temporary()
    const message = await rejection(
      withStaging(parent, async (folder) => {
        writeFileSync(join(folder, 'half'), '')
        throw new Error('interrupted')
      }),
    )
    expect([message, await readdir(parent)]).to.deep.equal(['interrupted', []])
  })

  it('is swept when an earlier process was killed', async () => {
    const parent = temporary()
    writeFileSync(join(parent, '.staging-1-x'), '')
    writeFileSync(join(parent, 'kept'), '')
    sweepStaging(parent)
    expect(await readdir(parent)).to.deep.equal(['kept'])
  })
})

describe('wheelPlacement', () => {
  it('takes headers, version, licences and CPU libraries for CPU', () => {
    const place = wheelPlacement(false, 'torch-2.15.0-cp311-cp311-manylinux_2_28_x86_64.whl')
    expect(place('torch/include/ATen/ATen.h')).to.equal('torch/include/ATen/ATen.h')
    expect(place('torch/version.py')).to.equal('torch/version.py')
    expect(place('torch/lib/libtorch_cpu.so')).to.equal('torch/lib/libtorch_cpu.so')
    expect(place('torch/lib/libgomp.so.1')).to.equal('torch/lib/libgomp.so.1')
    expect(place('torch-2.15.0.dist-info/licenses/LICENSE')).to.equal('licenses/torch/LICENSE')
    expect(place('nvidia/cu13/lib/libcudart.so.13')).to.equal('nvidia/cu13/lib/libcudart.so.13')
    for (const name of [
      'torch/lib/libtorch_cuda.so',
      'torch/lib/libtorch_python.so',
      'nvidia/cu13/lib/libnvperf_host.so',
      'torch/nn/x.py',
      'nvidia/cu13/lib/libcudart_static.a',
    ])
      expect(place(name), name).to.equal(undefined)
  })

  it('takes every shared library but Python’s for CUDA', () => {
    const place = wheelPlacement(true, 'torch-2.15.0-x.whl')
    expect(place('torch/lib/libtorch_cuda.so')).to.equal('torch/lib/libtorch_cuda.so')
    expect(place('nvidia/cudnn/lib/libcudnn.so.9')).to.equal('nvidia/cudnn/lib/libcudnn.so.9')
    expect(place('torch/lib/libtorch_python.so')).to.equal(undefined)
  })
})

describe('archivePlacement', () => {
  it('puts the archive where a wheel would be', () => {
    expect(archivePlacement('libtorch/lib/libc10.so')).to.equal('torch/lib/libc10.so')
    expect(archivePlacement('libtorch/build-version')).to.equal('torch/build-version')
    for (const name of ['libtorch/lib/libx.a', 'libtorch/share/cmake/x', 'other/lib/x.so'])
      expect(archivePlacement(name), name).to.equal(undefined)
  })
})
