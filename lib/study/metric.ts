import { argumentError } from '../check.ts'
import { blueWeights, mixtureSquare } from '../mixing/blue.ts'
import { HEADS, type Head } from '../prediction/heads.ts'
import { signalWeights } from '../prediction/signal-weights.ts'
import type { CellResult, HeldOutResult } from './cell.ts'
import { fromV } from './held-out-error.ts'

/** Sample metrics by name; `@` and a number of steps follow. */
export const SAMPLE_METRICS = ['slicedWasserstein', 'frechet', 'kid', 'mse'] as const
/** Ways to combine heads that are read from measured products of errors, beside those of `parseCombine`. */
const COMBINATIONS = ['signal', 'mean', 'table', 'blue', ...HEADS] as const
type Combination = (typeof COMBINATIONS)[number]
/** Those of them that statistics decide. */
const KEPT = ['table', 'blue'] as const

/** What a metric's name says. */
export interface Metric {
  readonly name: string
  readonly kind: 'heldOut' | 'samples' | 'bits'
  /** A name of `HeldOutMeans` where the arm's own combination is read. */
  readonly curve?: 'F' | 'v' | 'F.clipped' | 'v.clipped' | 'F.geometric'
  readonly space?: 'F' | 'v'
  /** Where it is not the arm's own; one of `COMBINATIONS` for held-out errors, else one that the evaluation names. */
  readonly combination?: string
  /** The combination is that of the statistics in the checkpoint. */
  readonly isKept?: true
  /** Weights that are read whatever the arm says. */
  readonly weights?: 'ema' | 'raw'
  readonly sample?: (typeof SAMPLE_METRICS)[number]
  readonly steps?: number
}

/**
 * Reads a metric's name: `F`, `v`, `F.clipped`, `v.clipped` or `F.geometric`, then `.ema` or `.raw`; `F@blue` and so on for
 * other combinations of the heads (signal, mean, table, blue, or a head), `F@table.kept` and `F@blue.kept` by the statistics of the
 * checkpoint; `frechet@10`, `kid@10`, `slicedWasserstein@10`, and `mse@10`
 * of super-resolution, for samples of 10 steps; `bitsPerDim`; these, too, of another combination: `frechet@10@blue`. Smaller is better in all of them.
 *
 * @throws RangeError for a name that is none of these
 */
export function parseMetric(call: string, name: string): Metric {
  const [, measured, steps, words] = /^(\w+?)(?:@(\d+))?(?:@(.+))?$/.exec(name) ?? []
  const isSample = SAMPLE_METRICS.includes(measured as never)
  if (isSample ? steps !== undefined : measured === 'bitsPerDim' && steps === undefined) {
    return {
      ...{ name, kind: isSample ? 'samples' : 'bits' },
      ...(isSample && { sample: measured as (typeof SAMPLE_METRICS)[number], steps: Number(steps) }),
      ...(words !== undefined && { combination: words }),
    }
  }
  const match = /^([Fv])(?:\.(clipped|geometric))?(?:\.(ema|raw))?(?:@(\w+)(\.kept)?)?$/.exec(name)
  const [, space, kind, weights, combination, kept] = match ?? []
  const known: readonly string[] = kept ? KEPT : COMBINATIONS
  const isKnown = combination === undefined || known.includes(combination)
  if (!space || !isKnown || (combination && kind) || (space === 'v' && kind === 'geometric')) {
    const what = `F, v, F.clipped, v.clipped or F.geometric, with .ema or .raw if need be, F@${COMBINATIONS.join('|')}, F@${KEPT.join('|')}.kept, ${SAMPLE_METRICS.join('|')}@STEPS, or bitsPerDim`
    throw argumentError(call, 'compare.metrics', what, name)
  }
  return {
    name,
    kind: 'heldOut',
    space: space as 'F' | 'v',
    ...(combination
      ? { combination: combination as Combination, ...(kept && { isKept: true as const }) }
      : { curve: (kind ? `${space}.${kind}` : space) as NonNullable<Metric['curve']> }),
    ...(weights && { weights: weights as 'ema' | 'raw' }),
  }
}

/** The value of a metric in a finished cell; undefined where it was not measured, or is not finite. */
export function metricValue(result: CellResult, metric: Metric): number | undefined {
  const value = measuredValue(result, metric)
  return Number.isFinite(value) ? value : undefined
}

/** Whether a metric was measured in a finished cell and is not finite: the network went astray. */
export function isAstray(result: CellResult, metric: Metric): boolean {
  const value = measuredValue(result, metric)
  return value !== undefined && !Number.isFinite(value)
}

function measuredValue(result: CellResult, metric: Metric): number | undefined {
  const { curve, combination } = metric
  if (metric.kind !== 'heldOut') {
    const { heads, combine: own } = result.heldOut
    const isOwn = heads.length === 1 || combination === own
    const isMeant = (row: { combine?: string; steps?: number }): boolean =>
      row.combine === (isOwn ? undefined : combination) && row.steps === metric.steps
    if (metric.kind === 'bits') return result.bitsPerDim?.rows.find(isMeant)?.mean
    return metric.sample && result.samples?.rows.find(isMeant)?.[metric.sample]
  }
  if (curve) return measuredFor(result, metric, result.heldOut)?.[curve]
  const { t, alsoAt = [] } = result.heldOut
  const values = metricTimesteps(result, metric)?.filter((_, k) => !alsoAt.includes(t[k] as number))
  return values && values.reduce((sum, value) => sum + value, 0) / values.length
}

/**
 * [K] a held-out error at each timestep, whose mean (geometric for `F.geometric`) `metricValue` is, without those of `alsoAt`; undefined for
 * other metrics.
 */
export function metricTimesteps(result: CellResult, metric: Metric): readonly number[] | undefined {
  const { kind, curve, space = 'F', combination } = metric
  if (kind !== 'heldOut') return undefined
  const measured = measuredFor(result, metric, result.heldOut)
  if (!measured) return undefined
  if (metric.isKept && result.heldOut.heads.length > 1)
    return measured.kept?.[combination as (typeof KEPT)[number]][space]
  if (combination !== undefined) return combinedErrors(result, measured, space, combination as Combination)
  if (curve === 'F.clipped' || curve === 'v') return measured.perTimestep[curve]
  if (curve === 'v.clipped') {
    const { heldOut, settings } = result
    const factor = (k: number) => fromV('F', Math.exp(heldOut.logSnr[k]!), settings.sigmaData)
    return measured.perTimestep['F.clipped'].map((value, k) => value / factor(k))
  }
  return measured.perTimestep.F
}

/**
 * What was measured of the weights that a metric, or else the arm, means; undefined where they were not. Those themselves are
 * meant where a run keeps no average.
 */
export function measuredFor<T>(
  { settings, heldOut }: Pick<CellResult, 'settings' | 'heldOut'>,
  { weights = settings.weights }: Pick<Metric, 'weights'>,
  { ema, raw }: { readonly ema?: T; readonly raw?: T },
): T | undefined {
  if (weights === 'raw') return raw
  const isAsked = settings.weights === 'ema' || settings.bothWeights !== false
  const keepsNone = isAsked && heldOut.ema === undefined
  return ema ?? (keepsNone ? raw : undefined)
}

/** The weights of a cell that a learning curve shows. */
export function curveValues(
  result: CellResult,
  metric: Metric,
): { readonly images: number; readonly value: number }[] {
  const { curve } = metric
  if (!curve) return []
  return result.curve.flatMap((point) => {
    const value = measuredFor(result, metric, point)?.[curve]
    return Number.isFinite(value) ? [{ images: point.imagesSeen, value: value as number }] : []
  })
}

/**
 * Errors of another combination than the arm's own, from the products of errors (math.md, eq. 100). What a combination
 * chooses on one half of the images is measured on the other, and the two are averaged.
 */
function combinedErrors(
  { heldOut, settings }: CellResult,
  { products }: HeldOutResult,
  space: 'F' | 'v',
  combination: Combination,
): number[] | undefined {
  const { heads, logSnr } = heldOut
  if (HEADS.includes(combination as never) && !heads.includes(combination as Head)) return undefined
  const [even, odd] = products as [number[][], number[][]]
  return logSnr.map((log, k) => {
    let sum = 0
    const snr = Math.exp(log)
    const factor = fromV(space, snr, settings.sigmaData)
    for (const [chosenOn, measuredOn] of [
      [even[k]!, odd[k]!],
      [odd[k]!, even[k]!],
    ] as const) {
      const weights = weightsOf(combination, heads, chosenOn, snr / (1 + snr))
      sum += (factor / 2) * mixtureSquare(weights, measuredOn)
    }
    return sum
  })
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
