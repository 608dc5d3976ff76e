import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect } from 'chai'
import { readTensors } from '../../lib/checkpoint-file.ts'
import { memoryCount, resetPeakMemory } from '../../lib/device.ts'
import { CheckpointError } from '../../lib/errors.ts'
import { keyedRandom, type RandomStream } from '../../lib/random.ts'
import { fixturePath } from '../support/fixtures.ts'

const COPIES = 60 // of each file; the same ones in every run

/** One to three small damages: bits, bytes, what is cut out, doubled or lost at the end. */
function damaged(bytes: Buffer, random: RandomStream): Buffer {
  let copy = Buffer.from(bytes)
  for (let count = random.integer(1, 4); count > 0; count--) {
    // What says how to read the rest stands at both ends.
    const reach = Math.min(copy.length, random.integer(0, 3) === 0 ? copy.length : 1024)
    const offset = random.integer(0, reach)
    const at = random.integer(0, 2) === 0 ? offset : copy.length - 1 - offset
    const kind = random.integer(0, 6)
    if (kind === 0) copy[at] = (copy[at] as number) ^ (1 << random.integer(0, 8))
    else if (kind === 1) copy[at] = [0, 1, 0x7f, 0x80, 0xff][random.integer(0, 5)] as number
    else if (kind === 2) copy[at] = random.integer(0, 256)
    else if (kind === 3)
      copy = Buffer.concat([copy.subarray(0, at), copy.subarray(at + random.integer(1, 10))])
    else if (kind === 4) {
      const doubled = copy.subarray(at, at + random.integer(1, 41))
      copy = Buffer.concat([copy.subarray(0, at), doubled, copy.subarray(at)])
    } else copy = copy.subarray(0, random.integer(1, copy.length + 1))
  }
  return copy
}

describe('Damaged checkpoint files', () => {
  let folder: string
  before(async () => {
    folder = await mkdtemp(join(tmpdir(), 'trislot-damaged-'))
  })
  after(() => rm(folder, { recursive: true }))

  it('are refused with the file and a reason, take little memory, and never pass for what they were not', async () => {
    const files = (await readdir(fixturePath('torch-files'))).filter((name) =>
      /^(?!hostile).+\.pt$/.test(name),
    )
    let refused = 0
    for (const [index, name] of files.entries()) {
      const bytes = await readFile(fixturePath(`torch-files/${name}`))
      const whole = await readTensors(fixturePath(`torch-files/${name}`))
      for (let k = 0; k < COPIES; k++) {
        const path = join(folder, 'damaged.pt')
        const copy = damaged(bytes, keyedRandom(index, 'probe').at(k))
        await writeFile(path, copy)
        const before = memoryCount().liveBytes
        await resetPeakMemory()
        try {
          const found = await readTensors(path)
          // Zip archives have checksums; the older form has none, so that its numbers may be others.
          if (!name.endsWith('-legacy.pt')) expect(found, `${name}, copy ${k}`).to.deep.equal(whole)
        } catch (error) {
          if (!(error instanceof CheckpointError)) throw error
          expect(error.message).to.match(/^readTorchFile\(".*damaged\.pt"\): expected .+, got .+$/s)
          expect(error.file).to.equal(path)
          refused++
        }
        expect(memoryCount().peakBytes - before, `${name}, copy ${k}`).to.be.at.most(16 * copy.length)
      }
    }
    expect(refused / (files.length * COPIES)).to.be.greaterThan(0.5)
  })

  it('are told by their checksum when a bit of a tensor has changed', async () => {
    const bytes = await readFile(fixturePath('torch-files/torch-2.15.0.pt'))
    const path = join(folder, 'bit.pt')
    const at = bytes.indexOf(Uint8Array.of(0x00, 0x30, 0x00, 0x34, 0x00, 0x36)) // 1/8, 2/8, 3/8 of the average
    const copy = Buffer.from(bytes)
    copy[at] = (copy[at] as number) ^ 1
    await writeFile(path, copy)
    const error = await readTensors(path).catch((error: Error) => error)
    expect((error as Error).message).to.match(
      /^readTorchFile\(".*bit\.pt"\): expected zip entry "torch-2\.15\.0\/data\/\d" to have its checksum, got damaged data$/,
    )
  })
})
