import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect } from 'chai'
import { JsonLines } from '../../lib/training/run-stats.ts'
import { rejection } from '../support/rejection.ts'

describe('JsonLines', () => {
  let folder: string
  before(async () => {
    folder = await mkdtemp(join(tmpdir(), 'trislot-lines-'))
  })
  after(() => rm(folder, { recursive: true }))

  const line = (step: number) => `{"step":${step}}\n`

  it('cuts the file back to a step, and passes over damaged lines before it', async () => {
    const file = join(folder, 'stats.jsonl')
    const good = `${line(1)}garbage\n\n7\n${line(3)}${line(4)}`
    await writeFile(file, `${good}${line(9)}{"step": 1`)
    const said: string[] = []
    const { lines, rows } = await JsonLines.open<{ step: number }>(file, 5, (text) => said.push(text))
    expect(rows.map(({ step }) => step)).to.deep.equal([1, 3, 4])
    expect(said).to.deep.equal([`warning: lines of ${file} that cannot be read are passed over: 3`])
    await lines.write({ step: 6 })
    await lines.close()
    expect(await readFile(file, 'utf8')).to.equal(`${good}${line(6)}`)
  })

  it('says nothing of a line that a killed process left unfinished', async () => {
    const file = join(folder, 'killed.jsonl')
    await writeFile(file, `${line(1)}{"ste\n`)
    const said: string[] = []
    const { lines } = await JsonLines.open(file, 5, (text) => said.push(text))
    await lines.close()
    expect(said).to.deep.equal([])
    expect(await readFile(file, 'utf8')).to.equal(line(1))
  })

  it('names a file that cannot be read', async () => {
    expect((await rejection(JsonLines.open(folder, 1))).message).to.equal(
      `expected ${folder} to be a file of lines, got EISDIR`,
    )
  })
})
