import { spawn } from 'node:child_process'
import { existsSync, readFileSync, statSync } from 'node:fs'
import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect } from 'chai'
import { blueWeights, mixtureSquare } from '../../lib/mixing/blue.ts'
import { sourceVersion } from '../../lib/setup/paths.ts'
import type { Alternation } from '../../lib/statistics/alternation.ts'
import { type CellResult, finishedCell, readFinishedCell, runCell } from '../../lib/study/cell.ts'
import { importCells } from '../../lib/study/cells-file.ts'
import type { CellFailure } from '../../lib/study/failures.ts'
import { featureClassifier } from '../../lib/study/features.ts'
import { curveValues, metricTimesteps, metricValue, parseMetric } from '../../lib/study/metric.ts'
import { runStudy } from '../../lib/study/study.ts'
import { cellOptions, parseStudy, type StudyArm, type StudyOptions } from '../../lib/study/study-file.ts'
import { latestCheckpoint } from '../../lib/training/checkpoint.ts'
import { run } from '../../lib/training/run.ts'
import type { RunConfig } from '../../lib/training/run-config.ts'
import { BIN, command, start, until } from '../support/command.ts'
import { rejection } from '../support/rejection.ts'
import { SMALL, smallData } from '../support/small-run.ts'

describe('runStudy', function () {
  this.timeout(180_000)
  let small: Awaited<ReturnType<typeof smallData>>
  let given: StudyOptions
  let file: string
  const { batchSize, ...base } = SMALL
  before(async () => {
    small = await smallData()
    given = {
      name: 'small',
      out: join(small.folder, 'study'),
      images: 120,
      stopAt: [20, 60],
      base: { ...base, batchSize, data: small.data, saveEvery: 3, heldOut: 6 },
      arms: { min: {}, mean: { choose: 'mean', batchSize: 8, evaluate: { combine: 'v' } } },
      seeds: [0, 1],
      evaluate: {
        ...{ images: 6, curveImages: 4, timesteps: 3, alsoAt: [1, 0], samples: { count: 4, steps: [2] } },
        ...{ bitsPerDim: { images: 3, steps: 2 }, combinations: ['mean'] },
      },
      compare: { metrics: ['F.clipped', 'F@blue', 'slicedWasserstein@2', 'slicedWasserstein@2@mean', 'bitsPerDim@mean'] }, // biome-ignore format: short
    }
    file = join(small.folder, 'study.json')
    await writeFile(file, JSON.stringify(given))
  })
  after(() => small.remove())

  const inOut = (...names: string[]) => join(given.out as string, ...names)
  const result = (cell: string) => JSON.parse(readFileSync(inOut(cell, 'result.json'), 'utf8')) as CellResult

  it('goes on after kill -9 of the study and of a cell, bit for bit, and repeats nothing', async () => {
    const { child, ended } = start(['study', file, '--jobs', '1'])
    const second = inOut('mean', 'seed-0')
    await until(
      () => existsSync(join(second, 'checkpoints', 'step-00000003')),
      'a checkpoint of the second cell',
    )
    const { pid } = JSON.parse(readFileSync(join(second, 'lock.json'), 'utf8')) as { pid: number }
    child.kill('SIGKILL')
    process.kill(pid, 'SIGKILL')
    await ended
    expect(existsSync(inOut('mean', 'seed-0', 'result.json'))).to.equal(false)
    const before = statSync(inOut('min', 'seed-0', 'result.json')).mtimeMs

    const lines: string[] = []
    const progress: number[] = []
    const { results, failures, wasStopped, table } = await runStudy(given, {
      jobs: 2,
      log: (line) => lines.push(line),
      onProgress: ({ finishedCells }) => progress.push(finishedCells),
    })
    expect(failures).to.deep.equal([])
    expect(wasStopped).to.equal(false)
    expect(results.map(({ arm, seed }) => `${arm} ${seed}`)).to.deep.equal([
      'min 0',
      'mean 0',
      'min 1',
      'mean 1',
    ])
    expect(lines[0]).to.contain('4 cells, 1 finished before')
    expect(lines).to.not.include('min/seed-0 begins')
    expect(progress.at(-1)).to.equal(4)
    expect(statSync(inOut('min', 'seed-0', 'result.json')).mtimeMs).to.equal(before)
    expect(table).to.match(/\| mean +\| 2 \|/)

    const alone = join(small.folder, 'alone')
    const config = JSON.parse(await readFile(inOut('mean', 'seed-0', 'config.json'), 'utf8'))
    const { data, choose, heldOut, splitSeed, seed } = config
    await run({
      ...SMALL,
      batchSize: 8,
      data,
      choose,
      heldOut,
      splitSeed,
      seed,
      steps: 15,
      saveEvery: 3,
      run: alone,
    })
    for (const name of ['model.safetensors', 'ema-0.9.safetensors']) {
      const [a, b] = await Promise.all(
        [second, alone].map(async (folder) =>
          readFile(join((await latestCheckpoint(folder)) as string, name)),
        ),
      )
      expect(a?.equals(b as Buffer), name).to.equal(true)
    }
  })

  it('measures all cells alike: the same images held out for every seed, at the stops and at the end', () => {
    for (const cell of ['min/seed-0', 'mean/seed-0', 'min/seed-1', 'mean/seed-1']) {
      const { curve, heldOut, samples, bitsPerDim, alternation, settings } = result(cell)
      expect(curve.map(({ imagesSeen }) => imagesSeen)).to.deep.equal(
        cell.startsWith('min') ? [20, 60, 120] : [24, 64, 120],
      )
      expect([heldOut.t, heldOut.alsoAt]).to.deep.equal([[0, 1, 2, 3], [1]]) // 0 is among the three already
      expect(heldOut.ema?.products[0]?.[0]).to.have.length(9)
      expect(heldOut.combine).to.equal(cell.startsWith('min') ? 'blue' : 'v')
      expect(settings.images).to.equal(6)
      expect(samples?.rows.map(({ steps, combine }) => [steps, combine])).to.deep.equal([
        [2, undefined],
        [2, 'mean'],
      ])
      expect(samples?.rows[0]?.slicedWasserstein).to.be.above(0)
      expect(samples?.rows[1]?.slicedWasserstein).to.not.equal(samples?.rows[0]?.slicedWasserstein)
      expect(bitsPerDim?.rows.map(({ combine }) => combine)).to.deep.equal([undefined, 'mean'])
      expect(bitsPerDim?.rows[0]?.mean).to.be.within(0.1, 100)
      expect(metricValue(result(cell), parseMetric('x', 'bitsPerDim@mean'))).to.equal(
        bitsPerDim?.rows[1]?.mean,
      )
      const { winRate, minimum, brightnessGap } = heldOut.ema?.rivalry ?? expect.fail()
      for (const [k, smallest] of minimum.entries()) {
        const shares = Object.values(winRate).map((row) => row[k] as number)
        expect(shares.reduce((a, b) => a + b, 0)).to.be.closeTo(1, 1e-12)
        const best = Math.min(...Object.values(heldOut.ema!.heads).map(({ v }) => v[k] as number))
        expect(smallest).to.be.at.most(best * (1 + 1e-6))
        expect(smallest).to.be.above(0)
      }
      expect(Object.keys(brightnessGap)).to.deep.equal(['xStart-v', 'xStart-eps', 'v-eps'])
      expect(brightnessGap['v-eps']?.every((gap) => gap > 0)).to.equal(true)
      const { perTimestep, kept, heads: each, products } = heldOut.ema ?? expect.fail()
      if (heldOut.combine === 'blue') expect(kept?.blue.F).to.deep.equal(perTimestep.F)
      for (const [k, error] of (kept?.table.F ?? expect.fail()).entries()) {
        // Of one head, or of the signal where the bin has seen too few images.
        const signal = metricTimesteps(result(cell), parseMetric('x', 'F@signal'))?.[k] as number
        const possible = [...Object.values(each).map(({ F }) => F[k] as number), signal]
        expect(Math.min(...possible.map((value) => Math.abs(error / value - 1))), 'table').to.be.below(1e-6)
        const all = products[0]![k]!.map((product, i) => (product + products[1]![k]![i]!) / 2)
        const least = mixtureSquare(blueWeights(all), all)
        expect(kept?.blue.v[k], 'not below the best mixture').to.be.at.least(least * (1 - 1e-2))
      }
      expect(alternation?.count).to.be.above(10)
      const { v, heads } = heldOut.raw ?? expect.fail()
      if (heldOut.combine === 'v') {
        const own = heads.v?.v as number[]
        expect((own[0]! + own[2]! + own[3]!) / 3).to.be.closeTo(v, 1e-9)
        const mean = metricValue(result(cell), parseMetric('x', 'v.raw@v'))
        expect(mean).to.be.closeTo(v, 1e-6)
      }
    }
    const configs = ['min/seed-0', 'min/seed-1'].map((cell) => JSON.parse(readFileSync(inOut(cell, 'config.json'), 'utf8'))) // biome-ignore format: short
    expect(configs.map(({ splitSeed, seed, heldOut }) => [splitSeed, seed, heldOut])).to.deep.equal([
      [0, 0, 6],
      [0, 1, 6],
    ])
  })

  it('leaves no cell behind when it is killed while the cell begins', async () => {
    const out = join(small.folder, 'orphan')
    const options = { ...given, out, images: 400_000, stopAt: [] }
    const own = join(small.folder, 'orphan.json')
    await writeFile(own, JSON.stringify(options))
    const child = spawn(process.execPath, [BIN, 'study', own, '--cell', 'min/seed-0'], {
      stdio: ['ignore', 'ignore', 'ignore', 'ipc'],
    })
    const ended = new Promise((resolve) => child.on('exit', resolve))
    child.disconnect() // as the kernel does for a study that is gone
    expect(await ended).to.equal(130)
  })

  it('writes statistics, tables and plots', () => {
    const study = JSON.parse(readFileSync(inOut('study.json'), 'utf8'))
    expect(study.arms.map(({ arm, n }: { arm: string; n: number }) => [arm, n])).to.deep.equal([
      ['min', 2],
      ['mean', 2],
    ])
    const [, mean] = study.arms
    const [first] = mean.metrics
    const shares = [0, 1].map(
      (seed) =>
        (result(`mean/seed-${seed}`).heldOut.ema?.['F.clipped'] as number) /
          (result(`min/seed-${seed}`).heldOut.ema?.['F.clipped'] as number) -
        1,
    )
    expect(first).to.include({ metric: 'F.clipped', n: 2 })
    expect(first.relative.mean).to.be.closeTo((shares[0]! + shares[1]!) / 2, 1e-12)
    expect(readFileSync(inOut('study.md'), 'utf8')).to.match(/^# small\n\nCells: 4 by 0\.\d.+\.\n\n\| arm/)
    expect(readFileSync(inOut('learning-curves.svg'), 'utf8')).to.contain('images seen')
    for (const plot of ['timesteps', 'timesteps-relative', 'timesteps-scatter'])
      for (const kind of ['svg', 'png']) expect(existsSync(inOut(`${plot}.${kind}`)), plot).to.equal(true)
    const alternation = result('min/seed-1').alternation as Alternation
    expect(study.alternation[0].arm).to.equal('min')
    expect(study.alternation[0].seeds[1]).to.deep.equal({ seed: 1, ...alternation })
    const scattered = [0, 1].map((seed) => {
      const { perTimestep } = result(`min/seed-${seed}`).heldOut.ema ?? expect.fail()
      return perTimestep.deviation[2]! / perTimestep['F.clipped'][2]!
    })
    expect(study.scatter[0].deviationOverMean[2]).to.be.closeTo((scattered[0]! + scattered[1]!) / 2, 1e-12)
    expect(study.heads.map(({ arm, n }: { arm: string; n: number }) => [arm, n])).to.deep.equal([
      ['min', 2],
      ['mean', 2],
    ])
    const [level] = study.heads[1].timesteps
    const own = [0, 1].map((seed) => result(`mean/seed-${seed}`).heldOut.ema ?? expect.fail())
    expect(level.error.eps).to.be.closeTo((own[0]!.heads.eps!.F[0]! + own[1]!.heads.eps!.F[0]!) / 2, 1e-9)
    expect(level.winRate.v).to.equal((own[0]!.rivalry!.winRate.v![0]! + own[1]!.rivalry!.winRate.v![0]!) / 2)
    expect(level.minimum).to.be.at.most(Math.min(...Object.values<number>(level.error)) * (1 + 1e-6))
    expect(level.kept.blue).to.be.closeTo((own[0]!.kept!.blue.F[0]! + own[1]!.kept!.blue.F[0]!) / 2, 1e-12)
    const agree = own.filter(
      ({ kept, heads }) => kept!.table.v[0] === Math.min(...Object.values(heads).map(({ v }) => v[0]!)),
    )
    expect(level.kept.agreement).to.equal(agree.length / 2)
    expect(readFileSync(inOut('study.md'), 'utf8')).to.contain('mean: xStart / v / eps')
  })

  it('takes results of another machine, and trains what they lack', async () => {
    const cells = join(small.folder, 'cells.jsonl.gz')
    const drawn = (arm: string): boolean => readFileSync(inOut('timesteps.svg'), 'utf8').includes(`>${arm}<`)
    await runStudy(given, { onlyReport: true, arms: ['mean'], seeds: [1], exportTo: cells })
    expect([drawn('min'), drawn('mean')]).to.deep.equal([true, true]) // the first is the control
    const reported = JSON.parse(readFileSync(inOut('study.json'), 'utf8'))
    expect(reported.arms.map(({ n }: { n: number }) => n)).to.deep.equal([2, 2]) // of all that is finished
    expect(reported.madeBy).to.have.length(1)
    expect(reported.madeBy[0]).to.include({ version: sourceVersion(), cells: 4 })
    await runStudy(given, { onlyReport: true, arms: ['min'], exportTo: cells })
    expect(drawn('mean')).to.equal(false)
    expect(existsSync(inOut('timesteps-relative.svg')), 'of the report before').to.equal(false)
    expect(existsSync(inOut('timesteps-relative.png')), 'of the report before').to.equal(false)
    const lines: string[] = []
    const log = (line: string) => lines.push(line)
    const elsewhere = { ...given, out: join(small.folder, 'elsewhere'), seeds: [1, 5] }
    const { results } = await runStudy(elsewhere, { onlyReport: true, importFrom: [cells], log })
    expect(lines).to.deep.equal([`${cells}: 1 results taken, 0 were there, 1 of other cells or settings`])
    expect(results).to.deep.equal([result('min/seed-1')])
    const again = await runStudy(elsewhere, { onlyReport: true, importFrom: [cells], log })
    expect(again.results).to.have.length(1)
    expect(lines[1]).to.contain('0 results taken, 1 were there')

    const evaluate = { ...given.evaluate, bitsPerDim: { images: 2, steps: 2 } }
    const more = await runStudy({ ...elsewhere, evaluate }, { arms: ['min'], seeds: [1], jobs: 1 })
    expect(more.failures).to.deep.equal([])
    expect(more.results[0]?.heldOut.ema?.F).to.equal(result('min/seed-1').heldOut.ema?.F)
    expect(more.results[0]?.bitsPerDim?.hash).to.not.equal(result('min/seed-1').bitsPerDim?.hash)
  })

  it('takes no result of options that meant something else when it was trained', async () => {
    const study = await parseStudy(given)
    const arm = study.arms.find(({ name }) => name === 'min') as StudyArm
    const now = result('min/seed-1')
    expect(now.config).to.deep.equal(JSON.parse(JSON.stringify(arm.config)))
    expect(finishedCell(arm, 1, now)).to.not.equal(undefined)
    expect(finishedCell(arm, 1, { ...now, config: { ...now.config, lr: 0.5 } })).to.equal(undefined)
    const { weightDecay: _, ...older } = now.config as Record<string, unknown> // an option that did not exist then
    expect(finishedCell(arm, 1, { ...now, config: older })).to.not.equal(undefined)
    const shared = { ...arm, config: { ...arm.config, uniformShare: 0.3 } } // one that was not given then
    expect(finishedCell(shared, 1, now)).to.equal(undefined)
    // Written otherwise, and meaning the same.
    const spelt = await parseStudy({ ...given, base: { ...given.base, lrSchedule: 'constant' } })
    const again = spelt.arms.find(({ name }) => name === 'min') as StudyArm
    expect(finishedCell(again, 1, now)).to.not.equal(undefined)
    expect(finishedCell({ ...again, stops: [1, ...again.stops] }, 1, now)).to.equal(undefined)
    // Before configurations were kept, heads told at least whether a recipe was another one.
    const { config: __, ...unnamed } = now
    expect(finishedCell(arm, 1, unnamed)).to.not.equal(undefined)
    const other = { ...unnamed, heldOut: { ...now.heldOut, heads: ['v' as const] } }
    expect(finishedCell(arm, 1, other)).to.equal(undefined)
  })

  it('takes a result in place of one of other settings, and says where a file is damaged', async () => {
    const elsewhere = { ...given, out: join(small.folder, 'replaced'), seeds: [1] }
    const study = await parseStudy(elsewhere)
    const cells = join(small.folder, 'made', 'for', 'it', 'cells.jsonl')
    await runStudy(given, { onlyReport: true, arms: ['min'], exportTo: cells })
    const stale = { ...result('min/seed-1'), evaluation: 'another' }
    const folder = join(elsewhere.out, 'min', 'seed-1')
    await mkdir(folder, { recursive: true })
    await writeFile(join(folder, 'result.json'), JSON.stringify(stale))
    expect(await importCells(cells, study)).to.deep.equal({ taken: 1, present: 0, foreign: 1 })
    expect(await readFinishedCell(study, study.arms[0] as StudyArm, 1)).to.deep.equal(result('min/seed-1'))
    expect(await importCells(cells, study)).to.deep.equal({ taken: 0, present: 1, foreign: 1 })

    const [line] = readFileSync(cells, 'utf8').split('\n')
    const { heldOut: _, ...rest } = JSON.parse(line as string)
    const lacking = 'line 1 without arm, seed, settings and errors of a cell'
    for (const [name, text, why] of [
      ['cut.jsonl', `${line}\n\n${line?.slice(0, 99)}\n`, 'line 3 that is no JSON'],
      ['other.jsonl', '{"arm":"min","seed":1}\n', lacking],
      ['lacking.jsonl', `${JSON.stringify(rest)}\n`, lacking],
      ['null.jsonl', 'null\n', lacking],
      ['empty.jsonl.gz', '', 'unexpected end of file'],
      ['text.jsonl.gz', 'text', 'incorrect header check'],
    ] as const) {
      const damaged = join(small.folder, name)
      await writeFile(damaged, text)
      const { message } = await rejection(importCells(damaged, study))
      expect(message).to.equal(
        `importCells: expected ${damaged} to be results of cells, one a line, got ${why}`,
      )
    }
    const absent = join(small.folder, 'absent.jsonl')
    const { code, err } = await command('study', file, '--only-report', '--import', absent)
    expect(code).to.equal(1)
    expect(err).to.contain(`expected ${absent} to be results of cells, one a line, got ENOENT`)
  })

  it('measures what a result of another machine lacks of a whole run, not of one that is half trained', async () => {
    const out = join(small.folder, 'half')
    const study = await parseStudy({
      ...given,
      out,
      evaluate: { ...given.evaluate, bitsPerDim: { images: 2, steps: 2 } },
    })
    const arm = study.arms[0] as StudyArm
    await run({ ...cellOptions(study, arm, 1), steps: 3 })
    const imported = result('min/seed-1')
    await writeFile(join(out, 'min', 'seed-1', 'result.json'), JSON.stringify(imported))
    const cell = await runCell(study, arm, 1)
    expect(cell?.step).to.equal(30)
    expect(await latestCheckpoint(join(out, 'min', 'seed-1'))).to.match(/step-00000030$/)
    expect(cell?.samples).to.deep.equal(imported.samples)
    expect(cell?.bitsPerDim?.hash).to.not.equal(imported.bitsPerDim?.hash)
  })

  it('measures weights that were not measured before, also of the learning curve', async () => {
    const out = join(small.folder, 'weights')
    const cell = async (weights: 'ema' | 'raw', bothWeights: boolean) => {
      const evaluate = { images: 6, timesteps: 2, weights, bothWeights }
      const study = await parseStudy({ ...given, out, evaluate, compare: { metrics: ['F'] } })
      return (await runCell(study, study.arms[0] as StudyArm, 0)) as CellResult
    }
    const sets = ({ ema, raw }: { ema?: unknown; raw?: unknown }) => [Boolean(ema), Boolean(raw)]
    const images = (one: CellResult) =>
      curveValues(one, parseMetric('x', 'F')).map(({ images: seen }) => seen)
    const raw = await cell('raw', false)
    expect(sets(raw.heldOut)).to.deep.equal([false, true])
    expect(images(raw)).to.deep.equal([20, 60, 120])
    const ema = await cell('ema', false)
    expect(sets(ema.heldOut)).to.deep.equal([true, false])
    expect(images(ema)).to.deep.equal([120]) // the only stop whose checkpoint is left
    const both = await cell('ema', true)
    expect(sets(both.heldOut)).to.deep.equal([true, true])
    expect(images(both)).to.deep.equal([120])
    const written = statSync(join(out, 'min', 'seed-0', 'result.json')).mtimeMs
    expect(images(await cell('raw', false))).to.deep.equal([20, 60, 120])
    expect(statSync(join(out, 'min', 'seed-0', 'result.json')).mtimeMs).to.equal(written)
  })

  it('evaluates anew, without training, when the evaluation changes', async () => {
    const trained = statSync(inOut('min', 'seed-0', 'stats.jsonl')).mtimeMs
    const stored = inOut('min', 'seed-0', 'result.json')
    const before = readFileSync(stored, 'utf8')
    await writeFile(stored, before.replace(/"slicedWasserstein": [\d.]+/, '"slicedWasserstein": 7'))
    const lines: string[] = []
    const { results, failures } = await runStudy(
      { ...given, evaluate: { ...given.evaluate, images: 5 } },
      { jobs: 1, arms: ['min'], seeds: [0], log: (line) => lines.push(line) },
    )
    expect(failures).to.deep.equal([])
    expect(lines[0]).to.contain('1 cells, 0 finished before')
    expect(results[0]?.settings.images).to.equal(5)
    expect(results[0]?.samples?.rows[0]?.slicedWasserstein, 'samples are not drawn again').to.equal(7)
    expect(results[0]?.bitsPerDim).to.deep.equal((JSON.parse(before) as CellResult).bitsPerDim)
    expect(results[0]?.curve.map(({ imagesSeen }) => imagesSeen)).to.include(120)
    expect(readFileSync(inOut('min', 'seed-0', 'stats.jsonl'), 'utf8').split('\n').length).to.equal(31)
    expect(statSync(inOut('min', 'seed-0', 'stats.jsonl')).mtimeMs).to.equal(trained)
  })

  it('keeps what was drawn when fewer combinations are asked for, or one of them twice', async () => {
    const cell = inOut('min', 'seed-0', 'result.json')
    const written = statSync(cell).mtimeMs
    for (const combinations of [[], ['mean', 'mean']]) {
      const { results } = await runStudy(
        {
          ...given,
          evaluate: { ...given.evaluate, images: 5, combinations },
          compare: { metrics: ['F.clipped'] },
        },
        { jobs: 1, arms: ['min'], seeds: [0] },
      )
      expect(results.length).to.equal(1)
      expect(statSync(cell).mtimeMs).to.equal(written)
    }
  })

  it('measures anew, without training, what is read by another combination than before', async () => {
    const trained = statSync(inOut('min', 'seed-0', 'stats.jsonl')).mtimeMs
    const before = result('min/seed-0')
    const { results, failures } = await runStudy(
      {
        ...given,
        arms: { ...given.arms, min: { combine: 'v' } },
        evaluate: { ...given.evaluate, images: 5 },
      },
      { jobs: 1, arms: ['min'], seeds: [0] },
    )
    expect(failures).to.deep.equal([])
    const [after] = results
    expect([before.heldOut.combine, after?.heldOut.combine]).to.deep.equal(['blue', 'v'])
    expect(after?.heldOut.ema?.products).to.deep.equal(before.heldOut.ema?.products)
    expect(after?.heldOut.ema?.F).to.not.equal(before.heldOut.ema?.F)
    const drawn = ({ samples }: CellResult) => samples?.rows.map((row) => row.slicedWasserstein)
    expect(drawn(after as CellResult)?.[0], 'drawn again').to.not.equal(drawn(before)?.[0])
    expect(drawn(after as CellResult)?.[1]).to.equal(drawn(before)?.[1])
    expect(after?.bitsPerDim?.rows[0]).to.not.deep.equal(before.bitsPerDim?.rows[0])
    const end = (cell: CellResult | undefined) => cell?.curve.at(-1)?.ema?.F
    expect(end(after), 'the learning curve, too').to.not.equal(end(before))
    expect(JSON.parse(readFileSync(inOut('min', 'seed-0', 'curve.json'), 'utf8')).combine).to.equal('v')
    expect(statSync(inOut('min', 'seed-0', 'stats.jsonl')).mtimeMs).to.equal(trained)
  })

  it('draws samples anew, without training, by another solver and spacing', async () => {
    const trained = statSync(inOut('min', 'seed-0', 'stats.jsonl')).mtimeMs
    const drawn = async (how: object) => {
      const samples = { count: 4, steps: [3], ...how }
      const evaluate = { ...given.evaluate, samples, combinations: [] }
      const study = await parseStudy({ ...given, evaluate, compare: { metrics: ['slicedWasserstein@3'] } })
      const cell = (await runCell(study, study.arms[0] as StudyArm, 0)) as CellResult
      return cell.samples?.rows[0]?.slicedWasserstein as number
    }
    const usual = await drawn({})
    expect(await drawn({ solver: 'euler', spacing: 'uniform' })).to.be.closeTo(usual, 1e-5 * usual)
    const [heun, quadratic] = [await drawn({ solver: 'heun' }), await drawn({ spacing: 'quadratic' })]
    expect(Math.abs(heun - usual)).to.be.above(0.1 * usual)
    expect(quadratic).to.not.equal(usual)
    const [second, ...first] = [
      await drawn({ solver: 'dpmpp2m', lowerOrderFinal: false }),
      await drawn({ solver: 'dpmpp2m', lowerOrderFinal: true }),
      await drawn({ solver: 'dpmpp2m' }),
    ]
    expect(first[0]).to.equal(first[1])
    expect(second).to.not.equal(first[0])
    expect(statSync(inOut('min', 'seed-0', 'stats.jsonl')).mtimeMs).to.equal(trained)
  })

  it('reports a cell that fails and finishes the others; the exit code says so', async () => {
    const out = join(small.folder, 'failing')
    const failing = join(small.folder, 'failing.json')
    const options = {
      ...given,
      out,
      seeds: [0],
      images: 16,
      stopAt: [],
      evaluate: { images: 4, timesteps: 2 },
      compare: { metrics: ['F.clipped'] },
    }
    await writeFile(failing, JSON.stringify(options))
    const first = await command('study', failing, '--jobs', '1', '--arms', 'min')
    expect(first.code).to.equal(0)
    // Another option than its run began with: refused by the run, not trained over.
    await writeFile(failing, JSON.stringify({ ...options, base: { ...options.base, lr: 0.5 } }))
    const { code, out: text } = await command('study', failing, '--jobs', '1')
    expect(code).to.equal(1)
    expect(text).to.match(/\| mean +\| 1 \|/)
    const { failures } = await runStudy({ ...options, base: { ...options.base, lr: 0.5 } }, { jobs: 1 })
    expect(failures.map(({ cell }) => cell)).to.deep.equal(['min/seed-0'])
    expect(failures[0]?.message).to.contain('expected lr to be 0.001, as when')
    const kept = JSON.parse(readFileSync(join(out, 'study.json'), 'utf8'))
    expect(kept.failures.map(({ arm, seed, code }: CellFailure) => [arm, seed, code])).to.deep.equal([
      ['min', 0, undefined],
    ])
    expect(readFileSync(join(out, 'study.md'), 'utf8')).to.match(/^Failed: min\/seed-0: .*expected lr to be/m)
    await runStudy(options, { jobs: 1, arms: ['min'] })
    expect(JSON.parse(readFileSync(join(out, 'study.json'), 'utf8')).failures).to.equal(undefined)
  })

  it('says what a cell warns of', async () => {
    const lines: string[] = []
    const options = { ...given, out: join(small.folder, 'warned'), seeds: [0], images: 8, stopAt: [] }
    const evaluate = { images: 4, timesteps: 2 }
    const arms = { evened: { choose: null, mix: 'normalised' } }
    const log = (line: string) => lines.push(line)
    const { failures } = await runStudy({ ...options, arms, evaluate, compare: {} }, { log })
    expect(failures).to.deep.equal([])
    const warnings = lines.filter((line) => line.includes('warning'))
    expect(warnings).to.have.length(1)
    expect(warnings[0]).to.match(/^evened\/seed-0: warning: .*evens noise levels out/)
  })

  it('counts a cell whose loss was not finite as astray, and checks networks before it trains', async () => {
    const options = {
      ...{ ...given, out: join(small.folder, 'diverging'), seeds: [0], images: 80, stopAt: [] },
      arms: { calm: {}, hot: { lr: 1e30 } },
      evaluate: { images: 4, timesteps: 2 },
      compare: { metrics: ['F.clipped'] },
    }
    const { failures, table } = await runStudy(options, { jobs: 1 })
    expect(failures.map(({ cell }) => cell)).to.deep.equal(['hot/seed-0'])
    const study = JSON.parse(readFileSync(join(options.out, 'study.json'), 'utf8'))
    expect(study.failures[0]).to.include({ arm: 'hot', code: 'ERR_NON_FINITE' })
    expect(study.arms[1].metrics[0]).to.include({ n: 0, astray: 1, astrayPairs: 1 })
    expect(table).to.match(/\| hot +\| 0 and 1 not finite \| +\| +1 pair not finite \|/)
    const cells = join(small.folder, 'diverging.jsonl')
    await runStudy(options, { onlyReport: true, exportTo: cells })
    const elsewhere = { ...options, out: join(small.folder, 'diverging-elsewhere') }
    const there = await runStudy(elsewhere, { onlyReport: true, importFrom: [cells] })
    expect(there.table.split('\n')[3]).to.equal(table.split('\n')[3])
    const [line] = readFileSync(cells, 'utf8').trimEnd().split('\n').slice(-1)
    const { code, ...killed } = JSON.parse(line as string)
    expect(code).to.equal('ERR_NON_FINITE')
    const failed = join(options.out, 'hot', 'seed-0', 'failure.json')
    await writeFile(failed, JSON.stringify({ ...killed, message: 'ended by SIGTERM' }))
    await runStudy(options, { onlyReport: true, exportTo: cells })
    expect(readFileSync(cells, 'utf8').trimEnd().split('\n')).to.have.length(1) // of the cell that is finished

    const wide = { ...options, arms: { calm: {}, wide: { modelChannels: 20, normGroups: 16 } } }
    expect((await rejection(runStudy(wide))).message).to.contain(
      'runStudy arms.wide: expected modelChannels x 1 (20) to be divisible by',
    )
  })

  it('takes no longer run for a shorter one', async () => {
    const options = { ...given, out: join(small.folder, 'shorter'), seeds: [0], images: 80, stopAt: [] }
    const one = { arms: { min: {} }, evaluate: { images: 4, timesteps: 2 }, compare: {} }
    expect((await runStudy({ ...options, ...one }, { jobs: 1 })).results).to.have.length(1)
    const { results, failures } = await runStudy({ ...options, ...one, images: 40 }, { jobs: 1 })
    expect(results).to.deep.equal([])
    expect(failures[0]?.message).to.match(
      /expected .*shorter.min.seed-0 to be trained for at most the \d+ steps of the study, got \d+; give as many images/,
    )
    const page = readFileSync(join(options.out, 'study.json'), 'utf8')
    expect(JSON.parse(page).uncounted).to.deep.equal([{ arm: 'min', seed: 0 }])
  })

  it('has no classifier of samples for a shape that it does not take', async () => {
    const lines: string[] = []
    const oblong = {
      name: 'oblong',
      length: 8,
      channels: 1,
      height: 8,
      width: 12,
      classNames: ['a'],
      label: () => 0,
      image: async () => new Uint8Array(96),
    }
    const log = (line: string) => lines.push(line)
    const options = { steps: 1, log }
    expect(await featureClassifier(small.folder, {} as RunConfig, oblong, options)).to.equal(undefined)
    expect(lines).to.deep.equal([
      'warning: samples of 12x8 have no Frechet and kernel distances: their classifier needs square images of a multiple of 4 pixels',
    ])
  })

  it('opens the images of every arm before the first cell begins, of those that still train', async () => {
    const out = join(small.folder, 'data')
    const options = { ...given, out, seeds: [0], images: 8, stopAt: [], compare: {} }
    const evaluate = { images: 4, timesteps: 2 }
    const arms = { first: {}, other: { data: join(small.folder, 'nope.npz') } }
    expect((await rejection(runStudy({ ...options, evaluate, arms }))).message).to.match(
      /^runStudy arms\.other: expected data to be one of digits .*; got no such file or folder .*nope\.npz$/,
    )
    const split = { first: {}, other: { heldOut: 24 } }
    expect((await rejection(runStudy({ ...options, evaluate, arms: split }))).message).to.equal(
      `runStudy arms.other: expected heldOut to be fewer than the 24 images of ${small.data}, got 24`,
    )
    expect(existsSync(join(out, 'first'))).to.equal(false)
    const { results } = await runStudy({ ...options, evaluate, arms }, { arms: ['first'] })
    expect(results.map(({ arm }) => arm)).to.deep.equal(['first'])
  })

  it('refuses a file that is wrong before it trains', async () => {
    const wrong = join(small.folder, 'wrong.json')
    await writeFile(wrong, JSON.stringify({ ...given, armz: {} }))
    const { code, err } = await command('study', wrong)
    expect(code).to.equal(2)
    expect(err).to.contain('unknown armz (did you mean arms?)')
    expect((await command('study', join(small.folder, 'absent.json'))).err).to.contain(
      'expected FILE to be a JSON file',
    )
    expect((await command('study', file, '--control', 'nobody', '--only-report')).err).to.contain(
      'expected compare.control to be an arm (min, mean), got "nobody"',
    )
    expect((await command('study', file, '--control', 'mean', '--only-report')).out).to.contain(
      'against mean, 95 %',
    )
    expect((await command('study', file, '--arms', 'nobody')).err).to.contain(
      'trislot study: expected --arms to be among min, mean, got "nobody"',
    )
  })
})
