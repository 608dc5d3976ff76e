import { expect } from 'chai'
import {
  allSlots,
  customPlan,
  oneSlot,
  parsePlan,
  roundRobin,
  type SlotPlan,
  sequential,
  weightedRandom,
} from '../../lib/curriculum/plan.ts'

const opened = (plan: SlotPlan, steps: number) =>
  Array.from({ length: steps }, (_, step) => plan.openAt(step).join('+'))

describe('plans', () => {
  it('oneSlot keeps its slot open for good', () => {
    expect(opened(oneSlot(5, 3), 4)).to.deep.equal(['3', '3', '3', '3'])
    expect(oneSlot(3, 1).shares).to.deep.equal([0, 1, 0])
  })

  it('allSlots keeps every slot open', () => {
    expect(opened(allSlots(3), 2)).to.deep.equal(['0+1+2', '0+1+2'])
  })

  it('sequential goes from noise to image by default, again and again', () => {
    expect(opened(sequential(3, { stepsPerSlot: 2 }), 8).join(' ')).to.equal('2 2 1 1 0 0 2 2')
  })

  it('sequential goes the other way when asked, and opens every slot after its cycles', () => {
    const plan = sequential(3, { stepsPerSlot: 1, direction: 'cleanFirst', cycles: 2 })
    expect(opened(plan, 8).join(' ')).to.equal('0 1 2 0 1 2 0+1+2 0+1+2')
  })

  it('roundRobin visits the slots in turn', () => {
    expect(opened(roundRobin(3), 5).join(' ')).to.equal('0 1 2 0 1')
    expect(opened(roundRobin(2, { stepsPerSlot: 2 }), 5).join(' ')).to.equal('0 0 1 1 0')
  })

  it('weightedRandom opens slots as often as their weights say, the same at the same step', () => {
    const plan = weightedRandom(4, { weights: [1, 0, 3, 0], seed: 4 })
    const counts = [0, 0, 0, 0]
    for (let step = 0; step < 4000; step++) counts[plan.openAt(step)[0]!]!++
    expect(counts[1]! + counts[3]!).to.equal(0)
    expect(counts[2]! / 4000).to.be.closeTo(0.75, 0.03)
    expect(opened(plan, 20)).to.deep.equal(opened(weightedRandom(4, { weights: [1, 0, 3, 0], seed: 4 }), 20))
    expect(opened(plan, 20)).not.to.deep.equal(
      opened(weightedRandom(4, { weights: [1, 0, 3, 0], seed: 5 }), 20),
    )
  })

  it('know the share of each slot, which the visits of a long run confirm', () => {
    for (const plan of [
      allSlots(4),
      sequential(4, { stepsPerSlot: 5 }),
      roundRobin(4),
      weightedRandom(4, { weights: [1, 2, 3, 4] }),
    ]) {
      const counts = [0, 0, 0, 0]
      const steps = 10_000
      for (let step = 0; step < steps; step++) {
        const open = plan.openAt(step)
        for (const k of open) counts[k]! += 1 / open.length
      }
      for (const [k, count] of counts.entries())
        expect(count / steps, plan.text).to.be.closeTo(plan.shares![k]!, 0.02)
    }
  })

  it('customPlan is a function of the step, with shares when it knows them', () => {
    expect(
      opened(
        customPlan(3, (step) => [step % 2]),
        3,
      ),
    ).to.deep.equal(['0', '1', '0'])
    expect(customPlan(3, () => [0]).shares).to.equal(undefined)
    expect(customPlan(2, () => [0, 1], { shares: [1, 3] }).shares).to.deep.equal([0.25, 0.75])
  })

  it('refuse arguments out of range', () => {
    expect(() => oneSlot(3, 3)).to.throw(RangeError, 'oneSlot: expected k to be an integer in [0, 2], got 3')
    expect(() => roundRobin(0)).to.throw(
      RangeError,
      'roundRobin: expected slotCount to be an integer >= 1, got 0',
    )
    expect(() => weightedRandom(3, { weights: [1, 2] })).to.throw(
      RangeError,
      'weightedRandom: expected weights to be 3 numbers, one a slot, got [1, 2]',
    )
    expect(() => weightedRandom(2, { weights: [0, 0] })).to.throw(
      RangeError,
      'weightedRandom: expected weights to be positive somewhere, got [0, 0]',
    )
    expect(() => sequential(2, { stepsPerSlot: 1, direction: 'up' as never })).to.throw(
      RangeError,
      'sequential: expected direction to be one of noisyFirst, cleanFirst, got "up"',
    )
  })
})

describe('parsePlan', () => {
  const texts = [
    'one:3',
    'all',
    'sequential:noisy-first:500',
    'sequential:clean-first:20:2',
    'round-robin',
    'round-robin:25',
    'random',
    'random:1,0.5,0,2',
  ]
  for (const text of texts) {
    it(`reads ${text}, and the plan says the same words`, () => {
      expect(parsePlan(text, 4).text).to.equal(text)
      expect(parsePlan(text, 4).slotCount).to.equal(4)
    })
  }

  it('takes the number of slots from the slots', () => {
    expect(
      parsePlan('round-robin', [
        { begin: 0, end: 1 },
        { begin: 1, end: 2 },
      ]).slotCount,
    ).to.equal(2)
  })

  it('keys random plans with the seed', () => {
    expect(opened(parsePlan('random', 4, { seed: 9 }), 20)).to.deep.equal(
      opened(weightedRandom(4, { seed: 9 }), 20),
    )
  })

  it('refuses what it cannot read, and names the nearest plan', () => {
    expect(() => parsePlan('rond-robin', 4)).to.throw(
      RangeError,
      'parsePlan: expected text to be one:SLOT, all, sequential:noisy-first|clean-first:STEPS[:CYCLES], ' +
        'round-robin[:STEPS] or random[:W0,W1,…], got "rond-robin"; did you mean round-robin?',
    )
    expect(() => parsePlan('one', 4)).to.throw(RangeError, /got "one"$/)
    expect(() => parsePlan('custom', 4)).to.throw(RangeError, 'got "custom"')
    expect(() => parsePlan('one:x', 4)).to.throw(
      RangeError,
      'parsePlan: expected numbers in "one:x" to be decimal numbers, got "x"',
    )
    expect(() => parsePlan('one:4', 4)).to.throw(
      RangeError,
      'oneSlot: expected k to be an integer in [0, 3], got 4',
    )
    expect(() => parsePlan('sequential:up:5', 4)).to.throw(
      RangeError,
      'parsePlan: expected direction to be noisy-first or clean-first, got "up"',
    )
    expect(() => parsePlan(7 as never, 4)).to.throw(
      TypeError,
      'parsePlan: expected text to be a plan in words, got 7',
    )
  })
})
