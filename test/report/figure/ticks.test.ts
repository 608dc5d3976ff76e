import { expect } from 'chai'
import { linearTicks, logTicks } from '../../../lib/report/figure/ticks.ts'

describe('linearTicks', () => {
  it('are round values within the limits', () => {
    expect(linearTicks(0, 1, 5).map(({ text }) => text)).to.deep.equal([
      '0',
      '0.2',
      '0.4',
      '0.6',
      '0.8',
      '1.0',
    ])
    expect(linearTicks(-0.03, 0.04, 4).map(({ text }) => text)).to.deep.equal(['-0.02', '0', '0.02', '0.04'])
    expect(linearTicks(0, 30000, 3).map(({ text }) => text)).to.deep.equal(['0', '10k', '20k', '30k'])
  })
})

describe('logTicks', () => {
  it('are powers of ten, with 2 and 5 between them when there are few', () => {
    expect(logTicks(0.0001, 10).map(({ text }) => text)).to.deep.equal([
      '0.0001',
      '0.001',
      '0.01',
      '0.1',
      '1',
      '10',
    ])
    expect(logTicks(0.9, 60).map(({ text }) => text)).to.deep.equal(['1', '2', '5', '10', '20', '50'])
    expect(logTicks(1e-7, 1e-5).map(({ text }) => text)).to.include('1e-7')
  })

  it('are round values on an axis too short for those', () => {
    expect(logTicks(0.82, 1.1).map(({ text }) => text)).to.deep.equal(['0.9', '1.0', '1.1'])
  })
})
