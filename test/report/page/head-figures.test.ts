import { expect } from 'chai'
import { gradientFigures, headFigures } from '../../../lib/report/page/head-figures.ts'

const pairs = { 'xStart-v': 0.5, 'xStart-eps': 0.6, 'v-eps': 0.7 }
const bin = (t: readonly [number, number], logSnr: number, xStart: number) => ({
  ...{
    t,
    logSnr,
    count: 10,
    winRate: { xStart, v: 1 - xStart, eps: 0 },
    error: { xStart: 0.1, v: 0.2, eps: 0.3 },
  },
  ...{
    minimum: 0.05,
    best: 'xStart',
    table: 0.1,
    blue: null,
    blueError: null,
    correlation: pairs,
    brightnessGap: pairs,
  },
})
const heads = [
  { step: 10, bins: [bin([0, 100], 4, 1), bin([100, 1000], -4, 0)] },
  { step: 20, bins: [bin([0, 100], 4, 0.5), bin([100, 1000], -4, 0.1)] },
]

describe('gradientFigures', () => {
  const share = (xStart: number) => ({ xStart, v: 0.9 - xStart, eps: 0.1 })
  const gradients = [
    { step: 5, levels: [{ t: [0, 9], logSnr: 3, share: share(0.2) }, { t: [9, 20], logSnr: -3, share: null }] },
    { step: 9, levels: [{ t: [0, 9], logSnr: 3, share: share(0.4) }, { t: [9, 20], logSnr: -3, share: share(0.6) }] },
  ] // biome-ignore format: one line a step

  it('draws shares by noise level at the last step, and their means over training', () => {
    const [levels, over] = gradientFigures({ gradients })
    expect(levels?.y.label).to.equal('share, at step 9')
    expect(levels?.series[0]).to.deep.include({ name: 'xStart', x: [3, -3], y: [0.4, 0.6] })
    expect(over?.series[0]).to.deep.include({ name: 'xStart', x: [5, 9], y: [0.2, 0.5] })
  })

  it('has gaps where a share is hidden, and passes over lines that are not whole', () => {
    expect(gradientFigures({ gradients: gradients.slice(0, 1) })[0]?.series[0]?.y).to.deep.equal([0.2, null])
    expect(gradientFigures({ gradients: [{ step: 1 }] })).to.deep.equal([])
    expect(gradientFigures({ gradients: [] })).to.deep.equal([])
  })
})

describe('headFigures', () => {
  it('draws errors, win rates, correlations and brightness of the last line by noise level', () => {
    const [errors, over, wins, correlation, brightness] = headFigures({ heads })
    expect(errors!.series.map(({ name, y }) => [name, y])).to.deep.equal([
      ['xStart', [0.1, 0.1]],
      ['v', [0.2, 0.2]],
      ['eps', [0.3, 0.3]],
      ['best head', [0.1, 0.1]],
      ['best mixture', [null, null]],
      ['minimum (needs truth)', [0.05, 0.05]],
    ])
    expect(wins!.series[0]).to.deep.include({ name: 'xStart', x: [4, -4], y: [0.5, 0.1] })
    for (const { series } of [correlation!, brightness!])
      expect(series.map(({ name, y }) => [name, y[0]])).to.deep.equal([
        ['xStart and v', 0.5],
        ['xStart and eps', 0.6],
        ['v and eps', 0.7],
      ])
    expect(over!.x.label).to.equal('step')
  })

  it('draws held-out errors first, where a run has measured them', () => {
    const figures = headFigures({ heads, heldOutHeads: heads.slice(0, 1) })
    expect(figures[0]?.title).to.equal('Held-out errors of the heads, and what choosing or mixing can reach')
    expect(figures[0]?.y.label).to.equal('mean squared error in v space, held out, at step 10')
    expect(figures.slice(1)).to.deep.equal(headFigures({ heads }))
  })

  it('weighs win rates over training by the timesteps of the noise levels', () => {
    const over = headFigures({ heads }).find(({ title }) => title.endsWith('over training'))
    expect(over?.series[0]?.x).to.deep.equal([10, 20])
    expect(over?.series[0]?.y.map((share) => Number(share!.toFixed(6)))).to.deep.equal([0.1, 0.14])
  })

  it('passes over lines and noise levels that are not whole', () => {
    const odd = [...heads, { step: 30, bins: [{ t: [0, 1] }, null] }, { step: 40 }]
    expect(headFigures({ heads: odd })).to.deep.equal(headFigures({ heads }))
    expect(headFigures({ heads: [{ step: 1 }] })).to.deep.equal([])
  })
})
