import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { basename, join } from 'node:path'
import { expect } from 'chai'
import { type Instrument, writeInstrument } from '../../lib/report/instrument-file.ts'
import { sourceVersion } from '../../lib/setup/paths.ts'

const heatmap = {
  title: 'A < B',
  kind: 'heatmap',
  rows: ['a', 'b'],
  columns: ['x', 'y'],
  values: [1, -2, null, 0],
  label: 'change',
  diverging: true,
} as const
const line = {
  title: 'Line',
  x: { label: 't' },
  y: { label: 'loss', scale: 'log' },
  series: [{ name: 'eps', x: [1, 2], y: [3, 4], low: [2, 3], high: [4, 5], kind: 'points' }],
} as const

describe('writeInstrument', () => {
  let folder: string
  before(async () => {
    folder = await mkdtemp(join(tmpdir(), 'trislot-instrument-'))
  })
  after(() => rm(folder, { recursive: true, force: true }))

  it('writes the numbers as JSON and each plot as SVG and PNG', async () => {
    const instrument: Instrument = {
      kind: 'probe',
      title: 'Probe',
      plots: [line, heatmap],
      data: { t: [0, 1] },
    }
    const files = await writeInstrument(folder, { ...instrument, name: 'probe-step-1' })
    expect(files.map((file) => basename(file))).to.deep.equal([
      'probe-step-1.json',
      'probe-step-1-1.svg',
      'probe-step-1-1.png',
      'probe-step-1-2.svg',
      'probe-step-1-2.png',
    ])
    expect(JSON.parse(await readFile(files[0]!, 'utf8'))).to.deep.equal({
      version: sourceVersion(),
      ...instrument,
    })
    expect(files[0]).to.equal(join(folder, 'instruments', 'probe-step-1.json'))
    const svg = await readFile(files[1]!, 'utf8')
    expect(svg)
      .to.include('mark-symbol role-mark series-0')
      .and.include('mark-rule role-mark interval-of-series-0')
    expect(await readFile(files[3]!, 'utf8'))
      .to.include('A &lt; B')
      .and.include('>-2</text>')
  })

  it('leaves no picture of an earlier measurement of that name, and others alone', async () => {
    const instrument = { kind: 'probe', title: 'Probe', plots: [line], data: null, name: 'probe' }
    await writeInstrument(folder, { ...instrument, plots: [line, line] })
    await writeInstrument(folder, instrument)
    const names = await readdir(join(folder, 'instruments'))
    expect(names).to.include.members(['probe-1.svg', 'probe-step-1-2.svg'])
    expect(names).to.not.include('probe-2.svg')
  })

  it('leaves out the picture of a plot without anything to draw', async () => {
    const plots = [{ ...heatmap, values: [null, null, null, null] }, line]
    const files = await writeInstrument(folder, {
      ...{ kind: 'x', title: 'x', plots, data: null, name: 'empty' },
    })
    expect(files.map((file) => basename(file))).to.deep.equal(['empty.json', 'empty-2.svg', 'empty-2.png'])
  })

  it('refuses a name that leaves the folder', async () => {
    const error = await writeInstrument(folder, {
      ...{ kind: 'x', title: 'x', plots: [], data: null, name: '../x' },
    }).catch((e: Error) => e)
    expect((error as Error).message).to.equal(
      'writeInstrument: expected name to be letters, digits, -, _ and dots, got "../x"',
    )
  })
})
