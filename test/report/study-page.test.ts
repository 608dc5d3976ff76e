import { readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect } from 'chai'
import { writeReport } from '../../lib/report/report.ts'
import { makeRun, makeStudy, reportFolder } from '../support/report-runs.ts'

describe('writeReport of a study', () => {
  let work: Awaited<ReturnType<typeof reportFolder>>
  let study: string
  beforeEach(async () => {
    work = await reportFolder()
    study = await makeStudy(join(work.folder, 'study'))
  })
  afterEach(() => work.remove())

  const page = async (...folders: string[]) =>
    readFile(await writeReport(folders, { out: join(work.folder, 'page.html') }), 'utf8')
  const headings = (html: string) => [...html.matchAll(/<h[12]>([^<]*)</g)].map((match) => match[1])
  const cells = (html: string, row: string) => {
    const found = html.slice(html.indexOf(`<th scope="row">${row}</th>`))
    return [...found.slice(0, found.indexOf('</tr>')).matchAll(/<td[^>]*>([^<]*)</g)].map((match) => match[1])
  }

  it('shows arms in the order of the study, with intervals over seeds and paired differences from the control', async () => {
    const html = await page(study)
    expect(headings(html)).to.deep.equal([
      'Learning rates',
      'Held-out error',
      'Options that differ',
      'Training',
    ])
    expect(html).to.include('Which is better? 6 of 6 runs finished.')
    // Means over seeds of 0.10, 0.11, 0.12; Student's t of two degrees of freedom; every pair differs by a tenth.
    expect(cells(html, 'plain')).to.deep.equal(['3', '0.1100', '0.08516 to 0.1348', '–', '–'])
    expect(cells(html, 'better')).to.deep.equal([
      '3',
      '0.09900',
      '0.07664 to 0.1214',
      '-10.00 %',
      '-10.00 % to -10.00 %',
    ])
    expect(html)
      .to.include('Held-out error while training')
      .and.include('Held-out error by noise level, at the end')
  })

  it('shows what is there of a study that is not finished', async () => {
    await rm(join(study, 'better', 'seed-1', 'result.json'))
    await writeFile(join(study, 'better', 'seed-2', 'result.json'), '{"heldOut')
    const html = await page(study)
    expect(html).to.include('4 of 6 runs finished.')
    expect(cells(html, 'better')).to.deep.equal(['1', '0.09000', '–', '-10.00 %', '–'])
  })

  it('counts the runs that its file declares, and draws curves where every seed was measured', async () => {
    const file = join(study, 'study-file.json')
    const declared = JSON.parse(await readFile(file, 'utf8'))
    await writeFile(file, JSON.stringify({ ...declared, seeds: [0, 1, 2, 3, 4] }))
    const stored = join(study, 'plain', 'seed-0', 'result.json')
    const cell = JSON.parse(await readFile(stored, 'utf8'))
    await writeFile(stored, JSON.stringify({ ...cell, curve: cell.curve.slice(1) }))
    const html = await page(study)
    expect(html).to.include('6 of 10 runs finished.')
    expect(html).to.include('Held-out error while training')
  })

  it('shows neither arms that its file has no more, nor results that its statistics did not count, nor means of survivors', async () => {
    const file = join(study, 'study-file.json')
    const declared = JSON.parse(await readFile(file, 'utf8'))
    const { better: _, ...arms } = declared.arms
    await writeFile(file, JSON.stringify({ ...declared, arms }))
    expect(await page(study))
      .to.include('3 of 3 runs finished.')
      .and.not.include('>better<')

    await writeFile(file, JSON.stringify(declared))
    const stale = { format: 1, title: 'Rates', uncounted: [{ arm: 'better', seed: 1 }] }
    await writeFile(join(study, 'study.json'), JSON.stringify(stale))
    const html = await page(study)
    expect(html).to.include('5 of 6 runs finished.')
    expect(cells(html, 'better')[0]).to.equal('2')

    const stored = join(study, 'better', 'seed-0', 'result.json')
    const text = await readFile(stored, 'utf8')
    await writeFile(stored, text.replaceAll(/("F(?:\.clipped)?":)0\.\d+/g, '$1null'))
    expect(cells(await page(study), 'better').slice(0, 2)).to.deep.equal(['2', 'NaN'])
  })

  it('compares options of runs that are there, beside results that came without them', async () => {
    for (const file of ['config.json', 'stats.jsonl', 'timing.jsonl'])
      await rm(join(study, 'plain', 'seed-0', file))
    const html = await page(study)
    expect(html).to.include('6 of 6 runs finished.')
    const options = html.slice(html.indexOf('Options that differ'))
    expect(cells(options, 'lr')).to.deep.equal(['0.0001', '0.00009'])
    expect(options)
      .to.not.include('<th scope="row">batchSize</th>')
      .and.not.include('<th scope="row">seed</th>')
    for (const seed of [1, 2]) await rm(join(study, 'plain', `seed-${seed}`, 'config.json'))
    expect(headings(await page(study))).to.not.include('Options that differ')
  })

  it('shows the statistics of study.json, a table for each metric', async () => {
    const found = (mean: number, low: number | null) => ({
      ...{ metric: 'F', n: 3, mean, values: [{}, {}, {}], relative: { mean: -0.1, low, high: 0.02 } },
      ...{ p: 0.00001, holmP: 0.04, detectable: 0.011 },
    })
    const ratio = { mean: 2.5, low: 2, high: null }
    const at = (logSnr: number, mean: number) => ({ t: 0, logSnr, relative: { mean, low: null, high: mean } })
    const timesteps = [at(4, -0.1), at(-4, 5)]
    const arms = [
      { arm: 'plain', isControl: true, trainSeconds: 61.4, metrics: [found(0.1, 0)] },
      {
        arm: 'better',
        isControl: false,
        metrics: [{ ...found(0.09, -0.2), timesteps }],
        reach: { metric: 'F', seeds: [{}], reached: 1, ratio },
      },
    ]
    const level = (logSnr: number) => ({ logSnr, error: { v: 1, eps: 2 }, table: 1, blue: 0.9, signal: 1.1 })
    const winRate = { v: 0.75, eps: 0.25 }
    const heads = [
      { arm: 'plain', heads: ['v', 'eps'], n: 3, timesteps: [level(4), level(-4)] },
      {
        arm: 'better',
        heads: ['v', 'eps'],
        n: 3,
        timesteps: [4, -4].map((at) => ({ ...level(at), winRate, minimum: 0.8 })),
      },
    ]
    await writeFile(
      join(study, 'study.json'),
      JSON.stringify({ format: 1, title: 'Rates', compare: { control: 'plain' }, arms, heads }),
    )
    const html = await page(study)
    expect(headings(html).slice(0, 3)).to.deep.equal([
      'Rates',
      'Held-out error',
      'Comparison with the control',
    ])
    expect(html).to.include('better against plain by noise level, F')
    expect(html)
      .to.include('Errors of the heads: plain')
      .and.include('Which head has the smallest error: better')
    expect(html).to.not.include('Which head has the smallest error: plain') // which nothing says
    const table = html.slice(html.indexOf('Comparison with'))
    expect(cells(table, 'plain')).to.deep.equal(['3', '0.10000', 'control', '–', '–', '–', '–', '–', '61'])
    expect(cells(table, 'better')).to.deep.equal([
      '3',
      '0.090000',
      '-10.0 %',
      '-20.0 % to +2.00 %',
      '&lt; 0.0001',
      '0.0400',
      '1.10 %',
      '2.50',
      '–',
    ])
  })

  it('shows the errors that the study names first, and factors between arms that are far apart', async () => {
    for (const [arm, clipped] of [
      ['plain', 4],
      ['better', 0.1],
    ] as const)
      for (const seed of [0, 1, 2]) {
        const file = join(study, arm, `seed-${seed}`, 'result.json')
        const result = JSON.parse(await readFile(file, 'utf8'))
        result.heldOut.ema['F.clipped'] = clipped
        result.heldOut.ema.perTimestep['F.clipped'] = [clipped, 2 * clipped]
        result.alternation = {
          ...{ coefficientOfVariation: 0.5 + 0.1 * seed, autocorrelation: -0.25, consecutiveRatio: 1.5 },
          ...(arm === 'plain' && { turningPoints: 0.7 }),
        }
        await writeFile(file, JSON.stringify(result))
      }
    const html = await page(study)
    expect(html).to.include('mean squared error in F space, xStart clipped')
    expect(cells(html, 'better')).to.deep.equal([
      '3',
      '0.1000',
      '0.1000 to 0.1000',
      '÷ 40.0',
      '÷ 40.0 to ÷ 40.0',
    ])
    const alternation = html.slice(html.indexOf('How step losses alternate'))
    const even = ['-0.250 [-0.250, -0.250]', '1.500 [1.500, 1.500]']
    expect(cells(alternation, 'plain')).to.deep.equal([
      '3',
      '0.600 [0.352, 0.848]',
      ...even,
      '0.700 [0.700, 0.700]',
    ])
    expect(cells(alternation, 'better')).to.deep.equal(['3', '0.600 [0.352, 0.848]', ...even, ''])
  })

  it('stands beside runs', async () => {
    const html = await page(study, await makeRun(join(work.folder, 'run')))
    expect(headings(html).slice(0, 3)).to.deep.equal([
      '1 run and 1 study',
      'Learning rates',
      'Held-out error',
    ])
  })
})
