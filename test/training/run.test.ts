import { existsSync } from 'node:fs'
import { mkdir, readdir, readFile, rm, truncate, writeFile } from 'node:fs/promises'
import { basename, join } from 'node:path'
import { expect } from 'chai'
import { writeNpz } from '../../lib/data/npz.ts'
import { runtimeInfo, setKernels } from '../../lib/device.ts'
import { onePicture } from '../../lib/report/grid.ts'
import { slotEdges, timestepCount } from '../../lib/report/page/run-figures.ts'
import { readRunFolder } from '../../lib/report/page/run-folder.ts'
import { writePng } from '../../lib/report/png.ts'
import {
  latestCheckpoint,
  listCheckpoints,
  loadCheckpoint,
  readCheckpoint,
  saveCheckpoint,
} from '../../lib/training/checkpoint.ts'
import { run } from '../../lib/training/run.ts'
import { runConfig } from '../../lib/training/run-config.ts'
import { lockRun } from '../../lib/training/run-lock.ts'
import type { StatsRow } from '../../lib/training/run-stats.ts'
import { command, start, until } from '../support/command.ts'
import { asArguments, SMALL, smallData } from '../support/small-run.ts'

describe('run', () => {
  let small: Awaited<ReturnType<typeof smallData>>
  before(async () => {
    small = await smallData()
  })
  after(() => small.remove())

  const options = (name: string, steps: number) => ({
    ...SMALL,
    data: small.data,
    steps,
    run: join(small.folder, name),
  })

  async function failure(work: Promise<unknown>): Promise<string> {
    try {
      await work
    } catch (error) {
      return (error as Error).message
    }
    throw new Error('expected a failure')
  }

  const statsOf = async (folder: string): Promise<StatsRow[]> =>
    (await readFile(join(folder, 'stats.jsonl'), 'utf8'))
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line))

  it('continues after kill -9 as if it had never stopped: weights, averages, optimizer and log, byte for byte', async () => {
    const killed = options('killed', 1_000_000)
    const { child, ended } = start(['train', ...asArguments({ ...killed, saveEvery: 7, keep: 2 })])
    await until(() => existsSync(join(killed.run, 'checkpoints', 'step-00000014')), 'two checkpoints')
    child.kill('SIGKILL')
    expect((await ended).signal).to.equal('SIGKILL')
    const { step } = await readCheckpoint((await latestCheckpoint(killed.run)) as string)

    const log: string[] = []
    const resumed = await run({ ...killed, steps: step + 9 }, { log: (line) => log.push(line) })
    expect(log[0]).to.match(new RegExp(`, from step ${step}$`))
    const straight = await run(options('straight', step + 9))
    const { files } = await readCheckpoint(straight.checkpoint as string)
    expect(files.map(({ name }) => name)).to.include.members(['ema-0.9.safetensors', 'ema-0.99.safetensors'])
    expect((await readCheckpoint(resumed.checkpoint as string)).files).to.deep.equal(files)
    const stats = await readFile(join(straight.folder, 'stats.jsonl'))
    expect(stats.toString().trim().split('\n')).to.have.length(step + 9)
    expect(await readFile(join(resumed.folder, 'stats.jsonl'))).to.deep.equal(stats)
  })

  it('keeps the kernels that it began with, whatever the process has when it goes on', async () => {
    const { kernels } = await runtimeInfo()
    try {
      await run({ ...options('kernels', 1), kernels: 'plain' })
      await setKernels('fast')
      const { folder } = await run(options('kernels', 2))
      expect(JSON.parse(await readFile(join(folder, 'config.json'), 'utf8')).kernels).to.equal('plain')
      expect((await runtimeInfo()).kernels).to.equal('plain')
      expect(await failure(run({ ...options('kernels', 3), kernels: 'fast' }))).to.contain(
        'run: expected kernels to be "plain", as when',
      )
    } finally {
      await setKernels(kernels as 'fast')
    }
  })

  it('writes config, stats, plots, previews of raw and averaged weights, and checkpoints', async () => {
    const result = await run({
      ...options('whole', 4),
      previewEvery: 2,
      previewCount: 2,
      saveEvery: 2,
      keep: 1,
    })
    expect(result).to.include({ step: 4, wasStopped: false })
    expect((await readdir(result.folder)).sort()).to.include.members([
      'checkpoints',
      'config.json',
      'loss.svg',
      'previews',
      'stats.jsonl',
      'timing.jsonl',
    ])
    expect((await readdir(join(result.folder, 'previews'))).sort()).to.deep.equal([
      'step-00000002-ema.png',
      'step-00000002-raw.png',
      'step-00000004-ema.png',
      'step-00000004-raw.png',
    ])
    expect((await listCheckpoints(result.folder)).map((folder) => basename(folder))).to.deep.equal([
      'step-00000004',
    ])
    const [first] = (await readFile(join(result.folder, 'stats.jsonl'), 'utf8')).split('\n')
    const row = JSON.parse(first as string)
    expect(Object.keys(row)).to.deep.equal([
      'step',
      'imagesSeen',
      'loss',
      'gradNorm',
      'perHead',
      'chosen',
      'lr',
      'byBin',
    ])
    expect(row).to.include({ step: 1, imagesSeen: 4, lr: 2e-4 })
    expect(row.chosen.xStart + row.chosen.v + row.chosen.eps).to.equal(1)
  })

  it('draws previews from the same noise at every step, and from other noise with another seed', async () => {
    // One step is trained, so that the network predicts something; then the rate is 0 and the weights stay.
    const still = { warmupSteps: 0, lrSchedule: 'linear', lrSteps: 1, combine: 'v' } as const
    const previews = { previewEvery: 2, previewCount: 2 }
    const trained = await run({ ...options('still', 4), ...still, ...previews })
    const preview = (folder: string, step: number) =>
      readFile(join(folder, 'previews', `step-0000000${step}-raw.png`))
    const shown = await preview(trained.folder, 2)
    expect((await preview(trained.folder, 4)).equals(shown)).to.equal(true)

    // The same weights with each seed: a rate below what float32 can add.
    const init = join(trained.checkpoint as string, 'model.safetensors')
    for (const seed of [0, 1]) {
      const same = { init, combine: 'v', lr: 1e-30, seed } as const
      const { preset: _, ...rest } = options(`still-${seed}`, 2)
      const { folder } = await run({ ...rest, ...same, ...previews })
      expect((await preview(folder, 2)).equals(shown)).to.equal(seed === 0)
    }
  })

  it('says which slots were open when it trains slots', async () => {
    const { sampler: _, ...rest } = options('slots', 3)
    const { folder } = await run({ ...rest, sampler: 'slots', slots: 4, slotPlan: 'round-robin' })
    expect((await statsOf(folder)).map(({ slot }) => slot)).to.deep.equal([[0], [1], [2]])
  })

  it('says where slots are cut when training cuts them anew, and draws those on the page', async () => {
    const { sampler: _, ...rest } = options('refreshed', 40)
    const refreshed = {
      ...rest,
      sampler: 'slots',
      slots: 2,
      slotRefresh: 4,
      logEvery: 4,
      timestepCount: 8,
    } as const
    const { folder } = await run(refreshed)
    const edges = (await statsOf(folder)).map((row) => row.slotEdges)
    expect(edges[0]).to.deep.equal([0, 4, 8])
    expect(edges.at(-1)).to.not.deep.equal(edges[0])
    const read = await readRunFolder(folder)
    expect(slotEdges(read)).to.deep.equal(edges.at(-1))
    expect(timestepCount({ config: { timestepCount: 1000, respacing: 'ddim25' }, rows: [] })).to.equal(25)
    expect(timestepCount({ config: { timestepCount: 1000, respacing: '10,15' }, rows: [] })).to.equal(25)
  })

  it('cuts slots anew by the gradients of the moment, the same after a resume', async () => {
    const { sampler: _, ...rest } = options('by-gradients', 12)
    const given = {
      ...rest,
      sampler: 'slots',
      slots: 2,
      slotRefresh: 4,
      slotRefreshRule: 'gradient-moment',
      logEvery: 1,
      timestepCount: 20,
    } as const
    const edges = async (folder: string) => (await statsOf(folder)).map((row) => row.slotEdges)
    const straight = await edges((await run(given)).folder)
    expect(straight.slice(0, 3)).to.deep.equal([1, 2, 3].map(() => [0, 10, 20]))
    expect(straight[3]).to.not.deep.equal(straight[2])
    expect(straight[7]?.at(-1)).to.equal(20)
    // Stopped where a cut was due, and between two.
    const parts = { ...given, run: `${given.run}-parts` }
    for (const steps of [4, 6]) await run({ ...parts, steps })
    expect(await edges((await run(parts)).folder)).to.deep.equal(straight)
  })

  it('stops after the step under way when it is told to, saves it, and goes on from there', async () => {
    const stop = new AbortController()
    const first = await run(options('stopped', 8), {
      signal: stop.signal,
      onReport: ({ done }) => done === 3 && stop.abort(),
    })
    expect(first).to.include({ step: 3, wasStopped: true })
    expect(first.checkpoint).to.match(/step-00000003$/)
    const second = await run(options('stopped', 8))
    expect(second).to.include({ step: 8, wasStopped: false })
  })

  it('has nothing left to do when its steps are done', async () => {
    const { checkpoint } = await run(options('done', 2))
    expect(await run(options('done', 2))).to.include({ step: 2, checkpoint, wasStopped: false })
  })

  it('refuses to continue with other options, and shows both values', async () => {
    const before = options('changed', 2)
    await run(before)
    expect(await failure(run({ ...before, batchSize: 2, lr: 0.5 }))).to.equal(
      `run: expected batchSize to be 4, as when ${before.run} began, got 2; lr to be 0.001, as when ${before.run} began, ` +
        'got 0.5; use another folder (option run) for another run',
    )
  })

  it('refuses to continue when its data has other images than before', async () => {
    const before = { ...options('images', 2), heldOut: 4 }
    await run(before)
    const pictures = await readFile(small.data)
    try {
      await writeNpz(small.data, { arr_0: { data: new Uint8Array(25 * 64), shape: [25, 8, 8, 1] } })
      expect(await failure(run({ ...before, steps: 3 }))).to.equal(
        `run: expected data to hold 24 images, as when ${before.run} began, got 25 of ${small.data}; begin a run of its own in another ` +
          `folder (option run), from these weights if you like (option init, a checkpoint of ${before.run})`,
      )
    } finally {
      await writeFile(small.data, pictures)
    }
    expect((await run({ ...before, steps: 3 })).step).to.equal(3)
  })

  it('refuses predictions that its network cannot make before the first step, not at the first preview', async () => {
    for (const [combine, more, message] of [
      [
        'gate',
        {},
        'parseCombine: expected combine to be another word for a network without a gate, got "gate"',
      ],
      [
        'xStart=0.3,v=0.6',
        {},
        'parseCombine: expected combine to be weights that add up to 1, got 0.8999999999999999',
      ],
      [
        'eps',
        { zeroTerminalSnr: true, schedule: 'linear', timestepCount: 40 },
        'parseCombine: expected combine to be without eps, because no signal is left at the last timestep, got "eps"',
      ],
    ] as const) {
      const steps: number[] = []
      const asked = { ...options('early', 3), previewEvery: 1, ...more, combine }
      const error = failure(run(asked, { onReport: ({ step }) => steps.push(step) }))
      expect(await error).to.equal(message)
      expect(steps).to.have.length(0)
    }
  })

  it('shows what a process that died between a save and its preview has not shown', async () => {
    const asked = { ...options('shown', 6), heldOut: 4, previewEvery: 3, previewCount: 2, saveEvery: 3 }
    const whole = await run(asked)
    const files = ['held-out-heads.jsonl', 'gradients.jsonl'].map((name) => join(whole.folder, name))
    const before = await Promise.all(files.map((file) => readFile(file, 'utf8')))
    // As after the third step's save.
    await rm(join(whole.folder, 'checkpoints', 'step-00000006'), { recursive: true })
    await rm(join(whole.folder, 'previews'), { recursive: true })
    for (const file of files) await rm(file)
    await run(asked)
    expect(await Promise.all(files.map((file) => readFile(file, 'utf8')))).to.deep.equal(before)
    expect(await readdir(join(whole.folder, 'previews'))).to.have.length(4)
  })

  it('goes on when the weights that it began from are gone', async () => {
    const { checkpoint } = await run(options('parent', 2))
    const { preset: _, ...rest } = options('child', 2)
    const child = { ...rest, init: checkpoint as string }
    await run(child)
    await rm(join(small.folder, 'parent'), { recursive: true })
    expect((await run({ ...child, steps: 4 })).step).to.equal(4)
    expect(await failure(run({ ...child, run: join(small.folder, 'orphan') }))).to.contain(
      checkpoint as string,
    )
  })

  it('goes on where its config.json is gone, and not from what no run saved', async () => {
    const { folder, checkpoint } = await run(options('bare', 2))
    await rm(join(folder, 'config.json'))
    expect(await failure(run({ ...options('bare', 4), lr: 0.5 }))).to.contain(
      'expected lr to be 0.001, as when',
    )
    expect((await run(options('bare', 4))).step).to.equal(4)
    const { trainer } = await loadCheckpoint(checkpoint as string)
    const other = await saveCheckpoint(trainer, join(small.folder, 'own'))
    expect(await failure(run(options('own', 4)))).to.equal(
      `run: expected ${join(small.folder, 'own')} to be the folder of a run, got ${other}, which no run saved; use another folder (option run), and begin from these weights if you like (option init, the checkpoint)`,
    )
  })

  it('refuses a course of the learning rate that has no steps, and a plan that is none, before it begins', async () => {
    const { choose: _, ...rest } = options('course', 10)
    expect(await failure(runConfig({ ...rest, lrSchedule: 'cosine', warmupSteps: 10 }))).to.equal(
      'run: expected lrSteps to be more than the warmupSteps 10, got 10; the learning rate falls after the warm-up; lrSteps are the steps of the run by default',
    )
    const annealed = { ...rest, lrSchedule: 'guidedDiffusionAnneal', warmupSteps: 1 } as const
    expect(await failure(runConfig(annealed))).to.equal(
      'run: expected warmupSteps to be 0 with lrSchedule guidedDiffusionAnneal, got 1; lrSchedule linear has a warm-up',
    )
    expect(await failure(runConfig({ ...rest, sampler: 'slots', slotPlan: 'rundum' }))).to.contain('"rundum"')
  })

  it('refuses a config.json that holds no options', async () => {
    const before = options('odd', 1)
    const file = join((await run(before)).folder, 'config.json')
    for (const text of ['{', 'null', '[]', '5']) {
      await writeFile(file, text)
      expect(await failure(run(before))).to.equal(
        `run: expected ${file} to be a JSON object, got a damaged file; restore it, or use another folder`,
      )
    }
  })

  it('says how to train longer when the learning rate was to end with the steps', async () => {
    const before = { ...options('cosine', 6), lrSchedule: 'cosine' } as const
    await run(before)
    expect(await failure(run({ ...before, steps: 8 }))).to.contain(
      'give lrSteps 6 to train on with more steps',
    )
    const log: string[] = []
    const longer = await run({ ...before, steps: 8, lrSteps: 6 }, { log: (line) => log.push(line) })
    expect(longer).to.include({ step: 8 })
    expect(log[0]).to.equal(
      'warning: from step 7 on the learning rate is 0, and nothing is trained: cosine ends at lrSteps 6; lrSteps of a run that has begun are ' +
        `fixed; to train on, begin another in another folder from its weights (option init, a checkpoint of ${before.run}) with its own lrSteps`,
    )
  })

  it('warns of steps at a learning rate of 0 where it falls too early', async () => {
    const warnings = async (name: string, more: object): Promise<string[]> => {
      const log: string[] = []
      await run({ ...options(name, 8), ...more }, { log: (line) => log.push(line) })
      return log.filter((line) => line.startsWith('warning: '))
    }
    expect(await warnings('early', { lrSchedule: 'linear', lrSteps: 6 })).to.deep.equal([
      'warning: from step 7 on the learning rate is 0, and nothing is trained: linear ends at lrSteps 6; give more lrSteps to let it fall more slowly',
    ])
    expect(await warnings('in-time', { lrSchedule: 'linear' })).to.deep.equal([])
    expect(await warnings('constant', { lrSteps: 6 })).to.deep.equal([
      'warning: lrSteps 6 does nothing where lrSchedule is constant',
    ])
    const idle = { splitSeed: 1, decayAll: true, choose: 'mean', compare: 'F' }
    expect(await warnings('idle', idle)).to.deep.equal([
      'warning: splitSeed 1 does nothing without heldOut',
      'warning: decayAll does nothing without weightDecay',
      'warning: compare F does nothing where choose is mean, which compares no heads',
    ])
    expect(await warnings('alone', { heads: ['eps'], choose: 'min' })).to.deep.equal([
      'warning: choose min does nothing beside one head, eps',
    ])
    expect(await warnings('named', { heads: ['eps'], choose: 'eps' })).to.deep.equal([])
  })

  it('says which pictures it leaves out, and how to leave them out', async () => {
    const pictures = join(small.folder, 'pictures')
    await mkdir(pictures)
    const image = { data: new Uint8Array(64 * 3), shape: [1, 3, 8, 8] } as const
    for (const name of ['a', 'b', 'c']) await writePng(join(pictures, `${name}.png`), onePicture(image, 0))
    for (const name of ['d', 'e', 'f', 'g']) await writeFile(join(pictures, `${name}.png`), 'no picture')
    const broken = { ...options('skipping', 1), data: pictures, size: 8 }
    expect(await failure(run(broken))).to.match(/d\.png to be .*; badFiles skip leaves such files out$/)
    expect(
      (await command('train', ...asArguments(broken))).err.endsWith(
        '; --bad-files skip leaves such files out',
      ),
    ).to.equal(true)
    const log: string[] = []
    await run({ ...broken, badFiles: 'skip', heldOut: 1 }, { log: (line) => log.push(line) })
    const reason = '(Input buffer contains unsupported image format)'
    expect(log[0]).to.equal(
      `warning: 4 files are left out: d.png ${reason}, e.png ${reason}, f.png ${reason}, …`,
    )
  })

  it('leaves no folder where it could not start', async () => {
    const odd = { ...options('odd-image', 1), data: join(small.folder, 'odd.npz') }
    await writeNpz(odd.data, { arr_0: { data: new Uint8Array(24 * 49), shape: [24, 7, 7, 1] } })
    expect(await failure(run(odd))).to.match(/^run: expected/)
    expect(existsSync(odd.run)).to.equal(false)
    await mkdir(odd.run)
    await failure(run(odd))
    expect(existsSync(odd.run)).to.equal(true)
  })

  it('falls back to the checkpoint before a damaged one, says so, and keeps the damaged one aside', async () => {
    const before = { ...options('damaged', 4), saveEvery: 2 }
    const { checkpoint, folder } = await run(before)
    const whole = (await readCheckpoint(checkpoint as string)).files
    await truncate(join(checkpoint as string, 'model.safetensors'), 64)
    const log: string[] = []
    const again = await run(before, { log: (line) => log.push(line) })
    expect(log[0]).to.match(/^warning: readCheckpoint: expected .*; the checkpoint before it is used$/)
    expect(log[1]).to.match(/from step 2$/)
    expect((await readCheckpoint(again.checkpoint as string)).files).to.deep.equal(whole)
    expect(await readdir(join(folder, 'checkpoints'))).to.include('step-00000004.unreadable')
  })

  it('lets only one process write a run', async () => {
    const same = options('locked', 3)
    const [first, second] = await Promise.allSettled([run(same), run(same)])
    const refused = [first, second].find(({ status }) => status === 'rejected') as PromiseRejectedResult
    expect(refused.reason.message).to.match(
      new RegExp(`^run: expected ${same.run} to be used by no other process, got process ${process.pid} on `),
    )
    expect([first.status, second.status].sort()).to.deep.equal(['fulfilled', 'rejected'])
    expect(await run(same)).to.include({ step: 3 })
  })

  it('locks a run also where there are no hard links', async () => {
    const without = async () => {
      throw Object.assign(new Error('EPERM: operation not permitted, link'), { code: 'EPERM' })
    }
    const unlock = await lockRun(small.folder, without)
    expect(await failure(lockRun(small.folder, without))).to.match(
      /to be used by no other process, got process/,
    )
    await unlock()
    await (await lockRun(small.folder, without))()
  })

  it('names options that do not exist after the nearest that does, and everything else that is wrong', async () => {
    const wrong = { data: 'digits', stepss: 3, lr: -1, choose: 'most' } as unknown as Parameters<
      typeof run
    >[0]
    expect(await failure(run(wrong))).to.equal(
      [
        'run: expected an option that exists, got unknown stepss (did you mean steps?)',
        '  expected choose to be one of min, minBatch, minPixel, mean, relaxed, softmin, given, xStart, v, eps, got "most"',
        '  expected steps, an integer >= 1, to be given, got none',
        '  expected lr to be a number > 0, got -1',
      ].join('\n'),
    )
  })

  it('gives the same options the same folder by default, and others another', async () => {
    const { run: _, ...base } = options('', 5)
    const folder = (await runConfig(base)).run
    expect(folder).to.match(/^runs[\\/]images-[0-9a-f]{8}$/)
    expect((await runConfig({ ...base, steps: 9, keep: 1 })).run).to.equal(folder)
    expect((await runConfig({ ...base, seed: 1 })).run).to.not.equal(folder)
  })
})
