import { argumentError, checkInteger } from '../check.ts'

/**
 * The timesteps that a sampler visits, ascending (guided-diffusion's `space_timesteps`).
 *
 * - `'250'`: that many, evenly spread, first and last kept; `'10,15,20'`: T cut into as many sections as
 *   counts, each with its own count. A list of numbers is the same: counts of sections.
 * - `'ddim25'`: every stride-th from 0, with the smallest whole stride that gives exactly that many.
 * - `''`: all of them.
 * - an `Int32Array`: the timesteps themselves, ascending.
 *
 * @param timestepCount - T of the process that is thinned out
 * @throws RangeError when no stride gives the count, or a section has fewer timesteps than its count
 */
export function spaceTimesteps(
  timestepCount: number,
  spec: string | readonly number[] | Int32Array,
): Int32Array {
  const call = 'spaceTimesteps'
  checkInteger(call, 'timestepCount', timestepCount, 1)
  if (spec instanceof Int32Array) return ascending(call, timestepCount, spec)
  if (spec === '') return Int32Array.from({ length: timestepCount }, (_, t) => t)
  if (typeof spec === 'string' && spec.startsWith('ddim')) return strided(call, timestepCount, spec)
  return sections(call, timestepCount, typeof spec === 'string' ? parseCounts(call, spec) : spec)
}

function strided(call: string, timestepCount: number, spec: string): Int32Array {
  const count = /^ddim\d+$/.test(spec) ? Number(spec.slice(4)) : Number.NaN
  if (Number.isNaN(count)) throw argumentError(call, 'spec', '"ddim" and a number, such as "ddim25"', spec)
  for (let stride = 1; stride < timestepCount; stride++) {
    if (Math.ceil(timestepCount / stride) === count) {
      return Int32Array.from({ length: count }, (_, i) => i * stride)
    }
  }
  throw argumentError(
    call,
    'spec',
    `"ddimN" with N timesteps at a whole stride from ${timestepCount}`,
    spec,
    {
      hint: `no stride gives ${count}; near it: ${nearCounts(timestepCount, count).join(', ')}`,
    },
  )
}

/** The counts next below and next above that a whole stride gives. */
function nearCounts(timestepCount: number, count: number): number[] {
  // descending
  const counts = Array.from({ length: timestepCount - 1 }, (_, i) => Math.ceil(timestepCount / (i + 1)))
  return [counts.find((other) => other < count), counts.findLast((other) => other > count)].filter(
    (other) => other !== undefined,
  )
}

function parseCounts(call: string, spec: string): number[] {
  return spec.split(',').map((part) => {
    if (!/^\s*\d+\s*$/.test(part))
      throw argumentError(call, 'spec', 'counts such as "250" or "10,15,20", or "ddim25"', spec)
    return Number(part)
  })
}

function sections(call: string, timestepCount: number, counts: readonly number[]): Int32Array {
  if (!Array.isArray(counts))
    throw argumentError(call, 'spec', 'a string or a list of counts', counts, { kind: 'type' })
  for (const [i, count] of counts.entries()) checkInteger(call, `count of section ${i}`, count, 0)
  const total = counts.reduce((a, b) => a + b, 0)
  if (total === 0) throw argumentError(call, 'spec', 'at least one timestep', counts)

  const base = Math.floor(timestepCount / counts.length)
  const longer = timestepCount % counts.length // the first ones get one timestep more
  const kept = new Int32Array(total)
  let begin = 0
  let index = 0
  for (const [i, count] of counts.entries()) {
    const size = base + (i < longer ? 1 : 0)
    if (size < count) {
      throw argumentError(
        call,
        `count of section ${i}`,
        `at most the ${size} timesteps of the section`,
        count,
      )
    }
    const stride = count > 1 ? (size - 1) / (count - 1) : 1
    let position = 0 // accumulated, not multiplied: the rounding errors are part of the original
    for (let j = 0; j < count; j++) {
      kept[index++] = begin + roundHalfToEven(position)
      position += stride
    }
    begin += size
  }
  return kept
}

/** Python's round: 0.5 goes to 0, 1.5 and 2.5 to 2. */
export function roundHalfToEven(value: number): number {
  const floor = Math.floor(value)
  const rest = value - floor
  if (rest !== 0.5) return rest < 0.5 ? floor : floor + 1
  return floor % 2 === 0 ? floor : floor + 1
}

function ascending(call: string, timestepCount: number, timesteps: Int32Array): Int32Array {
  if (timesteps.length === 0) throw argumentError(call, 'spec', 'at least one timestep', timesteps)
  for (const [i, t] of timesteps.entries())
    checkInteger(call, `spec[${i}]`, t, i === 0 ? 0 : timesteps[i - 1]! + 1, timestepCount - 1)
  return timesteps.slice()
}
