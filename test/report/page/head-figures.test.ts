import { expect } from 'chai'
import { headFigures } from '../../../lib/report/page/head-figures.ts'

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

describe('headFigures', () => {
  it('draws errors, win rates, correlations and brightness of the last line by noise level', () => {
    const [errors, over, wins, correlation, brightness] = headFigures({ heads })
    expect(errors!.series.map(({ name, y }) => [name, y])).to.deep.equal([
      ['xStart', [0.1, 0.1]],
      ['v', [0.2, 0.2]],
      ['eps', [0.3, 0.3]],
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
