import type { Head } from '../prediction/heads.ts'
import type { HeadStatistics } from './head-statistics.ts'

/** A number for each head, or for each pair of them such as `v-eps`. */
export type ByName = Readonly<Record<string, number>>

/** The heads at one noise level; errors are mean squares in v space. */
export interface HeadRowBin {
  /** Timesteps [begin, end). */
  readonly t: readonly [begin: number, end: number]
  /** Mean log snr of these timesteps. */
  readonly logSnr: number
  /** Images seen since the run began. */
  readonly count: number
  /** Share of the images on which each head has the smallest error. */
  readonly winRate: ByName
  readonly error: ByName
  /** Mean of the smallest error of each image, which needs the truth. */
  readonly minimum: number
  /** The best head, which a sampler can use, and its error. */
  readonly best: Head | null
  readonly table: number | null
  /** Weights of the best linear mixture, and its error. */
  readonly blue: ByName | null
  readonly blueError: number | null
  /** Correlation of two heads' errors. */
  readonly correlation: ByName
  /** Root mean square of the difference of two heads' mean pixel in xStart: large for heads that have become rival hypotheses. */
  readonly brightnessGap: ByName
}

/** A line of heads.jsonl: the heads of a run at each noise level that it has trained, least noise first. */
export interface HeadRow {
  /** Steps done. */
  readonly step: number
  /** How often the best head of some noise level has changed since the run began. */
  readonly flips: number
  readonly bins: readonly HeadRowBin[]
}

/** What the statistics say after so many steps. */
export function headRow(statistics: HeadStatistics, step: number): HeadRow {
  const bins = Array.from({ length: statistics.binCount }, (_, bin) => bin)
  return {
    step,
    flips: bins.reduce((sum, bin) => sum + statistics.flips(bin), 0),
    bins: bins.filter((bin) => statistics.count(bin) > 0).map((bin) => rowBin(statistics, bin)),
  }
}

/** @internal A value for each pair of heads, named as `v-eps`. */
export function byPair<T>(heads: readonly Head[], of: (a: number, b: number) => T): Record<string, T> {
  return Object.fromEntries(
    heads.flatMap((first, a) =>
      heads.slice(a + 1).map((second, i) => [`${first}-${second}`, of(a, a + 1 + i)]),
    ),
  )
}

function rowBin(statistics: HeadStatistics, bin: number): HeadRowBin {
  const { heads } = statistics
  const { edges, centres } = statistics.bins
  const size = heads.length
  const named = (values: readonly number[]): ByName =>
    Object.fromEntries(heads.map((head, h) => [head, values[h] as number]))
  const pairs = (of: (a: number, b: number) => number): ByName => byPair(heads, of)
  const product = (values: readonly number[]) => (a: number, b: number) => values[a * size + b] as number
  const errors = statistics.errors(bin)
  const ofErrors = product(statistics.products(bin))
  const ofBrightness = product(statistics.brightness(bin))
  const best = statistics.bestHead(bin) ?? null
  const blue = statistics.blue(bin) ?? null
  return {
    t: [edges[bin] as number, edges[bin + 1] as number],
    logSnr: centres[bin] as number,
    count: statistics.count(bin),
    winRate: named(statistics.winRates(bin)),
    error: named(errors),
    minimum: statistics.minimum(bin),
    best,
    table: best === null ? null : (errors[heads.indexOf(best)] as number),
    blue: blue && named(blue),
    blueError: blue && statistics.mixtureError(bin, blue),
    correlation: pairs((a, b) => ofErrors(a, b) / Math.sqrt(ofErrors(a, a) * ofErrors(b, b))),
    brightnessGap: pairs((a, b) =>
      Math.sqrt(Math.max(0, ofBrightness(a, a) + ofBrightness(b, b) - 2 * ofBrightness(a, b))),
    ),
  }
}
