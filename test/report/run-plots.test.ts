import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { basename, join } from 'node:path'
import { expect } from 'chai'
import { timestepLossPlot, writeRunPlots } from '../../lib/report/run-plots.ts'

const texts = (svg: string) => [...svg.matchAll(/<text[^>]*>([^<]*)</g)].map((match) => match[1])

describe('run plots', () => {
  const rows = Array.from({ length: 20 }, (_, step) => ({
    step,
    loss: 1 / (step + 1),
    gradNorm: 2,
    perHead: { xStart: 1, eps: 2 },
    chosen: { xStart: 0.25, eps: 0.75 },
  }))

  it('writes the plots that the rows have data for', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'trislot-plots-'))
    const names = (paths: string[]) => paths.map((path) => basename(path))
    expect(names(await writeRunPlots(folder, rows))).to.deep.equal([
      'loss.svg',
      'grad-norm.svg',
      'heads.svg',
      'chosen.svg',
    ])
    expect(texts(await readFile(join(folder, 'heads.svg'), 'utf8'))).to.include.members(['xStart', 'eps'])
    const bare = rows.map(({ step, loss }) => ({ step, loss }))
    expect(names(await writeRunPlots(folder, bare, 'run 1'))).to.deep.equal(['loss.svg'])
    const svg = await readFile(join(folder, 'loss.svg'), 'utf8')
    expect(texts(svg)).to.include.members([
      'Training loss: run 1',
      'Faint: logged steps. Bold: mean of neighbours.',
    ])
    expect(svg).to.include('role-mark series-0').and.include('role-mark series-1')
    await rm(folder, { recursive: true })
  })

  it('leaves out what cannot be drawn, and refuses no rows', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'trislot-plots-'))
    const rows = [{ step: 1, loss: Number.NaN, gradNorm: 2 }]
    expect(await writeRunPlots(folder, rows)).to.deep.equal([join(folder, 'grad-norm.svg')])
    const error = await writeRunPlots(folder, []).catch((e: Error) => e)
    expect((error as Error).message).to.equal(
      'writeRunPlots: expected rows to be at least one row of a run, got []',
    )
    await rm(folder, { recursive: true })
  })

  it('shows the loss of each head over t with the slots', async () => {
    const slots = [
      { begin: 0, end: 2 },
      { begin: 2, end: 5 },
    ]
    const perHead = { xStart: [1, 2, 3, 4, 5], eps: [5, 4, 3, 2, 1] }
    const svg = await timestepLossPlot({ perHead, slots })
    expect(texts(svg)).to.include.members(['timestep t [0 = least noise]', 'xStart', 'eps'])
    expect(texts(svg)).to.include('2 slots of equal cumulative loss (stripes)')
    expect(texts(await timestepLossPlot({ perHead, slots, tScale: 'log' }))).to.include(
      'timestep t + 1 [1 = least noise]',
    )
    expect(svg.match(/role-mark band-\d/g)).to.have.lengthOf(2)
    const error = await timestepLossPlot({ perHead: {} }).catch((e: Error) => e)
    expect((error as Error).message).to.equal(
      'timestepLossPlot: expected perHead to be curves of at least one head, got {}',
    )
  })
})
