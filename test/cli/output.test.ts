import { existsSync } from 'node:fs'
import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect } from 'chai'
import { run } from '../../lib/training/run.ts'
import { command, start } from '../support/command.ts'
import { asArguments, SMALL, smallData } from '../support/small-run.ts'

describe('What commands write', () => {
  let small: Awaited<ReturnType<typeof smallData>>
  let folder: string
  let [file, directory] = ['', '']
  const { choose: _, ...rest } = SMALL
  before(async () => {
    small = await smallData()
    folder = join(small.folder, 'r')
    await run({ ...rest, data: small.data, run: folder, steps: 1, heads: ['v'], sampler: 'uniform' })
    file = join(small.folder, 'file')
    directory = join(small.folder, 'directory')
    await writeFile(file, 'text')
    await mkdir(directory)
  })
  after(() => small.remove())

  const refusal = async (...words: string[]): Promise<string> => {
    const { code, out, err } = await command(...words)
    expect({ code, out }, err).to.deep.equal({ code: 2, out: '' })
    return err
  }

  it('is refused before the work where it cannot be written, and nothing is left behind', async () => {
    const there = await readdir(small.folder)
    const own = (name: string) => [name, '--run', folder]
    const evaluate = ['evaluate', '--samples', small.data, '--reference', small.data]
    const isFolder = `a file that can be written, got "${directory}"; it is a folder`
    const isFile = `a folder that can be written, got "${file}"; ${file} is a file`
    for (const [words, out, message] of [
      [own('measure'), directory, isFolder],
      [evaluate, directory, isFolder],
      [[...own('sample'), '--format', 'npz'], file, isFile],
      [own('nll'), file, isFile],
      [own('probe'), file, isFile],
      [own('interference'), file, isFile],
      [
        own('sample'),
        join(file, 'a', 'b.png'),
        `a file that can be written, got "${file}/a/b.png"; ${file} is a file`,
      ],
    ] as const) {
      const err = await refusal(...words, '--out', out)
      expect(err).to.equal(`trislot ${words[0]}: expected --out to be ${message}`)
    }
    expect(await refusal(...own('probe'), '--name', 'a b')).to.equal(
      'trislot probe: expected --name to be letters, digits, -, _ and dots, got "a b"',
    )
    expect(await readdir(small.folder)).to.deep.equal(there)
    expect(await readFile(file, 'utf8')).to.equal('text')
  })

  it('of measure is refused before the work where the network does not have it, or it has one place', async () => {
    const out = join(small.folder, 'h.json')
    const measure = ['measure', '--run', folder, '--out', out]
    expect(await refusal(...measure, '--slots', '5')).to.equal(
      'trislot measure: expected --slots to be an integer in [1, 4], got 5',
    )
    expect(await refusal(...measure, '--head', 'eps')).to.equal(
      'trislot measure: expected --head to be a head of the network (v), got "eps"',
    )
    expect(await refusal(...measure, '--head-statistics', join(small.folder, 's.json'))).to.equal(
      `trislot measure: expected --head-statistics to be absent for a network of one head (v), got "${small.folder}/s.json"`,
    )
    for (const same of [`${directory}/../h.json`, join(small.folder, 'h.svg')])
      expect(await refusal(...measure, '--head-statistics', same)).to.equal(
        `trislot measure: expected --head-statistics to be another file than ${out} (--out) and ${small.folder}/h.svg, the plot beside it, got "${same}"`,
      )
    expect(existsSync(out)).to.equal(false)
  })

  it('is written although nobody reads what is printed', async () => {
    const unread = join(small.folder, 'unread')
    const options = { ...SMALL, data: small.data, run: unread, steps: 30, saveEvery: 5 }
    const { child, ended } = start(['train', ...asArguments(options)])
    child.stderr?.once('data', () => child.stderr?.destroy())
    expect((await ended).code).to.equal(0)
    expect(existsSync(join(unread, 'checkpoints', 'step-00000030'))).to.equal(true)
    expect(existsSync(join(unread, 'lock.json'))).to.equal(false)
    const help = start(['help'])
    help.child.stdout?.destroy()
    expect(await help.ended).to.include({ code: 0, err: '' })
  })
})
