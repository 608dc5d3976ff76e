import { expect } from 'chai'
import { changeText } from '../../lib/statistics/change-text.ts'

describe('changeText', () => {
  it('gives per cent, with more digits for small changes', () => {
    expect([0, -0.01234, 0.05, -0.843, 1.5].map((change) => changeText(change))).to.deep.equal([
      '0.00 %',
      '-1.23 %',
      '+5.00 %',
      '-84.3 %',
      '+150.0 %',
    ])
  })

  it('gives a factor below a tenth and above three times', () => {
    expect([-0.9998, -0.96, 2.5, 4960, -1].map((change) => changeText(change))).to.deep.equal([
      '÷ 5000',
      '÷ 25.0',
      '× 3.50',
      '× 4960',
      '-100.0 %',
    ])
  })
})
