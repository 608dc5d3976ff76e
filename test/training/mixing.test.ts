import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect } from 'chai'
import type { HeadRow } from '../../lib/mixing/head-row.ts'
import { MIX_NAMES } from '../../lib/mixing/strategies.ts'
import { headStatisticsOf, readCheckpoint } from '../../lib/training/checkpoint.ts'
import type { GradientRow } from '../../lib/training/gradient-shares.ts'
import { run } from '../../lib/training/run.ts'
import { type RunOptions, runConfig } from '../../lib/training/run-config.ts'
import { rejection } from '../support/rejection.ts'
import { SMALL, smallData } from '../support/small-run.ts'

describe('run with mix', () => {
  let small: Awaited<ReturnType<typeof smallData>>
  before(async () => {
    small = await smallData()
  })
  after(() => small.remove())

  const { choose: _, microBatch: __, ...rest } = SMALL
  const options = (
    name: string,
    steps: number,
    mix?: string,
    more: Partial<RunOptions> = {},
  ): RunOptions => ({
    ...rest,
    ...{ data: small.data, steps, run: join(small.folder, name), ...more },
    ...(mix !== undefined && { mix }),
  })
  const lines = async (folder: string): Promise<HeadRow[]> =>
    (await readFile(join(folder, 'heads.jsonl'), 'utf8'))
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line))

  it('trains with every strategy, and is told what it does', async () => {
    for (const mix of MIX_NAMES) {
      const log: string[] = []
      const { checkpoint } = await run(options(`every-${mix}`, 3, mix), { log: (line) => log.push(line) })
      const about = log.find((line) => line.startsWith('heads: '))
      expect(about, mix).to.match(new RegExp(`^heads: ${mix}, .*; loss in space (own|F)`))
      const { mixing, trainer } = await readCheckpoint(checkpoint as string)
      expect(mixing?.name).to.equal(mix)
      expect([trainer.loss.choose, trainer.loss.space], mix).to.not.include(undefined)
    }
  })

  for (const mix of [
    'softmin:stop=0.1',
    'table:warmup=0',
    'consensus:warmup=2',
    'uncertainty',
    'normalised',
  ]) {
    it(`continues ${mix} bit for bit, with its statistics`, async () => {
      const name = mix.replace(/\W.*/, '')
      const straight = await run(options(`${name}-straight`, 36, mix, { microBatch: 3 }))
      await run(
        options(`${name}-parts`, 25, mix, {
          microBatch: 3,
          ...(mix.startsWith('softmin') && { mixSteps: 36 }),
        }),
      )
      const parts = await run(options(`${name}-parts`, 36, mix, { microBatch: 3 }))
      const [a, b] = await Promise.all(
        [straight, parts].map(({ checkpoint }) => readCheckpoint(checkpoint as string)),
      )
      expect(b?.files).to.deep.equal(a?.files)
      expect(b?.mixing).to.deep.equal(a?.mixing)
      expect((await lines(parts.folder)).at(-1)).to.deep.equal((await lines(straight.folder)).at(-1))
    })
  }

  it('keeps statistics of the heads in every run of several heads, and none of one', async () => {
    const { checkpoint, folder } = await run(options('plain', 12, undefined, { choose: 'min' }))
    const state = await readCheckpoint(checkpoint as string)
    const statistics = headStatisticsOf(state)
    expect(state.mixing?.name).to.equal('none')
    expect(statistics?.heads).to.deep.equal(['xStart', 'v', 'eps'])
    const counts = Array.from(
      { length: statistics?.binCount as number },
      (_, bin) => statistics?.count(bin) as number,
    )
    expect(counts.reduce((a, b) => a + b)).to.equal(12 * 4)
    const rows = await lines(folder)
    expect(rows.map(({ step }) => step)).to.deep.equal([10, 12]) // every tenth line of stats.jsonl, and what is saved
    expect(rows[1]?.bins.reduce((sum, { count }) => sum + count, 0)).to.equal(48)
    const single = await run(options('single', 2, undefined, { heads: ['v'] }))
    expect((await readCheckpoint(single.checkpoint as string)).mixing).to.equal(undefined)
    expect((await rejection(readFile(join(single.folder, 'heads.jsonl')))).code).to.equal('ENOENT')
  })

  it('measures at each preview what each head gives to the trunk and its held-out errors, the same after a resume', async () => {
    const more = {
      previewEvery: 5,
      previewCount: 2,
      timestepCount: 20,
      sampler: 'uniform',
      heldOut: 6,
    } as const
    const rows = async <Row = GradientRow>(folder: string, name = 'gradients'): Promise<Row[]> =>
      (await readFile(join(folder, `${name}.jsonl`), 'utf8'))
        .trim()
        .split('\n')
        .map((line) => JSON.parse(line))
    const straight = await run(options('shares', 12, 'all-own', more))
    await run(options('shares-parts', 7, 'all-own', more))
    const parts = await run(options('shares-parts', 12, 'all-own', more))
    await run(options('shares-parts', 12, 'all-own', more))
    const [a, b] = [await rows(straight.folder), await rows(parts.folder)]
    expect(a.map(({ step }) => step)).to.deep.equal([5, 10, 12])
    expect(b.map(({ step }) => step)).to.deep.equal([5, 7, 10, 12])
    expect(b.filter(({ step }) => step !== 7)).to.deep.equal(a)
    // Their held-out errors, of the average of the weights: 6 images at each timestep that is measured.
    const held = await rows<HeadRow>(straight.folder, 'held-out-heads')
    expect(held.map(({ step }) => step)).to.deep.equal([5, 10, 12])
    const again = await rows<HeadRow>(parts.folder, 'held-out-heads')
    expect(again.filter(({ step }) => step !== 7)).to.deep.equal(held)
    for (const { count } of held.at(-1)?.bins ?? []) expect(count % 6).to.equal(0)
    expect(held[2]?.bins[0]?.error).to.not.deep.equal(held[0]?.bins[0]?.error)
    const levels = a.flatMap((row) => row.levels)
    expect(levels.length).to.be.above(3)
    for (const { t, share } of levels) {
      expect(t[1]).to.be.above(t[0])
      if (share) expect(Object.values(share).reduce((x, y) => x + y)).to.be.closeTo(1, 1e-9)
    }
    expect(levels.some(({ share }) => share !== null)).to.equal(true)
    // A head that the strategy does not train gives nothing, and the mixture all.
    const merged = await run(options('shares-merge', 5, 'merge', more))
    const known = (await rows(merged.folder))[0]?.levels.flatMap(({ share }) => (share ? [share] : []))
    expect(known).to.have.length.above(0)
    for (const share of known ?? []) expect(share).to.deep.equal({ xStart: 0, eps: 0, mixture: 1 })
    const single = await run(options('shares-single', 5, undefined, { ...more, heads: ['v'] }))
    expect((await rejection(readFile(join(single.folder, 'gradients.jsonl')))).code).to.equal('ENOENT')
  })

  it('settles the loss by the strategy, and lets the space be another', async () => {
    expect(await runConfig(options('', 9, 'table'))).to.include({
      choose: 'given',
      compare: 'own',
      space: 'F',
    })
    expect(await runConfig(options('', 9, 'relaxed', { space: 'v' }))).to.include({ space: 'v', mixSteps: 9 })
    const config = await runConfig(options('', 9, 'relaxed'))
    expect(await runConfig(config)).to.deep.equal(config)
  })

  it('refuses options that contradict the strategy, and strategies that the heads do not allow', async () => {
    const message = async (mix: string | undefined, more: Partial<RunOptions>): Promise<string> =>
      (await rejection(run(options('refused', 4, mix, more)))).message
    expect(await message('table', { choose: 'min' })).to.equal(
      'run: expected choose to be absent or given with mix table, got "min"',
    )
    expect(await message('all:cap=3', { space: 'own' })).to.equal(
      'run: expected mix to be without cap where space is own, which converts nothing, got "all:cap=3"',
    )
    expect(await message('relaxed', { compare: 'own' })).to.equal(
      'run: expected compare to be absent or xStart with mix relaxed, got "own"',
    )
    expect(await message('merge', { space: 'own' })).to.equal(
      'run: expected space to be absent or one of xStart, v, eps, F with mix merge, got "own"',
    )
    expect(await message('table', { mixSteps: 3 })).to.equal(
      'run: expected mixSteps to be absent with mix table, which has no course, got 3',
    )
    expect(await message(undefined, { mixSteps: 3 })).to.equal(
      'run: expected mixSteps to be absent without mix, got 3',
    )
    expect(await message(undefined, { choose: 'given' })).to.equal(
      'run: expected choose to be another word without mix, got "given"; shares are given by a strategy, such as mix table',
    )
    expect(await message('tabel', {})).to.match(/^run: expected mix to be one of .*; did you mean table\?$/)
    expect(await message('table', { heads: ['v'] })).to.equal(
      'run: expected heads to be several heads, for mix table, got ["v"]',
    )
    expect((await runConfig({ data: 'digits', steps: 1, mix: 'merge' })).heads).to.deep.equal([
      'xStart',
      'eps',
    ])
    expect(await message('merge', { heads: ['v', 'eps'] })).to.equal(
      'run: expected heads to be xStart and eps, for mix merge, got ["v", "eps"]',
    )
  })

  it('says how to train longer when a course was to end with the steps', async () => {
    await run(options('course', 2, 'relaxed'))
    expect((await rejection(run(options('course', 4, 'relaxed')))).message).to.contain(
      'give mixSteps 2 to train on with more steps',
    )
    expect(await run(options('course', 4, 'relaxed', { mixSteps: 2 }))).to.include({ step: 4 })
  })

  it('draws previews by the table and the best mixture of its own statistics', async () => {
    const more = { previewEvery: 2, previewCount: 2 }
    await run(options('blue', 2, 'all', { ...more, combine: 'blue' }))
    await run(options('table', 2, 'all', { ...more, combine: 'table' }))
    expect(
      (await rejection(run(options('one', 2, undefined, { heads: ['v'], combine: 'blue' })))).message,
    ).to.equal(
      'parseCombine: expected statistics of the heads in a run of one head for combine blue, got none; a ' +
        'network of one head (v) has nothing to combine',
    )
  })
})
