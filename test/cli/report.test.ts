import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect } from 'chai'
import { command } from '../support/command.ts'
import { makeRun, reportFolder } from '../support/report-runs.ts'

describe('trislot report', () => {
  let work: Awaited<ReturnType<typeof reportFolder>>
  before(async () => {
    work = await reportFolder()
  })
  after(() => work.remove())

  it('takes folders as words, writes one page and says where', async () => {
    const runs = [
      await makeRun(join(work.folder, 'a')),
      await makeRun(join(work.folder, 'b'), { config: { lr: 1 } }),
    ]
    const out = join(work.folder, 'page.html')
    expect(await command('report', ...runs, '--out', out)).to.deep.equal({ code: 0, out, err: '' })
    expect(await readFile(out, 'utf8')).to.include('<h1>2 runs compared</h1>')
  })

  it('refuses to go without a folder, and a folder without a run', async () => {
    const none = await command('report')
    expect(none.code).to.equal(2)
    expect(none.err).to.include(
      'trislot report: expected RUNS (--runs), at least one folder of a run, to be given, got none',
    )
    const empty = await command('report', work.folder)
    expect(empty.code).to.equal(2)
    expect(empty.err).to.include('expected folders to be folders of runs or studies')
  })
})
