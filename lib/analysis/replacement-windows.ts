import { checkInteger, checkNumber } from '../check.ts'

/** What windows have equal amounts of. */
export const WINDOW_MEASURES = ['steps', 'logSnr', 'weight'] as const
/** One of `WINDOW_MEASURES`. */
export type WindowMeasure = (typeof WINDOW_MEASURES)[number]

/** Steps k of a process, walked from `from` down to `to`, both in the window. */
export interface StepWindow {
  readonly from: number
  readonly to: number
}

/**
 * Weight of the prediction at each step k >= 1 in what DDIM has made when only the last step, k = 0, is left; both are differences
 * along the process (math.md, eq. 123, 124). [K]; entry 0 is 0.
 *
 * @param variable - `xStart`: sqrt(snr) after less before; `eps`: sigma before less after, sigma = 1 / sqrt(snr)
 * @param snr - signal-to-noise ratio of power at each step of the process, [K], descending
 */
export function openLoopWeights(variable: 'xStart' | 'eps', snr: Float64Array): Float64Array {
  const root = snr.map((value) => Math.sqrt(bounded(value)))
  const place = variable === 'xStart' ? root : root.map((value) => -1 / value)
  return place.map((value, k) => (k === 0 ? 0 : place[k - 1]! - value))
}

/** How DDIM with noise makes x at step 0 of the noisiest x, its predictions and its noises. */
export interface NoisyWeights {
  /** Factor of x at the noisiest step. */
  readonly start: number
  /** [K] of each prediction of xStart, and of each step's unit noise; entries 0 are 0. */
  readonly xStart: Float64Array
  readonly noise: Float64Array
}

/**
 * The same for DDIM with a share `eta` of DDPM's noise, in the unit of x at step 0 (math.md, eq. 126); with `eta` 0 the weights of xStart are
 * those of `openLoopWeights` times sqrt(1 - alphaBar_0).
 *
 * @param alphaBar - of the process, [K], descending
 */
export function noisyOpenLoopWeights(alphaBar: Float64Array, eta: number): NoisyWeights {
  const xStart = new Float64Array(alphaBar.length)
  const noise = new Float64Array(alphaBar.length)
  let kept = 1 // of x at step k - 1 in x at step 0
  for (let k = 1; k < alphaBar.length; k++) {
    const [before, after] = [alphaBar[k]!, alphaBar[k - 1]!]
    const variance = (eta ** 2 * (1 - after) * (1 - before / after)) / (1 - before)
    const carried = Math.sqrt(Math.max(0, 1 - after - variance) / (1 - before))
    xStart[k] = kept * (Math.sqrt(after) - carried * Math.sqrt(before))
    noise[k] = kept * Math.sqrt(variance)
    kept *= carried
  }
  return { start: kept, xStart, noise }
}

/**
 * The steps of a process whose timesteps lie in a range, without the last one, k = 0.
 *
 * @param timesteps - visited ones, [K], ascending
 * @param range - two timesteps in any order, both in the range
 * @returns undefined where no step is
 */
export function windowOfRange(
  timesteps: ArrayLike<number>,
  range: readonly [number, number],
): StepWindow | undefined {
  const [least, greatest] = [Math.min(...range), Math.max(...range)]
  const inside = Array.from(timesteps, (t, k) => ({ t, k })).filter(
    ({ t, k }) => k > 0 && t >= least && t <= greatest,
  )
  const [first, last] = [inside[0], inside.at(-1)]
  return first && last && { from: last.k, to: first.k }
}

/**
 * Windows of steps that slide from most noise to least: each has the same share of the process in a measure. The last step, which maps onto the
 * clean image, is in none of them.
 *
 * @param measure - of steps; of log snr passed; of open-loop weight of `variable`
 * @param options.positions - windows, evenly placed; equal ones next to each other are one
 * @param options.width - share of each window, in (0, 1]
 */
export function replacementWindows(
  measure: WindowMeasure,
  variable: 'xStart' | 'eps',
  snr: Float64Array,
  options: { readonly positions: number; readonly width: number },
): StepWindow[] {
  const call = 'replacementWindows'
  const { positions, width } = options
  checkInteger(call, 'positions', positions, 1)
  checkNumber(call, 'width', width, 1e-6, 1)
  checkInteger(call, 'snr.length', snr.length, 2)
  const mass = massOf(measure, variable, snr)
  const total = mass.reduce((a, b) => a + b, 0)
  const last = snr.length - 1
  // Cumulative share passed before and after each step, walking from k = last to 1.
  const spans: { k: number; begin: number; end: number }[] = []
  let passed = 0
  for (let k = last; k >= 1; k--) {
    const begin = passed
    passed += mass[k]! / total
    spans.push({ k, begin, end: passed })
  }
  const windows: StepWindow[] = []
  for (let i = 0; i < positions; i++) {
    const begin = positions === 1 ? 0 : ((1 - width) * i) / (positions - 1)
    const center = begin + width / 2
    const inside = spans.filter((span) => {
      const middle = (span.begin + span.end) / 2
      return middle >= begin - 1e-9 && middle < begin + width - 1e-9
    })
    // One step may be wider than the window.
    const here = inside.length > 0 ? inside : [spans.find((span) => span.end >= center) ?? spans.at(-1)!]
    const window = { from: here[0]!.k, to: here.at(-1)!.k }
    const before = windows.at(-1)
    if (before?.from !== window.from || before.to !== window.to) windows.push(window)
  }
  return windows
}

function massOf(measure: WindowMeasure, variable: 'xStart' | 'eps', snr: Float64Array): Float64Array {
  if (measure === 'weight') return openLoopWeights(variable, snr)
  if (measure === 'steps') return snr.map((_, k) => (k === 0 ? 0 : 1))
  const place = snr.map((value) => Math.log(bounded(value)))
  return place.map((value, k) => (k === 0 ? 0 : place[k - 1]! - value))
}

/** Without its bounds a ratio of no signal, or of no noise, has no logarithm and no root that could be divided by. */
function bounded(snr: number): number {
  return Math.min(Math.max(snr, 1e-12), 1e12)
}
