import { expect } from 'chai'
import { checkSlots, slotOf } from '../../lib/curriculum/slot.ts'

describe('slots', () => {
  const slots = [
    { begin: 0, end: 12 },
    { begin: 12, end: 20 },
  ]

  it('are half-open: the end belongs to the next one', () => {
    expect([0, 11, 12, 19, 20].map((t) => slotOf(slots, t))).to.deep.equal([0, 0, 1, 1, -1])
  })

  it('may leave gaps, but not overlap or be empty', () => {
    expect(() => checkSlots('call', [slots[0]!, { begin: 15, end: 20 }])).not.to.throw()
    expect(() => checkSlots('call', [slots[0]!, { begin: 11, end: 20 }])).to.throw(
      RangeError,
      'call: expected slots[1].begin to be an integer >= 12, got 11',
    )
    expect(() => checkSlots('call', [{ begin: 5, end: 5 }])).to.throw(
      RangeError,
      'call: expected slots[0].end to be an integer in [6, 2147483647], got 5',
    )
  })

  it('are at least one', () => {
    expect(() => checkSlots('call', [])).to.throw(
      RangeError,
      'call: expected slots to be one or more { begin, end }, got []',
    )
  })
})
