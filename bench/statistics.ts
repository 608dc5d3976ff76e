// Medians and spreads of timings.

/** The value at a share of the sorted list, between neighbours where it falls between them. */
export function quantile(values: readonly number[], share: number): number {
  const sorted = [...values].sort((a, b) => a - b)
  const at = share * (sorted.length - 1)
  const below = sorted[Math.floor(at)] as number
  const above = sorted[Math.ceil(at)] as number
  return below + (above - below) * (at - Math.floor(at))
}

export const median = (values: readonly number[]): number => quantile(values, 0.5)

/** Ours against theirs, round by round. */
export interface Comparison {
  readonly ours: number
  readonly theirs: number
  /** Median of the rounds' theirs over ours: above 1, ours is better. */
  readonly ratio: number
  /** Quartiles of the ratios of the rounds. */
  readonly spread: readonly [number, number]
  readonly rounds: number
}

/** Compares two lists whose entries at one index were measured right after each other; of ours those that theirs has, too. */
export function compare(ours: readonly number[], theirs: readonly number[]): Comparison {
  const ratios = theirs.map((value, i) => value / (ours[i] as number))
  return {
    ours: median(ours.slice(0, theirs.length)),
    theirs: median(theirs),
    ratio: median(ratios),
    spread: [quantile(ratios, 0.25), quantile(ratios, 0.75)],
    rounds: ratios.length,
  }
}
