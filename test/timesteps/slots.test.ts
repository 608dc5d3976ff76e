import { expect } from 'chai'
import { partitionEvenly } from '../../lib/curriculum/partition.ts'
import type { SlotPlan } from '../../lib/curriculum/plan.ts'
import {
  allSlots,
  customPlan,
  oneSlot,
  roundRobin,
  sequential,
  weightedRandom,
} from '../../lib/curriculum/plan.ts'
import { slotSampler } from '../../lib/timesteps/slots.ts'
import { fulfilsTheContract } from './contract.ts'

const slots = [
  { begin: 0, end: 2 },
  { begin: 2, end: 5 },
  { begin: 5, end: 12 },
]
const plans: [name: string, plan: SlotPlan, visited?: (t: number) => boolean][] = [
  ['one slot', oneSlot(3, 1), (t) => t >= 2 && t < 5],
  ['all slots', allSlots(3)],
  ['slots in sequence', sequential(3, { stepsPerSlot: 100 })],
  ['two cycles, then all slots', sequential(3, { stepsPerSlot: 500, direction: 'cleanFirst', cycles: 1 })],
  ['slots in turn', roundRobin(3)],
  ['slots at random', weightedRandom(3, { weights: [0, 1, 2] }), (t) => t >= 2],
  ['a plan of your own', customPlan(3, (step) => (step % 2 ? [0, 2] : [1]), { shares: [1, 2, 1] })],
]

describe('slotSampler', () => {
  for (const [name, plan, visited] of plans) {
    describe(`with importance weights and ${name}`, () => {
      fulfilsTheContract((seed) => slotSampler({ slots, plan, seed, importanceWeights: true }), {
        timestepCount: 12,
        steps: 3000,
        ...(visited && { visited }),
      })
    })
  }

  describe('as in the paper', () => {
    fulfilsTheContract((seed) => slotSampler({ slots, plan: roundRobin(3), seed }), {
      timestepCount: 12,
      steps: 300,
    })
  })

  it('draws a batch from the open slot only, uniformly inside it', () => {
    const sampler = slotSampler({ slots, plan: roundRobin(3) })
    const counts = new Int32Array(12)
    for (let step = 2; step < 3000; step += 3) {
      for (const t of sampler.draw(7, step).t) counts[t]!++
    }
    expect([...counts.slice(0, 5)]).to.deep.equal([0, 0, 0, 0, 0])
    for (const count of counts.slice(5)) expect(count).to.be.within(850, 1150)
  })

  it('has weights of 1 by default, and claims nothing', () => {
    const sampler = slotSampler({ slots, plan: roundRobin(3) })
    expect(sampler.unbiased).to.equal(false)
    expect([...sampler.draw(2, 0).weight]).to.deep.equal([1, 1])
  })

  it('weighs a slot by its length over (visited timesteps x share)', () => {
    const sampler = slotSampler({ slots, plan: roundRobin(3), importanceWeights: true })
    expect([0, 1, 2].map((step) => sampler.draw(1, step).weight[0])).to.deep.equal([0.5, 0.75, 1.75])
  })

  it('has weights of 1 for slots of equal length in turn', () => {
    const even = partitionEvenly(12, 3)
    const sampler = slotSampler({ slots: even, plan: roundRobin(3), importanceWeights: true })
    for (const step of [0, 1, 2]) expect(sampler.draw(1, step).weight[0]).to.be.closeTo(1, 1e-7)
  })

  it('refuses plans that do not fit, with both numbers', () => {
    expect(() => slotSampler({ slots, plan: roundRobin(4) })).to.throw(
      RangeError,
      'slotSampler: expected plan to be a plan over 3 slots, got "round-robin over 4 slots"',
    )
    expect(() => slotSampler({ slots, plan: customPlan(3, () => [0]), importanceWeights: true })).to.throw(
      RangeError,
      'slotSampler: expected plan to be one that knows the share of each slot, for importanceWeights, got "custom"; ' +
        'give shares to customPlan',
    )
    expect(() => slotSampler({ slots, plan: customPlan(3, () => [3]) }).draw(1, 8)).to.throw(
      RangeError,
      'slotSampler.draw: expected plan.openAt(8) to be one or more slots in [0, 2], got [3]',
    )
    expect(() => slotSampler({ slots, plan: customPlan(3, () => []) }).draw(1, 8)).to.throw(
      RangeError,
      'got []',
    )
  })
})
