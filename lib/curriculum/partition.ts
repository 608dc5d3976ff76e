import { argumentError, checkInteger } from '../check.ts'
import { checkSlots, type Slot } from './slot.ts'

/**
 * Splits the timesteps into consecutive slots that carry about the same share of the total loss (arXiv
 * 2502.01990 uses T = 1000 and ten slots; math.md, eq. 23). Every slot holds at least one timestep, and
 * together they cover all of them. Each cut is the one whose cumulative loss is nearest to its share; of
 * equally near ones, the lowest.
 *
 * @param lossPerTimestep - mean loss of each timestep, shape [T], each >= 0
 * @throws RangeError when there are more slots than timesteps, or a loss is negative, not finite, or zero
 *   everywhere
 *
 * @example
 * const slots = partitionByLoss(measured, 10) // slots[0] is [0, 12): least noise, largest eps loss
 */
export function partitionByLoss(
  lossPerTimestep: Float64Array | readonly number[],
  slotCount: number,
): Slot[] {
  const call = 'partitionByLoss'
  const cumulative = cumulate(call, lossPerTimestep)
  const timestepCount = lossPerTimestep.length
  const total = cumulative[timestepCount]!
  checkInteger(call, 'slotCount', slotCount, 1, timestepCount)

  const slots: Slot[] = []
  let begin = 0
  for (let k = 1; k <= slotCount; k++) {
    const target = (total / slotCount) * k
    const latest = timestepCount - (slotCount - k) // leaves one timestep for each later slot
    let end = k === slotCount ? timestepCount : begin + 1
    for (let later = end + 1; later <= latest; later++) {
      if (Math.abs(cumulative[later]! - target) < Math.abs(cumulative[end]! - target)) end = later
    }
    slots.push({ begin, end })
    begin = end
  }
  return slots
}

/**
 * Splits the timesteps into consecutive slots whose lengths differ by at most one.
 *
 * @throws RangeError when there are more slots than timesteps
 */
export function partitionEvenly(timestepCount: number, slotCount: number): Slot[] {
  checkInteger('partitionEvenly', 'timestepCount', timestepCount, 1)
  checkInteger('partitionEvenly', 'slotCount', slotCount, 1, timestepCount)
  const edge = (k: number): number => Math.floor((k * timestepCount) / slotCount)
  return Array.from({ length: slotCount }, (_, k) => ({ begin: edge(k), end: edge(k + 1) }))
}

/**
 * The share of the total loss that each slot carries, shape [slots]; adds up to 1 when the slots cover all
 * timesteps.
 */
export function lossShares(
  slots: readonly Slot[],
  lossPerTimestep: Float64Array | readonly number[],
): Float64Array {
  checkSlots('lossShares', slots, lossPerTimestep.length)
  const cumulative = cumulate('lossShares', lossPerTimestep)
  const total = cumulative.at(-1)!
  return Float64Array.from(slots, ({ begin, end }) => (cumulative[end]! - cumulative[begin]!) / total)
}

/** Loss before each edge: shape [T + 1], entry e is the sum over [0, e). Refuses what is no loss curve. */
function cumulate(call: string, lossPerTimestep: Float64Array | readonly number[]): Float64Array {
  if (lossPerTimestep.length === 0)
    throw argumentError(call, 'lossPerTimestep', 'one loss a timestep', lossPerTimestep)
  const cumulative = new Float64Array(lossPerTimestep.length + 1)
  for (const [t, loss] of lossPerTimestep.entries()) {
    if (!Number.isFinite(loss) || loss < 0)
      throw argumentError(call, `lossPerTimestep[${t}]`, 'a number >= 0', loss)
    cumulative[t + 1] = cumulative[t]! + loss
  }
  const total = cumulative.at(-1)!
  if (total === 0 || !Number.isFinite(total)) {
    throw argumentError(call, 'the sum of lossPerTimestep', 'positive and finite', total)
  }
  return cumulative
}
