import { expect } from 'chai'
import { type CellResult, type HeldOutResult, parseNumbers } from '../../lib/study/cell.ts'
import { type ArmComparison, compareArms, firstBelow } from '../../lib/study/comparison.ts'
import { curveValues, metricValue, parseMetric } from '../../lib/study/metric.ts'
import type { EvaluationSettings } from '../../lib/study/study-file.ts'
import { studyTables } from '../../lib/study/study-report.ts'

const SETTINGS = { weights: 'ema', sigmaData: 0.5 } as EvaluationSettings

function heldOut(F: number): HeldOutResult {
  const means = { F, v: F / 2, 'F.clipped': F, 'v.clipped': F / 2, 'F.geometric': F }
  const perTimestep = { F: [F], v: [F / 2], 'F.clipped': [F], deviation: [0] }
  return { ...means, perTimestep, heads: {}, products: [[[4, 0, 0, 1]], [[4, 0, 0, 1]]] }
}

/** A cell whose loss falls as 1 / sqrt(images), times `factor`. */
function cell(arm: string, seed: number, factor: number): CellResult {
  const at = (images: number) => ({ step: images, imagesSeen: images, raw: heldOut(9), ema: heldOut(factor / Math.sqrt(images)) }) // biome-ignore format: one point
  return {
    ...{ format: 1, arm, seed, options: '', evaluation: '', settings: SETTINGS, step: 400, imagesSeen: 400 },
    ...{ trainSeconds: 10, imagesPerSecond: 40 },
    heldOut: {
      ...{ t: [0], logSnr: [0], heads: ['v', 'eps'], combine: 'signal' },
      ...{ ema: heldOut(factor / 20), raw: heldOut(9) },
    },
    curve: [25, 50, 100, 200, 400].map(at),
  } as CellResult
}

describe('compareArms', () => {
  const arms = ['plain', 'fast', 'same'].map((name) => ({ name })) as never
  const compare = { control: 'plain', metrics: ['F', 'F.raw', 'F@blue'] }
  const results = [0, 1, 2, 3].flatMap((seed) => [
    cell('plain', seed, 1 + 0.1 * seed),
    cell('fast', seed, (1 + 0.1 * seed) * 0.5),
    ...(seed < 3 ? [cell('same', seed, (1 + 0.1 * seed) * [1.01, 0.99, 1][seed]!)] : []),
  ])

  it('compares seed by seed, so that what a seed changes for all cancels', () => {
    const [plain, fast, same] = compareArms({ arms, compare }, results)
    expect(plain).to.include({ arm: 'plain', isControl: true, n: 4 })
    expect(fast?.metrics[0]?.relative.mean).to.be.closeTo(-0.5, 1e-12)
    expect(fast?.metrics[0]?.relative.high).to.be.closeTo(-0.5, 1e-9)
    expect(same?.metrics[0]).to.include({ n: 3 })
    expect(same?.metrics[0]?.relative.low).to.be.below(0)
    expect(same?.metrics[0]?.relative.high).to.be.above(0)
    expect(same?.metrics[0]?.holmP).to.be.at.least(same?.metrics[0]?.p as number)
  })

  it('says how many fewer images bring an arm to the control’s loss', () => {
    const [plain, fast, same] = compareArms({ arms, compare }, results)
    expect(fast?.reach).to.include({ reached: 4 })
    expect(fast?.reach?.ratio.mean).to.be.closeTo(4, 1e-9) // half the loss everywhere, and loss falls as 1 / sqrt(images)
    expect(plain?.reach?.ratio.mean).to.be.closeTo(1, 1e-9)
    expect(same?.reach?.reached).to.equal(2) // one per cent more is not reached
    expect(same?.reach?.ratio.mean).to.be.NaN
  })

  it('counts the control’s images until its own curve is there, so that its equal needs as many', () => {
    const wavy = (arm: string, seed: number): CellResult => {
      const made = cell(arm, seed, 1)
      const curve = made.curve.map((point) => ({
        ...point,
        ema: heldOut(point.imagesSeen === 100 ? 0.02 : 0.05),
      }))
      return { ...made, heldOut: { ...made.heldOut, ema: heldOut(0.05) }, curve }
    }
    const cells = [0, 1].flatMap((seed) => [
      wavy('plain', seed),
      wavy('same', seed),
      cell('fast', seed, 0.125),
    ])
    const [plain, fast, same] = compareArms({ arms, compare }, cells)
    for (const arm of [plain, same]) expect(arm?.reach?.ratio.mean).to.equal(1)
    expect(fast?.reach?.seeds[0]?.controlImages).to.equal(25)
  })

  it('compares at every timestep, so that no noise level hides in the mean', () => {
    const withTwo = (arm: string, seed: number, factors: number[]): CellResult => {
      const one = cell(arm, seed, 20 + seed)
      const mean = (one.heldOut.ema as HeldOutResult).F
      const at = factors.map((factor) => factor * mean)
      const ema = { ...heldOut(mean), perTimestep: { F: at, v: at, 'F.clipped': at, deviation: [0, 0] } }
      return { ...one, heldOut: { ...one.heldOut, t: [3, 9], logSnr: [2, -4], ema } }
    }
    const pairs = [0, 1, 2].flatMap((seed) => [
      withTwo('plain', seed, [1, 1]),
      withTwo('fast', seed, [0.5, 1.2 + 0.1 * seed]),
    ])
    const [, fast] = compareArms({ arms, compare: { control: 'plain', metrics: ['F'] } }, pairs)
    const [clean, noisy] = fast?.metrics[0]?.timesteps ?? []
    expect(clean).to.include({ t: 3, logSnr: 2 })
    expect(clean?.relative.mean).to.be.closeTo(-0.5, 1e-12)
    expect(noisy?.relative.mean).to.be.closeTo(0.3, 1e-12)
    expect(noisy?.relative.high).to.be.closeTo(0.3 + (4.302653 * 0.1) / Math.sqrt(3), 1e-6)
    const table = studyTables({ compare: { control: 'plain', metrics: ['F'] } }, fast ? [fast] : [])
    expect(table).to.contain('-4.0: +30.0 % [+5.16 %, +54.8 %]')
  })

  it('pairs distances by features of one classifier, and distances of pixels whatever it is', () => {
    const compared = {
      arms,
      compare: { control: 'plain', metrics: ['frechet@5', 'kid@5', 'slicedWasserstein@5'] },
    }
    const drawn = (arm: string, seed: number, features: string, distance: number): CellResult => ({
      ...cell(arm, seed, 1),
      samples: { hash: '', features, rows: [{ steps: 5, frechet: distance, kid: distance, slicedWasserstein: distance }] },
    }) // biome-ignore format: one cell
    const some = [0, 1, 2].flatMap((seed) => [
      drawn('plain', seed, 'here', 2),
      drawn('fast', seed, seed === 2 ? 'there' : 'here', 1),
    ])
    expect(compareArms(compared, some)[1]?.metrics.map(({ n }) => n)).to.deep.equal([2, 2, 3])
    // An unbiased kid may be 0 or less, of which there are no shares.
    const near = [...some.slice(1), drawn('plain', 0, 'here', -0.01)]
    const [frechet] = compareArms(compared, near)[1]?.metrics ?? []
    expect(frechet?.relative.mean).to.be.NaN
    expect(frechet?.p).to.be.NaN
    expect(frechet?.difference.mean).to.be.closeTo((1 + 0.01 - 1) / 2, 1e-12)
    expect(studyTables(compared, compareArms(compared, near)).split('\n')[3]).to.match(
      /^\| fast +\| 3 \| +1.0000 \| +\| /,
    )
  })

  it('says how many networks went astray instead of comparing those that are left', () => {
    const astray = JSON.stringify(cell('fast', 0, Number.NaN))
    expect(astray).to.contain('"F":null')
    const one = parseNumbers(astray) as CellResult
    expect(metricValue(one, parseMetric('x', 'F'))).to.equal(undefined)
    const named = { arms, compare: { control: 'plain', metrics: ['F'] } }
    const [plain, fast] = compareArms(named, [
      ...results.filter(({ arm, seed }) => arm !== 'fast' || seed > 0),
      one,
    ])
    expect(fast?.metrics[0]).to.include({ n: 3, astray: 1 })
    expect(fast?.metrics[0]?.p).to.be.NaN
    expect(fast?.metrics[0]?.relative.n).to.equal(0)
    const table = studyTables(named, [plain, fast] as ArmComparison[])
    expect(table.split('\n')[3]).to.match(
      /^\| fast +\| 3 and 1 not finite \| +0.0\d+ \| +1 pair not finite \| +\| +\|/,
    )
    const [, never] = compareArms(named, [
      ...results.filter(({ arm }) => arm === 'plain'),
      ...[0, 1, 2, 3].map((seed) => ({ ...one, seed })),
    ])
    expect(never?.metrics[0]).to.include({ n: 0, astray: 4 })
    expect(never?.metrics[0]?.mean).to.be.NaN
    expect(fast?.reach?.seeds.find(({ seed }) => seed === 0)?.images).to.equal(null)
    expect(plain?.n).to.equal(4)
    const late = results.find(({ arm, seed }) => arm === 'plain' && seed === 1) as CellResult
    const points = [...late.curve.slice(0, -1), { ...late.curve.at(-1), ema: heldOut(Number.NaN) }]
    const without = results.map((result) =>
      result === late ? { ...late, curve: points } : result,
    ) as CellResult[]
    expect(compareArms(named, without)[1]?.reach?.seeds.map(({ seed }) => seed)).to.deep.equal([0, 2, 3])
  })

  it('reports a network of several heads whose errors are not finite', () => {
    const lost = cell('fast', 0, Number.NaN)
    const products = [[[4, 0, 0, null]], [[null, null, null, null]]]
    const text = JSON.stringify({
      ...lost,
      heldOut: { ...lost.heldOut, ema: { ...lost.heldOut.ema, products } },
    })
    const cells = [
      parseNumbers(text) as CellResult,
      ...results.filter((one) => one.arm !== 'fast' || one.seed !== 0),
    ]
    const [, fast] = compareArms({ arms, compare }, cells)
    expect(fast?.metrics.map(({ metric, astray }) => [metric, astray])).to.deep.equal([
      ['F', 1],
      ['F.raw', 0],
      ['F@blue', 1],
    ])
  })

  it('leaves out of the comparison one noise level that is not finite, as those in no mean may be', () => {
    const at = (arm: string, seed: number, last: number): CellResult => {
      const made = cell(arm, seed, 1)
      const ema = { ...heldOut(0.05), perTimestep: { ...heldOut(0.05).perTimestep, F: [0.05, last] } }
      return { ...made, heldOut: { ...made.heldOut, t: [0, 1], logSnr: [0, -1], ema } }
    }
    const cells = [0, 1].flatMap((seed) => [
      at('plain', seed, 1),
      at('fast', seed, seed === 0 ? Number.NaN : 1),
    ])
    const [, fast] = compareArms({ arms, compare: { control: 'plain', metrics: ['F'] } }, cells)
    expect(fast?.metrics[0]?.timesteps?.map(({ relative }) => relative.mean)).to.deep.equal([0, Number.NaN])
    expect(
      studyTables({ compare: { control: 'plain', metrics: ['F'] } }, [fast as ArmComparison]),
    ).to.contain('0.0: ')
  })

  it('says which way a ratio of images is bounded, and nothing where both ways', () => {
    const low = (arm: string, values: readonly number[]): CellResult => {
      const made = cell(arm, 0, 1)
      const curve = made.curve.map((point, i) => ({ ...point, ema: heldOut(values[i] as number) }))
      return { ...made, heldOut: { ...made.heldOut, ema: heldOut(values.at(-1) as number) }, curve }
    }
    const rising = low('plain', [0.05, 0.05, 0.05, 0.05, 0.06])
    const told = (arm: CellResult): string => {
      const only = { control: 'plain', metrics: ['F'] }
      return studyTables({ compare: only }, compareArms({ arms, compare: only }, [rising, arm])).split(
        '\n',
      )[3] as string
    }
    expect(told(low('fast', [0.1, 0.08, 0.06, 0.05, 0.05]))).to.match(/\| +≤ 0\.25 \|/)
    expect(told(low('fast', [0.05, 0.05, 0.05, 0.05, 0.05]))).to.match(/\| +unknown \|/)
  })

  it('says so where the control went astray, and takes such arms for comparisons that found nothing', () => {
    const named = { arms, compare: { control: 'plain', metrics: ['F'] } }
    const astray = parseNumbers(JSON.stringify(cell('plain', 0, Number.NaN))) as CellResult
    const [, fast, same] = compareArms(named, [
      ...results.filter(({ arm, seed }) => arm !== 'plain' || seed > 0),
      astray,
    ])
    for (const arm of [fast, same]) {
      expect(arm?.metrics[0]).to.include({ astray: 0, astrayPairs: 1 })
      expect(arm?.metrics[0]?.holmP).to.be.NaN
    }
    expect(studyTables(named, [fast] as ArmComparison[])).to.contain('1 pair not finite')

    const spread = (arm: string, seed: number) => cell(arm, seed, 1 + 0.1 * seed + 0.01 * seed ** 2)
    const pairs = [0, 1, 2].flatMap((seed) => [cell('plain', seed, 1), spread('fast', seed)])
    const diverged = [0, 1, 2].map((seed) => ({ arm: 'same', seed }))
    const [, alone] = compareArms(named, pairs)
    const [, beside, lost] = compareArms(named, pairs, {}, diverged)
    expect(beside?.metrics[0]?.p).to.equal(alone?.metrics[0]?.p)
    expect(beside?.metrics[0]?.holmP).to.be.closeTo(2 * (alone?.metrics[0]?.holmP as number), 1e-12)
    expect(lost).to.include({ arm: 'same', n: 0 })
    expect(lost?.metrics[0]).to.include({ n: 0, astray: 3, astrayPairs: 3 })
    const [, , partly] = compareArms(named, [...pairs, cell('same', 0, 2)], {}, diverged.slice(1))
    expect(partly?.metrics[0]).to.include({ n: 1, astray: 2, astrayPairs: 2 })
    expect(partly?.reach?.seeds.map(({ images }) => images)).to.deep.equal([null, null, null])
  })

  it('prints a table for each metric', () => {
    const lines = studyTables({ compare }, compareArms({ arms, compare }, results)).split('\n')
    expect(lines[0]).to.match(/^\| arm +\| n \| +F \| +against plain, 95 % \|/)
    expect(lines[3]).to.match(/^\| fast +\| 4 \| 0.028750 \| -50.0 % \[-50.0 %, -50.0 %\] \|/)
    expect(lines[3]).to.contain(' 4.00 [4.00, 4.00] ')
    expect(lines[4]).to.contain('2 of 3 reach it')
  })

  it('says nothing about arms without a finished cell', () => {
    const named = compareArms({ arms, compare }, results.filter(({ arm }) => arm === 'fast')) // biome-ignore format: short
    expect(named.map(({ arm }) => arm)).to.deep.equal(['fast'])
    expect(named[0]?.metrics[0]?.n).to.equal(0)
    expect(studyTables({ compare }, [])).to.equal('no cell is finished yet')
  })
})

describe('firstBelow', () => {
  const points = [
    { images: 100, value: 1 },
    { images: 400, value: 0.25 },
    { images: 800, value: 0.3 },
  ]
  it('interpolates between logarithms', () => {
    expect(firstBelow(points, 0.5).images).to.be.closeTo(200, 1e-9)
    expect(firstBelow(points, 0.25).images).to.be.closeTo(400, 1e-9)
  })
  it('says when the first point is below already, and when none is', () => {
    expect(firstBelow(points, 2)).to.deep.equal({ images: 100, isUpperBound: true })
    expect(firstBelow(points, 0.1)).to.deep.equal({ images: null, isUpperBound: false })
  })
})

describe('parseMetric', () => {
  it('reads the weights that it names, else those of the settings', () => {
    const one = cell('a', 0, 2)
    expect(metricValue(one, parseMetric('x', 'F'))).to.equal(0.1)
    expect(metricValue(one, parseMetric('x', 'F.raw'))).to.equal(9)
  })

  it('takes no weights for others: those themselves for an average only where a run keeps none', () => {
    const one = cell('a', 0, 2)
    const { raw, ema } = one.heldOut
    const value = (weights: 'ema' | 'raw', bothWeights: boolean, found: object, name: string) => {
      const { t, logSnr, heads, combine } = one.heldOut
      const heldOut = { t, logSnr, heads, combine, ...found }
      const settings = { ...SETTINGS, weights, bothWeights }
      return metricValue({ ...one, settings, heldOut } as CellResult, parseMetric('x', name))
    }
    expect(value('ema', false, { raw }, 'F.ema'), 'no average').to.equal(9)
    expect(value('raw', true, { raw }, 'F.ema'), 'no average, both asked for').to.equal(9)
    expect(value('raw', false, { raw }, 'F.ema'), 'not asked for').to.equal(undefined)
    expect(value('raw', false, { raw }, 'F')).to.equal(9)
    expect(value('ema', false, { ema }, 'F.raw')).to.equal(undefined)
    const stale = { ...one, curve: [{ step: 1, imagesSeen: 1, raw }, ...one.curve] } as CellResult
    expect(curveValues(stale, parseMetric('x', 'F')).map(({ images }) => images)).to.deep.equal([25, 50, 100, 200, 400])
  }) // biome-ignore format: one case a line

  it('combines heads from the products of their errors', () => {
    const one = cell('a', 0, 2)
    const value = (name: string) => metricValue(one, parseMetric('x', name))
    expect(value('v@v')).to.equal(4)
    expect(value('v@eps')).to.equal(1)
    expect(value('v@table')).to.equal(1)
    expect(value('v@mean')).to.equal(1.25)
    expect(value('v@blue')).to.be.closeTo(0.8, 1e-3) // 1 / (1/4 + 1)
    expect(value('F@v')).to.be.closeTo(4 * 2.5, 1e-12) // snr is 1: (1 + 4) / 2
    expect(value('v@xStart')).to.equal(undefined)
  })

  it('measures a combination on the images that did not choose it', () => {
    const one = cell('a', 0, 2)
    const raw = { ...(one.heldOut.raw as HeldOutResult), products: [[[4, 0, 0, 1]], [[1, 0, 0, 4]]] }
    const halves = { ...one, heldOut: { ...one.heldOut, ema: raw, raw } }
    expect(metricValue(halves, parseMetric('x', 'v@table'))).to.equal(4)
    expect(metricValue(halves, parseMetric('x', 'v@v'))).to.equal(2.5)
  })

  it('reads what the statistics of the checkpoint combine, and of one head that head', () => {
    const one = cell('a', 0, 2)
    const per = (value: number) => ({ F: [10 * value], v: [value] })
    const raw = { ...(one.heldOut.raw as HeldOutResult), kept: { table: per(3), blue: per(2) } }
    const with_ = (heldOut: object) => ({ ...one, heldOut: { ...one.heldOut, ...heldOut } }) as CellResult
    const value = (name: string, cell: CellResult) => metricValue(cell, parseMetric('x', name))
    const kept = with_({ ema: raw, raw })
    expect([value('v@table.kept', kept), value('F@blue.kept', kept)]).to.deep.equal([3, 20])
    expect(value('v@blue.kept', one), 'not kept').to.equal(undefined)
    const single = with_({ heads: ['v'], ema: { ...raw, products: [[[4]], [[2]]], kept: undefined } })
    expect(value('v@blue.kept', single)).to.equal(3)
  })

  it('reads samples and bits of another combination, which one head does not have', () => {
    const rows = [
      { steps: 5, slicedWasserstein: 1 },
      { steps: 5, combine: 'blue', slicedWasserstein: 2 },
    ]
    const bits = [{ mean: 3 }, { combine: 'blue', mean: 4 }]
    const three = { ...cell('a', 0, 2), samples: { hash: '', rows }, bitsPerDim: { hash: '', rows: bits } }
    const value = (name: string, one: CellResult = three) => metricValue(one, parseMetric('x', name))
    expect([value('slicedWasserstein@5'), value('slicedWasserstein@5@blue')]).to.deep.equal([1, 2])
    expect([value('bitsPerDim'), value('bitsPerDim@blue')]).to.deep.equal([3, 4])
    expect([value('slicedWasserstein@5@signal'), value('bitsPerDim@signal')], 'its own').to.deep.equal([1, 3])
    expect(value('slicedWasserstein@10')).to.equal(undefined)
    const single = { ...three, heldOut: { ...three.heldOut, heads: ['v'] } } as CellResult
    expect([value('slicedWasserstein@5@blue', single), value('bitsPerDim@blue', single)]).to.deep.equal([
      1, 3,
    ])
  })

  it('refuses names that mean nothing', () => {
    for (const name of [
      'G',
      'F@nobody',
      'F@mean.kept',
      'frechet',
      'F.raw.clipped',
      'v.geometric',
      'bitsPerDim@5',
    ]) {
      expect(() => parseMetric('runStudy', name)).to.throw(
        RangeError,
        /^runStudy: expected compare.metrics to be F, v, F.clipped/,
      )
    }
  })
})
