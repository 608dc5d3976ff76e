import { argumentError, checkInteger } from '../check.ts'

/** A half-open range of timesteps, [begin, end). */
export interface Slot {
  readonly begin: number
  readonly end: number
}

/** Checks that slots are ascending, not empty and do not overlap; gaps are allowed. */
export function checkSlots(call: string, slots: readonly Slot[], timestepCount?: number): void {
  if (!Array.isArray(slots))
    throw argumentError(call, 'slots', 'an array of { begin, end }', slots, { kind: 'type' })
  if (slots.length === 0) throw argumentError(call, 'slots', 'one or more { begin, end }', slots)
  let previous = 0
  for (const [k, slot] of (slots as readonly Slot[]).entries()) {
    checkInteger(call, `slots[${k}].begin`, slot?.begin, previous)
    checkInteger(call, `slots[${k}].end`, slot.end, slot.begin + 1, timestepCount ?? 2 ** 31 - 1)
    previous = slot.end
  }
}

/** The index of the slot that holds a timestep, or -1. */
export function slotOf(slots: readonly Slot[], t: number): number {
  return slots.findIndex(({ begin, end }) => t >= begin && t < end)
}
