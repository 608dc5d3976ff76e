import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect } from 'chai'
import { gradientConflict } from '../../lib/analysis/gradient-conflict.ts'
import { type InterferenceOptions, interference } from '../../lib/analysis/interference.ts'
import { interferenceInstrument } from '../../lib/analysis/interference-instrument.ts'
import { measureTimestepLoss } from '../../lib/analysis/timestep-loss.ts'
import { inMemory } from '../../lib/data/dataset.ts'
import { UNet } from '../../lib/model/unet.ts'
import type { InstrumentTable } from '../../lib/report/instrument-file.ts'
import { NoiseSchedule } from '../../lib/schedule/noise-schedule.ts'
import { Trainer } from '../../lib/training/trainer.ts'
import { rejection } from '../support/rejection.ts'
import { TINY, tinyBatch } from '../support/tiny.ts'

const schedule = NoiseSchedule.create({ name: 'cosine', timestepCount: 20 })
const slots = [
  { begin: 0, end: 3 },
  { begin: 3, end: 9 },
  { begin: 9, end: 20 },
]
const train = inMemory({ data: tinyBatch(12).data as Uint8Array, shape: [12, 1, 8, 8] })
const heldOut = tinyBatch(3)

describe('interference', () => {
  let folder: string
  let source: UNet
  let options: InterferenceOptions
  before(async () => {
    folder = await mkdtemp(join(tmpdir(), 'trislot-interference-'))
    source = await UNet.create(TINY, { seed: 1 })
    await source.saveWeights(join(folder, 'w.safetensors'))
    options = {
      ...{ slots, train, heldOut, seeds: [1, 2], steps: 2, lr: 1e-2, batchSize: 4, timestepsPerSlot: 2 },
      async copy(seed) {
        const unet = await UNet.create(TINY)
        await unet.loadWeights(join(folder, 'w.safetensors'))
        return Trainer.create(unet, schedule, { seed, emaRates: [] })
      },
    }
  })
  after(() => rm(folder, { recursive: true }))

  it('trains all heads alike where a strategy gave the shares', async () => {
    const found = async (choose: 'given' | 'mean') => {
      const copy: InterferenceOptions['copy'] = async (seed) => {
        const unet = await UNet.create(TINY)
        await unet.loadWeights(join(folder, 'w.safetensors'))
        return Trainer.create(unet, schedule, { seed, emaRates: [], loss: { choose } })
      }
      return interference({ ...options, copy, seeds: [1], steps: 1 })
    }
    const [given, mean] = [await found('given'), await found('mean')]
    const change = given.matrices[0]!.absolute[0]![0]!.mean
    expect(change).to.be.closeTo(mean.matrices[0]!.absolute[0]![0]!.mean, 1e-6 * Math.abs(change))
  })

  it('has a row for each slot trained and one for all timesteps, a column for each slot measured', async () => {
    const found = await interference(options)
    expect(found.timesteps).to.deep.equal([
      [0, 2],
      [4, 7],
      [11, 17],
    ])
    expect(found.matrices.map(({ head, space }) => `${head} ${space}`)).to.deep.equal([
      ...['xStart eps', 'xStart F', 'v eps', 'v F', 'eps eps', 'eps F'],
    ])
    for (const { relative, absolute, before: start, own, near, far, others, control } of found.matrices) {
      expect(relative.map((row) => row.length)).to.deep.equal([3, 3, 3, 3])
      for (const [i, row] of relative.entries()) {
        for (const [j, cell] of row.entries()) {
          const change = absolute[i]![j]!.mean
          expect(cell.mean * start[j]!).to.be.closeTo(change, 1e-9 * Math.abs(start[j]!))
          expect(cell.n).to.equal(2)
        }
      }
      const mean = (cells: [number, number][]) =>
        cells.reduce((sum, [i, j]) => sum + relative[i]![j]!.mean, 0) / cells.length
      expect(own.mean).to.be.closeTo(mean([[0, 0], [1, 1], [2, 2]]), 1e-9) // biome-ignore format: pairs
      expect(near?.mean).to.be.closeTo(mean([[0, 1], [1, 0], [1, 2], [2, 1]]), 1e-9) // biome-ignore format: pairs
      expect(far?.mean).to.be.closeTo(mean([[0, 2], [2, 0]]), 1e-9) // biome-ignore format: pairs
      expect(others?.mean).to.be.closeTo((4 * (near?.mean ?? 0) + 2 * (far?.mean ?? 0)) / 6, 1e-9)
      expect(control.mean).to.be.closeTo(mean([[3, 0], [3, 1], [3, 2]]), 1e-9) // biome-ignore format: pairs
      expect(control.n).to.equal(2)
    }
  })

  it('refuses a seed that is there twice, whose repetition would narrow the intervals', async () => {
    expect((await rejection(interference({ ...options, seeds: [1, 2, 1] }))).message).to.equal(
      'interference: expected seeds[2] to be a whole number that is not there twice, got 1',
    )
  })

  it('never changes the network that was copied', async () => {
    const loss = async () => (await measureTimestepLoss(source, schedule, { images: heldOut })).loss
    const first = await loss()
    await interference(options)
    expect(await loss()).to.deep.equal(first)
  })

  it('shows no change without a learning rate', async () => {
    const { matrices } = await interference({ ...options, lr: 0, seeds: [1] })
    for (const { absolute } of matrices) {
      for (const { mean } of absolute.flat()) expect(mean).to.equal(0)
    }
  })

  it('shares images and uniforms among the copies of a seed, so that equal slots have equal rows', async () => {
    const one = await interference({ ...options, slots: [{ begin: 0, end: 20 }], seeds: [3] })
    for (const { absolute, own, near, others, control } of one.matrices) {
      expect(absolute[0]).to.deep.equal(absolute[1])
      expect(control).to.deep.equal(own)
      expect([near, others]).to.deep.equal([null, null])
    }
    const [{ rows }] = interferenceInstrument({ interference: one }).tables as [InstrumentTable]
    expect(rows[0]?.slice(3, 6)).to.deep.equal(['none', 'none', 'none'])
  })

  it('becomes an instrument with two matrices for each head and space', async () => {
    const found = await interference({ ...options, seeds: [1] })
    const gradients = await gradientConflict(source, schedule, {
      slots,
      images: train,
      draws: 4,
      batchSize: 2,
    })
    const instrument = interferenceInstrument({ interference: found, gradients })
    expect(instrument.plots.filter(({ kind }) => kind === 'heatmap')).to.have.length(12 + 3)
    expect(JSON.parse(JSON.stringify(instrument))).to.deep.equal(instrument)
    const [overview, cells] = instrument.tables as InstrumentTable[]
    expect(overview?.columns.at(-1)).to.equal('control: all timesteps')
    expect(cells?.title).to.contain('xStart in eps, slot trained x slot measured')
    expect(cells?.rows.map(([trained]) => trained)).to.deep.equal(['0–2', '3–8', '9–19', 'all'])
    const ofSlots = (instrument.tables as InstrumentTable[]).find(({ title }) =>
      /^Gradients of the slots/.test(title),
    )
    expect(ofSlots?.columns[3]).to.equal('noise scale, images ± standard error')
    const { noiseScale, noiseScaleError } = gradients.spaces[0]!
    for (const [k, row] of (ofSlots?.rows ?? []).entries()) {
      if (noiseScale[k] === null) expect(row[3]).to.equal(null)
      else expect(String(row[3]).includes(' ± ')).to.equal(noiseScaleError[k] !== null)
    }
    const two = await interference({ ...options, steps: 1 })
    const [, table] = interferenceInstrument({ interference: two }).tables as InstrumentTable[]
    expect(table?.rows[3]?.[1]).to.match(/^[+-][\d.e-]+ % \[[+-][\d.e-]+ %, [+-][\d.e-]+ %\]$/)
  })
})

describe('gradientConflict', () => {
  it('compares slots in each space, with shares of the variance that add up to 1', async () => {
    const unet = await UNet.create({ ...TINY, heads: ['eps'] }, { seed: 1 })
    const found = await gradientConflict(unet, schedule, { slots, images: train, draws: 4, batchSize: 2 })
    expect(found.spaces.map(({ space }) => space)).to.deep.equal(['eps', 'F'])
    expect(found.byHead).to.deep.equal([])
    for (const { cosine, varianceShare, trace, squaredNorm, noiseScale, noiseScaleError } of found.spaces) {
      expect(noiseScaleError).to.have.length(3)
      expect(cosine).to.have.length(9)
      expect(varianceShare.reduce((a, b) => a + b, 0)).to.be.closeTo(1, 1e-9)
      for (const [k, scale] of noiseScale.entries()) {
        if (scale !== null) expect(scale).to.be.closeTo(trace[k]! / squaredNorm[k]!, 1e-9)
      }
    }
  })

  it('compares errors without the bound where the bound is what is trained', async () => {
    const unet = await UNet.create({ ...TINY, heads: ['eps'], learnsVariance: true }, { seed: 1 })
    const options = { slots, images: train, draws: 4, batchSize: 1 } as const
    const kl = await gradientConflict(unet, schedule, { ...options, training: { loss: { kind: 'kl' } } })
    const mse = await gradientConflict(unet, schedule, options)
    expect(kl.spaces).to.deep.equal(mse.spaces)
    const own = await gradientConflict(unet, schedule, {
      ...{ ...options, spaces: ['own'], training: { loss: { kind: 'kl' } } },
    })
    expect(own.spaces[0]!.squaredNorm).to.not.deep.equal(mse.spaces[0]!.squaredNorm)
  })

  it('says what each head contributes to the trunk', async () => {
    const unet = await UNet.create(TINY, { seed: 1 })
    const trainer = await Trainer.create(unet, schedule, { emaRates: [] })
    // Of a network whose last convolution is still zero the trunk has no gradient.
    for (let step = 0; step < 3; step++) {
      await trainer.trainStep({ images: tinyBatch(), t: Int32Array.of(1, 5, 9, 19), lr: 1e-2 })
    }
    const found = await gradientConflict(unet, schedule, {
      ...{ slots, images: train, draws: 4, batchSize: 4, spaces: ['own'] },
    })
    expect(found.byHead).to.have.length(3)
    for (const { share, cosine } of found.byHead) {
      expect(cosine).to.have.length(9)
      const known = share.filter((value) => value !== null)
      if (known.length === 3) expect(known.reduce((a, b) => a + b, 0)).to.be.closeTo(1, 1e-9)
    }
    expect(found.byHead.some(({ share }) => share.every((value) => value !== null))).to.equal(true)
  })
})
