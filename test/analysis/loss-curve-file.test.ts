import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect } from 'chai'
import { readLossCurve, writeLossCurve } from '../../lib/analysis/loss-curve-file.ts'
import { DataError } from '../../lib/errors.ts'

describe('loss curve files', () => {
  let folder: string
  let file: string
  before(async () => {
    folder = await mkdtemp(join(tmpdir(), 'trislot-curve-'))
    file = join(folder, 'curve.json')
  })
  after(() => rm(folder, { recursive: true, force: true }))

  const measured = {
    heads: ['v'] as const,
    t: Int32Array.of(0, 2),
    loss: Float64Array.of(1, 0.1),
    perHead: Float64Array.of(1, 0.1),
    standardError: Float64Array.of(0, 0),
  }

  it('bring back measured losses exactly and interpolate between them', async () => {
    await writeLossCurve(file, measured, 4)
    expect([...(await readLossCurve(file, 4))]).to.deep.equal([1, 0.55, 0.1, 0.1])
  })

  it('may be plain lists of one loss a timestep', async () => {
    await writeFile(file, '[3, 2, 1]')
    expect([...(await readLossCurve(file, 3))]).to.deep.equal([3, 2, 1])
  })

  it('are refused when they are over other timesteps, damaged or missing', async () => {
    const cases: [string, string][] = [
      ['[1, 2]', 'a list of 2'],
      ['{ "timestepCount": 7, "t": [0], "loss": [1] }', 'a curve over 7 timesteps'],
      ['{ "timestepCount": 3, "t": [0, 1], "loss": [1] }', 'no lists t and loss of the same length'],
      ['nonsense', 'no JSON'],
    ]
    for (const [content, got] of cases) {
      await writeFile(file, content)
      const error = await readLossCurve(file, 3).catch((error: Error) => error)
      expect(error).to.be.instanceOf(DataError)
      expect((error as Error).message).to.equal(
        `readLossCurve: expected ${file} to hold a loss of each of 3 timesteps, got ${got}`,
      )
    }
    const missing = await readLossCurve(join(folder, 'none'), 3).catch((error: Error) => error.message)
    expect(missing).to.match(/got ENOENT$/)
  })
})
