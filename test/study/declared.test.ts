import { readdirSync, readFileSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect } from 'chai'
import { type CellResult, runCell } from '../../lib/study/cell.ts'
import { parseStudy, type Study, type StudyArm, type StudyOptions } from '../../lib/study/study-file.ts'
import { BIN_COUNT } from '../../lib/training/loss-bins.ts'
import { runConfig } from '../../lib/training/run-config.ts'
import type { StatsRow } from '../../lib/training/run-stats.ts'
import { runSchedule } from '../../lib/training/timestep-options.ts'

const STUDIES = new URL('../../studies/', import.meta.url)
const NAMES = readdirSync(STUDIES).filter((name) => name.endsWith('.json'))
const declared = (name: string) => JSON.parse(readFileSync(new URL(name, STUDIES), 'utf8')) as StudyOptions

describe('the declared studies', () => {
  it('are there', () => {
    expect(NAMES).to.include.members(['small-batch.json', 'slots.json', 'three-heads.json'])
  })

  for (const name of NAMES) {
    it(`${name} is a study, with its own name`, async () => {
      const study = await parseStudy(declared(name))
      expect(`${study.name}.json`).to.equal(name)
      expect(study.seeds.length).to.be.at.least(2)
      expect(study.arms.length).to.be.at.least(2)
      const [{ steps, batchSize }] = study.arms as [StudyArm]
      for (const arm of study.arms) {
        // Equal images, up to half a batch.
        if (arm.name.endsWith('equal-steps')) {
          expect(arm.steps, arm.name).to.equal(steps)
          continue
        }
        const images = arm.name.endsWith('-third') ? 3 * arm.steps * arm.batchSize : arm.steps * arm.batchSize
        expect(images, arm.name).to.be.closeTo(steps * batchSize, arm.batchSize / 2)
      }
      for (const { options } of study.arms)
        expect(runSchedule(await runConfig(options))).to.not.equal(undefined)
    })
  }
})

/** A study with all its arms, of a few steps each and one seed. */
async function miniature(name: string, folder: string, imageCount: number): Promise<Study> {
  const { images, stopAt: _, evaluate: __, compare: ___, base, arms, ...rest } = declared(name)
  const short = (options: Readonly<Record<string, unknown>>) => ({
    ...options,
    ...(typeof options.steps === 'number' && { steps: Math.ceil(options.steps / 125) }),
    evaluate: { ...((options.evaluate ?? {}) as object), combinations: [] },
  })
  const { evaluate: _____, ...shortBase } = short(base)
  return parseStudy({
    ...rest,
    ...(images !== undefined && { images: imageCount }),
    base: { ...shortBase, logEvery: 1 },
    arms: Object.fromEntries(Object.entries(arms).map(([arm, options]) => [arm, short(options)])),
    seeds: [0],
    evaluate: { images: 4, curveImages: 2, timesteps: 3 },
    out: join(folder, name),
  })
}

describe('miniatures of the studies', function () {
  this.timeout(600_000)
  let folder: string
  before(async () => {
    folder = await mkdtemp(join(tmpdir(), 'trislot-miniatures-'))
  })
  after(() => rm(folder, { recursive: true, force: true }))

  const tried = new Set<string>()
  interface Cell {
    readonly result: CellResult
    readonly rows: StatsRow[]
    readonly run: string
  }
  /** Cells by what their arm says: several studies have the same. */
  const known = new Map<string, Cell>()
  async function trained(name: string, imageCount = 64) {
    tried.add(name)
    const study = await miniature(name, folder, imageCount)
    const cells = new Map<string, Cell>()
    for (const arm of study.arms) {
      const said = JSON.stringify([arm.options, arm.evaluate])
      const before = known.get(said)
      if (before) {
        cells.set(arm.name, before)
        continue
      }
      const result = (await runCell(study, arm, 0)) as CellResult
      const run = join(study.out, arm.name, 'seed-0')
      const lines = readFileSync(join(run, 'stats.jsonl'), 'utf8').trim().split('\n')
      const cell = { result, run, rows: lines.map((line) => JSON.parse(line)) }
      cells.set(arm.name, cell)
      known.set(said, cell)
      expect(result.imagesSeen, arm.name).to.equal(arm.steps * arm.batchSize)
      expect(lines.length, arm.name).to.equal(arm.steps)
      const { ema, raw } = result.heldOut
      expect(Number.isFinite((ema ?? raw)?.['F.clipped']), arm.name).to.equal(true)
    }
    return {
      result: (arm: string) => cells.get(arm)?.result as CellResult,
      rows: (arm: string) => cells.get(arm)?.rows as StatsRow[],
      run: (arm: string) => cells.get(arm)?.run as string,
      arms: study.arms,
    }
  }
  /** Timesteps of a step in the lower half of the process. */
  const inLowerHalf = ({ byBin }: StatsRow): number =>
    byBin?.count.slice(0, 5).reduce((a, b) => a + b, 0) as number
  const binsOf = ({ byBin }: StatsRow): number[] =>
    byBin?.count.flatMap((n, bin) => (n > 0 ? [bin] : [])) ?? []

  it('alternation: every step is logged, and systematic timesteps are spread evenly in each', async () => {
    const { result, rows, arms } = await trained('alternation.json')
    for (const { name, steps } of arms) {
      const counted = result(name).alternation?.count
      expect(counted, name).to.equal(steps - Math.floor(steps / 10))
    }
    for (const space of ['eps', 'F']) {
      expect(rows(`b4-${space}-systematic`).every((row) => inLowerHalf(row) === 2)).to.equal(true)
      expect(rows(`b4-${space}-iid`).every((row) => inLowerHalf(row) === 2)).to.equal(false)
    }
    // The same timesteps, whatever is predicted.
    const drawn = (arm: string) => rows(arm).map(({ byBin }) => byBin?.count)
    expect(drawn('b4-eps-golden')).to.deep.equal(drawn('b4-F-golden'))
  })

  it('failure: equal steps or equal images at each rate, with guided-diffusion’s loss', async () => {
    const { result, arms } = await trained('failure.json')
    for (const rate of ['plain', 'fast', 'hot', 'hottest', 'v']) {
      expect(result(`${rate}-4-equal-images`).imagesSeen).to.equal(result(`${rate}-64`).imagesSeen)
      if (rate !== 'hottest') expect(result(`${rate}-4-equal-steps`).step).to.equal(result(`${rate}-64`).step)
    }
    for (const { name, options } of arms) {
      const { lr, emaRates, beta2, weightDecay } = await runConfig(options)
      expect([1e-4, 1e-3, 4e-3, 16e-3]).to.include(lr)
      expect(weightDecay).to.equal(0)
      if (!name.endsWith('half-lives')) expect([emaRates, beta2]).to.deep.equal([[0.9999], 0.999])
      else expect([emaRates[0], beta2]).to.deep.equal([0.5 ** (4 / 800), 0.5 ** (4 / 20_000)])
    }
  })

  for (const [name, batchSize] of [
    ['slots.json', 4],
    ['slots-batch8.json', 8],
  ] as const) {
    // biome-ignore format: pairs
    it(`${name}: slots open as their plans say, and the first arms draw from all timesteps`, async () => {
      const { rows, result, arms } = await trained(name)
      expect(arms.find(({ name: arm }) => arm === 'uniform')?.batchSize).to.equal(batchSize)
      const steps = 64 / batchSize
      const inTurn = rows('round-robin').map(({ slot }) => slot?.[0])
      expect(new Set(inTurn).size).to.equal(Math.min(10, steps))
      expect(rows('round-robin-weights').map(({ slot }) => slot)).to.deep.equal(rows('round-robin').map(({ slot }) => slot))
      const { options } = arms.find(({ name: arm }) => arm === 'sequential') as StudyArm
      const { slotEdges = [], timestepCount } = await runConfig(options)
      for (const row of rows('sequential')) {
        expect(row.slot).to.deep.equal([9])
        const first = Math.floor((BIN_COUNT * (slotEdges[9] as number)) / timestepCount)
        expect(Math.min(...binsOf(row))).to.be.at.least(first)
      }
      const visited = new Set(rows('uniform').flatMap(binsOf))
      expect(visited.size).to.be.at.least(9)
      expect(rows('systematic').every((row) => inLowerHalf(row) === batchSize / 2)).to.equal(true)
      expect(result('v').heldOut.heads).to.deep.equal(['v'])
      expect(result('uniform').heldOut.heads).to.deep.equal(['eps'])
      expect(result('paper').heldOut.heads).to.deep.equal(['xStart', 'v', 'eps'])
    })
  }

  it('small-batch: all arms see as many images, but for the thirds', async () => {
    const { arms } = await parseStudy(declared('small-batch.json'))
    for (const { name, steps, batchSize } of arms)
      expect(steps * batchSize, name).to.be.closeTo(name.endsWith('-third') ? 4000 : 12_000, 32)
    const { result } = await trained('small-batch.json')
    expect(result('plain').heldOut.heads).to.deep.equal(['eps'])
    expect(result('recipe').heldOut.heads).to.deep.equal(['xStart', 'v', 'eps'])
  })

  it('three-heads: the heads’ win rates add up to 1, and the strategies read what they train', async () => {
    const { result, run, arms } = await trained('three-heads.json')
    for (const { name, options } of arms) {
      const { heads, raw, ema } = result(name).heldOut
      expect(Object.keys((ema ?? raw)?.heads ?? {}), name).to.have.members([...heads])
      if (heads.length === 1) continue
      const lines = readFileSync(join(run(name), 'heads.jsonl'), 'utf8')
        .trim()
        .split('\n')
      for (const { winRate } of JSON.parse(lines.at(-1) as string).bins) {
        const sum = Object.values(winRate as Record<string, number>).reduce((a, b) => a + b, 0)
        expect(sum, `${name} ${options.mix}`).to.be.closeTo(1, 1e-9)
      }
    }
  })

  // Whatever else is declared: every arm trains as it says, and arms of the same law see the same timesteps.
  it('the others: arms that draw by one law, batch size and count draw the same timesteps', async () => {
    for (const name of NAMES.filter((each) => !tried.has(each))) {
      const { rows, result, arms } = await trained(name, 16)
      const first = new Map<string, { arm: string; drawn: unknown }>()
      for (const { name: arm, options, batchSize, steps } of arms) {
        const config = await runConfig(options)
        const { sampler, stream, uniformShare, samplerNumbers, slotPlan, slotEdges, heads } = config
        expect(result(arm).heldOut.heads, arm).to.deep.equal(heads ?? ['xStart', 'v', 'eps'])
        for (const { loss } of rows(arm)) expect(loss, `${name} ${arm}`).to.be.above(0).and.below(1e4)
        const isAdaptive = ['loss-second-moment', 'adaptive-density', 'time-warping'].includes(sampler)
        if (isAdaptive || config.weighting === 'uncertainty') continue
        const drawn = rows(arm).map(({ byBin }) => byBin?.count)
        const law = JSON.stringify([
          sampler,
          stream,
          uniformShare,
          samplerNumbers,
          slotPlan,
          slotEdges,
          batchSize,
          steps,
        ])
        const before = first.get(law)
        if (before) expect(drawn, `${name}: ${arm} and ${before.arm}`).to.deep.equal(before.drawn)
        else first.set(law, { arm, drawn })
      }
    }
  })
})
