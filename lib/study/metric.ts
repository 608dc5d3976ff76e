import { argumentError } from '../check.ts'
import { blueWeights, mixtureSquare } from '../mixing/blue.ts'
import { HEADS, type Head } from '../prediction/heads.ts'
import { signalWeights } from '../prediction/signal-weights.ts'
import type { CellResult, HeldOutResult } from './cell.ts'
import { fromV } from './held-out-error.ts'

/** Sample metrics by name; `@` and a number of steps follow. */
export const SAMPLE_METRICS = ['slicedWasserstein', 'frechet', 'kid'] as const
/** Ways to combine heads that are read from measured products of errors, beside those of `parseCombine`. */
const COMBINATIONS = ['signal', 'mean', 'table', 'blue', ...HEADS] as const
type Combination = (typeof COMBINATIONS)[number]

/** What a metric's name says. */
export interface Metric {
  readonly name: string
  readonly kind: 'heldOut' | 'samples'
  /** A name of `HeldOutMeans` where the arm's own combination is read. */
  readonly curve?: 'F' | 'v' | 'F.clipped' | 'v.clipped' | 'F.geometric'
  readonly space?: 'F' | 'v'
  readonly combination?: Combination
  /** Weights that are read whatever the arm says. */
  readonly weights?: 'ema' | 'raw'
  readonly sample?: (typeof SAMPLE_METRICS)[number]
  readonly steps?: number
}

/**
 * Reads a metric's name: `F`, `v`, `F.clipped`, `v.clipped` or `F.geometric`, then `.ema` or `.raw`; `F@blue` and so on for
 * other combinations of the heads (signal, mean, table, blue, or a head); `frechet@10`, `kid@10` or `slicedWasserstein@10` for
 * samples of 10 steps. Smaller is better in all of them.
 *
 * @throws RangeError for a name that is none of these
 */
export function parseMetric(call: string, name: string): Metric {
  const sample = /^(\w+)@(\d+)$/.exec(name)
  if (sample && SAMPLE_METRICS.includes(sample[1] as never)) {
    return {
      name,
      kind: 'samples',
      sample: sample[1] as (typeof SAMPLE_METRICS)[number],
      steps: Number(sample[2]),
    }
  }
  const match = /^([Fv])(?:\.(clipped|geometric))?(?:\.(ema|raw))?(?:@(\w+))?$/.exec(name)
  const [, space, kind, weights, combination] = match ?? []
  const isKnown = combination === undefined || COMBINATIONS.includes(combination as Combination)
  if (!space || !isKnown || (combination && kind) || (space === 'v' && kind === 'geometric')) {
    const what = `F, v, F.clipped, v.clipped or F.geometric, with .ema or .raw if need be, F@${COMBINATIONS.join('|')}, or ${SAMPLE_METRICS.join('|')}@STEPS`
    throw argumentError(call, 'compare.metrics', what, name)
  }
  return {
    name,
    kind: 'heldOut',
    space: space as 'F' | 'v',
    ...(combination
      ? { combination: combination as Combination }
      : { curve: (kind ? `${space}.${kind}` : space) as NonNullable<Metric['curve']> }),
    ...(weights && { weights: weights as 'ema' | 'raw' }),
  }
}

/** The value of a metric in a finished cell; undefined where it was not measured. */
export function metricValue(result: CellResult, metric: Metric): number | undefined {
  if (metric.kind === 'samples') {
    const row = result.samples?.rows.find(({ steps }) => steps === metric.steps)
    return metric.sample && row?.[metric.sample]
  }
  const { heldOut, settings } = result
  const wanted = metric.weights ?? settings.weights
  const measured = wanted === 'ema' ? (heldOut.ema ?? heldOut.raw) : heldOut.raw
  if (metric.curve) return measured[metric.curve]
  const { space = 'F', combination } = metric
  return combination && combinedMean(result, measured, space, combination)
}

/** The weights of a cell that a learning curve shows. */
export function curveValues(
  result: CellResult,
  metric: Metric,
): { readonly images: number; readonly value: number }[] {
  const { curve } = metric
  if (!curve) return []
  const wanted = metric.weights ?? result.settings.weights
  return result.curve.map((point) => ({
    images: point.imagesSeen,
    value: (wanted === 'ema' ? (point.ema ?? point.raw) : point.raw)[curve],
  }))
}

/**
 * Mean over timesteps of another combination than the arm's own, from the products of errors (math.md, eq. 100). What a combination
 * chooses on one half of the images is measured on the other, and the two are averaged.
 */
function combinedMean(
  { heldOut, settings }: CellResult,
  { products }: HeldOutResult,
  space: 'F' | 'v',
  combination: Combination,
): number | undefined {
  const { heads, logSnr } = heldOut
  if (HEADS.includes(combination as never) && !heads.includes(combination as Head)) return undefined
  const [even, odd] = products as [number[][], number[][]]
  let sum = 0
  for (const [k, log] of logSnr.entries()) {
    const snr = Math.exp(log)
    const factor = fromV(space, snr, settings.sigmaData)
    for (const [chosenOn, measuredOn] of [
      [even[k]!, odd[k]!],
      [odd[k]!, even[k]!],
    ] as const) {
      const weights = weightsOf(combination, heads, chosenOn, snr / (1 + snr))
      sum += (factor / 2) * mixtureSquare(weights, measuredOn)
    }
  }
  return sum / logSnr.length
}

function weightsOf(
  combination: Combination,
  heads: readonly Head[],
  matrix: readonly number[],
  alphaBar: number,
): number[] {
  const size = heads.length
  if (combination === 'mean') return heads.map(() => 1 / size)
  if (combination === 'signal') {
    const weights = signalWeights(alphaBar, heads)
    return heads.map((head) => weights[head] ?? 0)
  }
  if (combination === 'blue') return blueWeights(matrix)
  const errors = heads.map((_, h) => matrix[h * size + h] as number)
  const best = combination === 'table' ? errors.indexOf(Math.min(...errors)) : heads.indexOf(combination)
  return heads.map((_, h) => (h === best ? 1 : 0))
}
