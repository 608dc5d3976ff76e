import { expect } from 'chai'
import { combineBySignal, parseCombine } from '../../lib/sampling/combine.ts'
import type { HeadWeights } from '../../lib/sampling/denoiser.ts'
import { NoiseSchedule } from '../../lib/schedule/noise-schedule.ts'

describe('combineBySignal', () => {
  const schedule = NoiseSchedule.create({ name: 'cosine', timestepCount: 10 })
  const at = (heads: Parameters<typeof combineBySignal>[1], t: number): HeadWeights =>
    (combineBySignal(schedule, heads) as (t: number) => HeadWeights)(t)

  it('trusts eps where there is signal and xStart where there is noise, with weights that add up to 1', () => {
    const [clean, noisy] = [at(['xStart', 'v', 'eps'], 0), at(['xStart', 'v', 'eps'], 9)]
    expect(clean.eps).to.be.greaterThan(0.45)
    expect(noisy.xStart).to.be.greaterThan(0.45)
    for (const { xStart = 0, v = 0, eps = 0 } of [clean, noisy])
      expect(xStart + v + eps).to.be.closeTo(1, 1e-12)
  })

  it('does with the heads that there are', () => {
    expect(at(['v', 'eps'], 3)).to.deep.equal({ v: 1 })
    expect(at(['eps'], 3)).to.deep.equal({ eps: 1 })
    const { xStart = 0, eps = 0 } = at(['xStart', 'eps'], 3)
    expect(xStart + eps).to.be.closeTo(1, 1e-12)
  })

  it('is read from words, as are heads and weights', () => {
    expect(parseCombine('v', schedule, ['v', 'eps'])).to.equal('v')
    expect(parseCombine('mean', schedule, ['v', 'eps'])).to.deep.equal({ v: 0.5, eps: 0.5 })
    expect(parseCombine('xStart=0.3,v=0.7', schedule, ['xStart', 'v'])).to.deep.equal({ xStart: 0.3, v: 0.7 })
    expect(parseCombine('signal', schedule, ['v'])).to.be.a('function')
    expect(() => parseCombine('eps', schedule, ['v'])).to.throw(
      'parseCombine: expected combine to be among the network\'s heads (v), got "eps"',
    )
    expect(() => parseCombine('best', schedule, ['v'])).to.throw(
      'parseCombine: expected combine to be signal, mean, gate, one of v, or weights such as xStart=0.3,v=0.7, got "best"',
    )
  })
})
