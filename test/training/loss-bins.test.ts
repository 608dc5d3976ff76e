import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect } from 'chai'
import { LossBins } from '../../lib/training/loss-bins.ts'
import { run } from '../../lib/training/run.ts'
import { SMALL, smallData } from '../support/small-run.ts'

const step = (t: number[], loss: number[], perHead = loss, chosen = t.map(() => -1)) => ({
  t: Int32Array.from(t),
  exampleLoss: Float32Array.from(loss),
  perHead: Float32Array.from(perHead),
  chosen: Int32Array.from(chosen),
})

describe('LossBins', () => {
  it('means the losses of each tenth of the timesteps and begins anew', () => {
    const bins = new LossBins(['eps'], 1000)
    bins.add(step([0, 99, 100, 999], [1, 2, 4, 8]))
    bins.add(step([50], [6]))
    const { count, loss } = bins.take()
    expect(count).to.deep.equal([3, 1, 0, 0, 0, 0, 0, 0, 0, 1])
    expect(loss).to.deep.equal([3, 4, null, null, null, null, null, null, null, 8])
    expect(bins.take().count).to.deep.equal(new Array(10).fill(0))
  })

  it('counts which head was chosen, and means each head', () => {
    const bins = new LossBins(['xStart', 'v'], 10)
    bins.add(step([0, 0, 9], [1, 2, 3], [1, 5, 3, 7, 4, 6], [0, 0, 1]))
    const { perHead, chosen } = bins.take()
    expect([perHead?.xStart?.[0], perHead?.v?.[0], perHead?.v?.[9]]).to.deep.equal([2, 6, 6])
    expect([chosen?.xStart?.[0], chosen?.v?.[0], chosen?.v?.[9]]).to.deep.equal([2, 0, 1])
  })

  it('passes over losses that are not finite', () => {
    const bins = new LossBins(['eps'], 10)
    bins.add(step([0, 0], [Number.NaN, 2]))
    expect(bins.take()).to.deep.include({ count: [1, 0, 0, 0, 0, 0, 0, 0, 0, 0] })
  })

  it('goes on from its state, and ignores that of other heads', () => {
    const straight = new LossBins(['eps'], 10)
    const stopped = new LossBins(['eps'], 10)
    for (const bins of [straight, stopped]) bins.add(step([0, 3], [0.1, 0.7]))
    const resumed = new LossBins(['eps'], 10)
    resumed.restore(JSON.parse(JSON.stringify(stopped.state())))
    for (const bins of [straight, resumed]) bins.add(step([0, 3], [0.2, 0.3]))
    expect(resumed.take()).to.deep.equal(straight.take())
    const other = new LossBins(['xStart', 'v'], 10)
    other.restore(straight.state())
    expect(other.take().count).to.deep.equal(new Array(10).fill(0))
  })
})

describe('a run that is continued between two rows of its log', () => {
  it('writes the rows, losses by timestep included, of one that never stopped', async () => {
    const small = await smallData()
    const folder = await mkdtemp(join(tmpdir(), 'trislot-bins-'))
    try {
      const options = { ...SMALL, data: small.data, logEvery: 5 }
      const stopped = { ...options, run: join(folder, 'stopped') }
      await run({ ...stopped, steps: 7 }) // step 7 is no row
      await run({ ...stopped, steps: 8 })
      await run({ ...stopped, steps: 12 })
      await run({ ...options, steps: 12, run: join(folder, 'straight') })
      const stats = (name: string) => readFile(join(folder, name, 'stats.jsonl'), 'utf8')
      expect(await stats('stopped')).to.equal(await stats('straight'))
      const rows = (await stats('straight'))
        .trim()
        .split('\n')
        .map((line) => JSON.parse(line))
      const counts = rows.map(({ byBin }) => byBin.count.reduce((sum: number, n: number) => sum + n, 0))
      expect(rows.map((row) => row.step)).to.deep.equal([1, 5, 10])
      expect(counts).to.deep.equal([4, 16, 20])
    } finally {
      await rm(folder, { recursive: true })
      await small.remove()
    }
  })
})
