import { expect } from 'chai'
import { isSameMix, MIX_NAMES, parseMix } from '../../lib/mixing/strategies.ts'
import { withStatistics } from '../../lib/mixing/with-statistics.ts'
import { contextOf, losses, statisticsOf } from '../support/heads.ts'

describe('parseMix', () => {
  it('knows the strategies, each a loss and a policy', () => {
    expect(MIX_NAMES).to.deep.equal([
      ...[
        'paper',
        'paper-batch',
        'paper-pixel',
        'min-common',
        'all-own',
        'all',
        'relaxed',
        'softmin',
        'table',
        'consensus',
      ],
      ...['uncertainty', 'normalised', 'merge'],
    ])
    const losses = Object.fromEntries(
      MIX_NAMES.map((name) => [name, Object.values(parseMix(name).loss).join(' ')]),
    )
    expect(losses).to.deep.equal({
      paper: 'min own own',
      'paper-batch': 'minBatch own own',
      'paper-pixel': 'minPixel own own',
      'min-common': 'min xStart own',
      'all-own': 'mean own own',
      all: 'mean own F',
      relaxed: 'relaxed xStart F',
      softmin: 'softmin xStart F',
      table: 'given own F',
      consensus: 'mean own F',
      uncertainty: 'mean own own',
      normalised: 'mean own own',
      merge: 'given own F',
    })
  })

  it('decides what fits the loss: shares with given, a floor with relaxed, a temperature with softmin', () => {
    const keys = (name: string): string[] =>
      Object.keys(
        parseMix(name)
          .policy(contextOf(name === 'merge' ? { heads: ['xStart', 'eps'] } : {}))
          .decide(Int32Array.of(5), 0),
      ).sort()
    expect(keys('paper')).to.deep.equal([])
    expect(keys('paper:warmup=5')).to.deep.equal(['floor'])
    expect(parseMix('paper:warmup=5').loss).to.deep.equal({ choose: 'relaxed', compare: 'own', space: 'own' })
    expect(keys('all')).to.deep.equal(['headWeight'])
    expect(keys('relaxed')).to.deep.equal(['floor', 'headWeight'])
    expect(keys('softmin')).to.deep.equal(['headWeight', 'temperature'])
    expect(keys('table')).to.deep.equal(['headWeight', 'share'])
    expect(keys('consensus')).to.deep.equal(['headWeight', 'mixture'])
    expect(keys('merge')).to.deep.equal(['mixture', 'share'])
  })

  it('reads numbers after a colon', () => {
    const mix = parseMix('relaxed:from=0.4,cap=0')
    expect(mix.about).to.equal(
      'the best head of each example, and a shrinking floor for the others (from=0.4, to=0.1, cap=0)',
    )
    expect(mix.policy(contextOf()).decide(Int32Array.of(0), 0)).to.deep.equal({ floor: 0.4 })
    expect([mix.hasCourse, parseMix('all').hasCourse]).to.deep.equal([true, false])
  })

  it('weighs each head’s own error by the factors of all-own, where they are not 1', () => {
    const weights = (mix: string, heads?: readonly ('xStart' | 'v' | 'eps')[]) => {
      const { headWeight } = parseMix(mix)
        .policy(contextOf(heads ? { heads } : {}))
        .decide(Int32Array.of(0, 5), 0)
      return headWeight && Array.from(headWeight)
    }
    expect(weights('all-own')).to.equal(undefined)
    expect(weights('all-own:eps=1')).to.equal(undefined)
    expect(weights('all-own:xStart=0.25,eps=2')).to.deep.equal([0.25, 1, 2, 0.25, 1, 2])
    expect(weights('all-own:eps=2', ['v', 'eps'])).to.deep.equal([1, 2, 1, 2])
    expect(() => weights('all-own:xStart=0.5', ['v', 'eps'])).to.throw(
      'expected heads to be a list with xStart, for which there is a factor, got ["v", "eps"]',
    )
    expect(() => parseMix('all-own:v=0')).to.throw(
      'expected v of mix all-own to be a number >= 0.001, got "0"',
    )
    expect(isSameMix('all-own', 'all-own:v=1')).to.equal(true)
    const specialise = (mix: string) => parseMix(mix).specialises
    expect([specialise('all-own:v=1'), specialise('all-own:eps=4')]).to.deep.equal([false, true])
  })

  it('says what it knows', () => {
    expect(() => parseMix('relaxd')).to.throw(
      `parseMix: expected mix to be one of ${MIX_NAMES.join(', ')}, got "relaxd"; did you mean relaxed?`,
    )
    expect(() => parseMix('toString')).to.throw('expected mix to be one of paper')
    expect(() => parseMix('table:bst=1')).to.throw(
      'parseMix: expected mix table to be followed by numbers such as best=0.8,warmup=50,cap=5, got "bst=1"',
    )
    expect(() => parseMix('paper-pixel:x=1')).to.throw(
      'parseMix: expected mix paper-pixel to be followed by nothing, got "x=1"',
    )
    expect(() => parseMix('table:best=2')).to.throw(
      'parseMix: expected best of mix table to be a number in [0, 1], got "2"',
    )
    expect(() => parseMix('consensus:kappa=-1')).to.throw(
      'expected kappa of mix consensus to be a number >= 0, got "-1"',
    )
    expect(() => parseMix('uncertainty:features=1.5')).to.throw(
      'expected features of mix uncertainty to be an integer in [1, 256], got "1.5"',
    )
    expect(() => parseMix(undefined as never)).to.throw(
      TypeError,
      'expected mix to be a string, got undefined',
    )
  })

  it('takes no number without a value, none twice, and none that is not decimal', () => {
    for (const part of ['best', 'best=', '=1'])
      expect(() => parseMix(`table:${part}`), part).to.throw(
        `expected mix table to be followed by numbers such`,
      )
    expect(() => parseMix('relaxed:from=0.3,from=0.2')).to.throw(
      'expected from of mix relaxed to be given once, got "from=0.3,from=0.2"',
    )
    expect(() => parseMix('normalised:halfLife=0x20')).to.throw('to be a number >= 20, got "0x20"')
  })

  it('knows what means the same', () => {
    expect(isSameMix('table', 'table:warmup=50,best=0.80')).to.equal(true)
    expect(isSameMix('table', 'table:best=0.6')).to.equal(false)
    expect(isSameMix('all', 'all-own')).to.equal(false)
    expect([isSameMix(undefined, undefined), isSameMix(undefined, 'all-own')]).to.deep.equal([true, false])
  })
})

describe('withStatistics', () => {
  it('shows statistics a step before the policy, and keeps both states', () => {
    const statistics = statisticsOf()
    const seen: number[] = []
    const policy = withStatistics(
      {
        name: 'mine',
        decide: () => ({ floor: 0.5 }),
        observe: () => seen.push(statistics.count(0)),
        state: () => seen.length,
        restore: (state) => seen.push(state as number),
      },
      statistics,
    )
    policy.observe?.(losses([0, 1], [1, 2, 3]))
    expect(seen).to.deep.equal([2])
    expect(policy.name).to.equal('mine')
    expect(policy.decide(Int32Array.of(0), 0)).to.deep.equal({ floor: 0.5 })
    const state = policy.state?.()
    const other = statisticsOf()
    withStatistics({ name: 'mine', decide: () => ({}) }, other).restore?.(state ?? null)
    expect(other.state()).to.deep.equal(statistics.state())
    expect(() => policy.restore?.(null)).to.throw(
      'withStatistics.restore: expected state to be statistics and the state of a policy, got null',
    )
  })
})
