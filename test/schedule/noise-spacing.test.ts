import { expect } from 'chai'
import { NoiseSchedule } from '../../lib/schedule/noise-schedule.ts'
import { SPACINGS, spaceSteps } from '../../lib/schedule/noise-spacing.ts'
import { expectClose } from '../support/close.ts'

describe('spaceSteps', () => {
  const schedule = NoiseSchedule.create()
  const { snr } = schedule.tables

  it('ascends and ends at the last timestep with every spacing', () => {
    for (const spacing of SPACINGS) {
      for (const steps of [2, 3, 20, 999]) {
        const t = spaceSteps(snr, { spacing, steps })
        expect(t.length, spacing).to.equal(steps)
        expect(t.at(-1), spacing).to.equal(999)
        expect(
          t.every((value, i) => i === 0 || value > t[i - 1]!),
          spacing,
        ).to.equal(true)
        if (spacing !== 'trailing') expect(t[0], spacing).to.equal(0)
      }
    }
  })

  it('visits the last timestep alone in one step, but for the original spacing, which visits the first', () => {
    for (const spacing of SPACINGS) {
      const expected = spacing === 'uniform' ? 0 : 999
      expect(Array.from(spaceSteps(snr, { spacing, steps: 1 })), spacing).to.deep.equal([expected])
    }
  })

  it('is even in the logarithm of snr, or in a power of sigma', () => {
    const logs = schedule.respace({ spacing: 'logSnr', steps: 11 }).tables.snr.map(Math.log)
    const powers = schedule
      .respace({ spacing: 'karras', steps: 11, rho: 5 })
      .tables.snr.map((ratio) => ratio ** -0.1)
    for (const values of [logs, powers]) {
      const differences = Array.from(values.slice(1), (value, i) => value - values[i]!)
      expectClose(differences, new Array(10).fill((values[10]! - values[0]!) / 10), { relative: 1e-9 })
    }
  })

  it('gives fractional timesteps the alphaBar between their neighbours, and the process the same', () => {
    const t = Float64Array.of(0, 10.25, 500.5, 998.999, 999)
    const { alphaBar, timestepMap } = schedule.respace(t).tables
    expect(timestepMap).to.deep.equal(t)
    expectClose(
      alphaBar,
      t.map((at) => schedule.alphaBarAt(at)),
      { relative: 1e-11 },
    )
    expect(schedule.alphaBarAt(10)).to.equal(schedule.tables.alphaBar[10])
    const between = schedule.alphaBarAt(10.25)
    expect(between).to.be.within(schedule.tables.alphaBar[11]!, schedule.tables.alphaBar[10]!)
  })

  it('respaces a process that is respaced already', () => {
    const process = schedule.respace('11').respace(Float64Array.of(0.5, 10))
    expect(Array.from(process.tables.timestepMap)).to.deep.equal([50, 999])
    expect(process.alphaBarAt(50)).to.equal(process.tables.alphaBar[0])
    expect(() => process.alphaBarAt(49)).to.throw(
      'schedule.alphaBarAt: expected t to be a number in [50, 999], got 49',
    )
  })

  it('says what is wrong', () => {
    const zero = NoiseSchedule.create({ zeroTerminalSnr: true })
    expect(() => zero.respace({ spacing: 'karras', steps: 5 })).to.throw(
      RangeError,
      'spaceSteps: expected spacing to be uniform, trailing or quadratic, got "karras"; the last timestep of this schedule holds no signal',
    )
    expect(() => zero.respace(Float64Array.of(0, 998.5, 999))).to.throw(
      'respace: expected visits to be none between 998 and 999, got 998.5; the last timestep of this schedule holds no signal; take fewer steps',
    )
    expect(zero.respace({ spacing: 'quadratic', steps: 50 }).timestepCount).to.equal(50)
    expect(() => schedule.respace({ spacing: 'uniform', steps: 1001 })).to.throw(
      'spaceSteps: expected steps to be an integer in [1, 1000], got 1001',
    )
    expect(() => schedule.respace({ spacing: 'logSnr', steps: 5, rho: 7 })).to.throw(
      'spaceSteps: expected rho to be absent, which belongs to karras, got 7',
    )
    expect(() => schedule.respace({ spacing: 'even' as 'karras', steps: 5 })).to.throw(
      'spaceSteps: expected spacing to be one of uniform, trailing, quadratic, logSnr, karras, got "even"',
    )
    expect(() => schedule.respace(Float64Array.of(3, 2.5))).to.throw(
      'respace: expected visits[1] to be above 3, ascending, got 2.5',
    )
    expect(() => schedule.respace(Float64Array.of(3, 999.5))).to.throw(
      'respace: expected visits[1] to be a number in [0, 999], got 999.5',
    )
    expect(() => schedule.alphaBarAt(-1)).to.throw(
      'schedule.alphaBarAt: expected t to be a number in [0, 999], got -1',
    )
  })
})
