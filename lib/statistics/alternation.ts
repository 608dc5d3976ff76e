import { meanInterval } from './paired.ts'

/** How a series of step losses goes up and down. */
export interface Alternation {
  readonly count: number
  readonly mean: number
  /** Standard deviation over mean. */
  readonly coefficientOfVariation: number
  /** Correlation of each value with the next: -1 alternates, 0 is noise, towards 1 drifts. */
  readonly autocorrelation: number
  /** Geometric mean of the larger over the smaller of two consecutive values, 1 or more. */
  readonly consecutiveRatio: number
  /**
   * Share of the inner values that are larger or smaller than both their neighbours: 2/3 for noise, whatever its distribution, and
   * 1 where values take turns; a slow drift hardly changes it (Bienaymé 1874). Not in what was measured before 2026-11-30.
   */
  readonly turningPoints?: number
}

/**
 * Measures whether losses alternate between large and small from step to step (math.md, eq. 109); values that are not finite or
 * not positive, such as those of skipped steps, are left out.
 */
export function alternation(losses: readonly number[]): Alternation {
  const values = losses.filter((loss) => Number.isFinite(loss) && loss > 0)
  const count = values.length
  const mean = values.reduce((sum, value) => sum + value, 0) / count
  let squares = 0
  let products = 0
  let logs = 0
  let turns = 0
  for (let i = 0; i < count; i++) {
    squares += (values[i]! - mean) ** 2
    if (i === 0) continue
    products += (values[i - 1]! - mean) * (values[i]! - mean)
    logs += Math.abs(Math.log(values[i]! / values[i - 1]!))
    if (i > 1 && (values[i - 1]! - values[i - 2]!) * (values[i]! - values[i - 1]!) < 0) turns++
  }
  return {
    count,
    mean,
    coefficientOfVariation: Math.sqrt(squares / (count - 1)) / mean,
    autocorrelation: products / squares,
    consecutiveRatio: Math.exp(logs / (count - 1)),
    turningPoints: turns / (count - 2),
  }
}

const MEASURES = [
  ['coefficientOfVariation', 'deviation / mean of step losses'],
  ['autocorrelation', 'lag-1 autocorrelation'],
  ['consecutiveRatio', 'ratio of consecutive'],
  ['turningPoints', 'turning points (noise: 0.667)'],
] as const

/** What `alternationCells` gives, as titles of columns. */
export const ALTERNATION_TITLES: readonly string[] = MEASURES.map(([, title]) => title)

/**
 * Each measure as its mean over runs with, of two or more, its 95 % interval; empty where a run has none, because it had too few
 * steps or an older version measured it.
 */
export function alternationCells(runs: readonly Readonly<Record<string, unknown>>[]): string[] {
  return MEASURES.map(([key]) => {
    const values = runs.map((run) => run[key]).filter((value): value is number => Number.isFinite(value))
    if (values.length < runs.length) return ''
    const { mean, low, high } = meanInterval(values)
    return `${mean.toFixed(3)}${Number.isFinite(low) ? ` [${low.toFixed(3)}, ${high.toFixed(3)}]` : ''}`
  })
}
