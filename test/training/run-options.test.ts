import { join } from 'node:path'
import { expect } from 'chai'
import { latestCheckpoint, readCheckpoint } from '../../lib/training/checkpoint.ts'
import { run } from '../../lib/training/run.ts'
import { type RunOptions, runConfig } from '../../lib/training/run-config.ts'
import { rejection } from '../support/rejection.ts'
import { SMALL, smallData } from '../support/small-run.ts'

describe("A run with guided-diffusion's options", () => {
  let small: Awaited<ReturnType<typeof smallData>>
  before(async () => {
    small = await smallData()
  })
  after(() => small.remove())

  it('continues bit for bit, its loss scale, its respaced process and its timestep sampler included', async () => {
    const { choose: _, ...rest } = SMALL
    const options = (name: string, steps: number): RunOptions => ({
      ...rest,
      ...{ data: small.data, run: join(small.folder, name), steps },
      ...{ heads: ['xPrev'], learnsVariance: true, variance: 'learned', loss: 'rescaledKl' },
      ...{ timestepCount: 40, respacing: '4', rescalesTimesteps: true, sumsMicroBatches: true },
      ...{ precision: 'fp16', lossScaleLog2: 32, lossScaleGrowth: 0.01 },
    })
    await run(options('twice', 5))
    const twice = await run(options('twice', 12))
    const once = await run(options('once', 12))
    const [a, b] = [
      await readCheckpoint(twice.checkpoint as string),
      await readCheckpoint(once.checkpoint as string),
    ]
    expect(a.files).to.deep.equal(b.files)
    expect(a.sampler).to.deep.equal(b.sampler)
    expect(a.schedule.betas).to.have.length(4)
    expect(a.trainer).to.deep.include({
      variance: 'learned',
      rescalesTimesteps: true,
      sumsMicroBatches: true,
    })
    expect(a.trainer.loss.kind).to.equal('rescaledKl')
    expect(await latestCheckpoint(join(small.folder, 'once'))).to.equal(once.checkpoint)
  })

  it('cuts slots from the timesteps that respacing keeps', async () => {
    const options = { data: 'digits', steps: 1, sampler: 'slots', slots: 2, respacing: '10' } as const
    expect((await runConfig(options)).slotEdges).to.deep.equal([0, 5, 10])
    const edges = { ...options, slots: undefined, slotEdges: [0, 5, 1000] }
    expect((await rejection(runConfig(edges))).message).to.equal(
      'run: expected slotEdges to be ascending timesteps from 0 to 10, got [0, 5, 1000]',
    )
  })

  it('refuses options that do not go together', async () => {
    for (const [options, message] of [
      [{ lossScaleLog2: 10 }, 'lossScaleLog2 to be absent unless precision is fp16, got 10'],
      [
        { lossScaleGrowth: 1, precision: 'bf16' },
        'lossScaleGrowth to be absent unless precision is fp16, got 1',
      ],
      [{ sumsMicroBatches: true }, 'sumsMicroBatches to be absent without microBatch, got true'],
      [
        { loss: 'kll' as 'kl' },
        'loss to be one of mse, rescaledMse, kl, rescaledKl, got "kll"; did you mean kl?',
      ],
    ] as const) {
      const error = await rejection(runConfig({ data: 'digits', steps: 1, ...options }))
      expect(error.message).to.equal(`run: expected ${message}`)
    }
  })
})
