import { type BootstrapOptions, bootstrapInterval } from '../statistics/bootstrap.ts'
import {
  holm,
  type MeanInterval,
  meanInterval,
  minimumDetectableEffect,
  pairedDifference,
  pairsNeeded,
} from '../statistics/paired.ts'
import type { CellResult } from './cell.ts'
import { curveValues, isAstray, type Metric, metricTimesteps, metricValue, parseMetric } from './metric.ts'
import type { Study } from './study-file.ts'

/** One arm against the control, in one metric; only seeds that both have finished count. */
export interface MetricComparison {
  readonly metric: string
  /** Pairs. */
  readonly n: number
  /** Of all seeds of the arm, paired or not, where it is finite. */
  readonly mean: number
  /** Cells of the arm whose value is not finite, or whose training stopped because its loss was not. */
  readonly astray: number
  /** Pairs in which the arm or the control went astray. With one there is no difference: those left would flatter. */
  readonly astrayPairs: number
  readonly values: readonly { readonly seed: number; readonly value: number }[]
  readonly difference: MeanInterval
  /** As shares of the control's values. */
  readonly relative: MeanInterval
  /** Percentile interval of the relative difference over resampled pairs. */
  readonly bootstrap: { readonly low: number; readonly high: number }
  /**
   * p of the relative difference, as if it were the only comparison, and after Holm's correction over the arms, those without a
   * difference for a pair astray among them.
   */
  readonly p: number
  readonly holmP: number
  /** Relative difference that these pairs would find with 80 % power. */
  readonly detectable: number
  /** Pairs that would find a relative difference of 1 %. */
  readonly pairsForOnePercent: number
  /** Of a held-out error, where cells share their timesteps: the relative difference at each, so that no noise level hides in the mean. */
  readonly timesteps?: readonly TimestepComparison[]
}

/** An arm against the control at one timestep. */
export interface TimestepComparison {
  readonly t: number
  readonly logSnr: number
  readonly relative: MeanInterval
}

/** Images that an arm needs to come to the control's loss at its end (math.md, eq. 107). */
export interface ImagesToReach {
  readonly metric: string
  readonly seeds: readonly {
    readonly seed: number
    /** null where it is not reached. */
    readonly images: number | null
    /** The first measured point is already below the target: fewer images may do. */
    readonly isUpperBound: boolean
    /** The control's; at most so many where it, too, was below its own end at its first point. */
    readonly controlImages: number
    readonly isControlUpperBound: boolean
  }[]
  readonly reached: number
  /** Geometric mean over seeds of the control's images by the arm's, with a t interval of the logarithms; NaN unless all reach it. */
  readonly ratio: { readonly mean: number; readonly low: number; readonly high: number }
}

/** One arm of a study. */
export interface ArmComparison {
  readonly arm: string
  readonly isControl: boolean
  /** Finished cells. */
  readonly n: number
  readonly trainSeconds: number
  readonly imagesPerSecond: number
  readonly metrics: readonly MetricComparison[]
  readonly reach?: ImagesToReach
}

/** Names a cell of a study. */
export interface CellName {
  readonly arm: string
  readonly seed: number
}

/**
 * Compares every arm with the control, seed by seed.
 *
 * @param diverged - cells without a result because their loss was not finite
 */
export function compareArms(
  study: Pick<Study, 'arms' | 'compare'>,
  results: readonly CellResult[],
  bootstrap: BootstrapOptions = {},
  diverged: readonly CellName[] = [],
): ArmComparison[] {
  const { control } = study.compare
  const metrics = study.compare.metrics.map((name) => parseMetric('runStudy', name))
  const cellsOf = (arm: string): CellResult[] => results.filter((result) => result.arm === arm)
  const controls = cellsOf(control)
  const seedsLost = (arm: string) => diverged.flatMap((cell) => (cell.arm === arm ? [cell.seed] : []))
  const names = study.arms.map(({ name }) => name)
  const present = names.filter((name) => cellsOf(name).length + seedsLost(name).length > 0)
  const compared = present.map((arm) => {
    const lost = { arm: seedsLost(arm), control: seedsLost(control) }
    return metrics.flatMap((metric) => compareMetric(cellsOf(arm), controls, metric, lost, bootstrap) ?? [])
  })
  // Over the arms of one metric, the control not among them.
  for (const { name } of metrics) {
    const rows = present.flatMap((arm, i) => {
      const row = compared[i]?.findIndex(({ metric }) => metric === name) ?? -1
      return arm === control || row === -1 ? [] : [{ i, row }]
    })
    // A comparison that came to nothing was made all the same: it counts as one that found nothing.
    const corrected = holm(rows.map(({ i, row }) => (isLost(compared[i]![row]!) ? 1 : compared[i]![row]!.p)))
    for (const [k, { i, row }] of rows.entries()) {
      const found = compared[i]![row]!
      compared[i]![row] = { ...found, holmP: isLost(found) ? Number.NaN : (corrected[k] as number) }
    }
  }
  const curve = metrics.find((metric) => metric.curve)
  return present.map((arm, i) => {
    const cells = cellsOf(arm)
    const mean = (of: (cell: CellResult) => number) =>
      cells.reduce((sum, cell) => sum + of(cell), 0) / cells.length
    return {
      arm,
      isControl: arm === control,
      n: cells.length,
      trainSeconds: mean(({ trainSeconds }) => trainSeconds),
      imagesPerSecond: mean(({ imagesPerSecond }) => imagesPerSecond),
      metrics: compared[i] as MetricComparison[],
      ...(curve &&
        controls.length > 0 &&
        cells.some((cell) => curveValues(cell, curve).length > 1) && {
          reach: imagesToReach(cells, controls, curve, seedsLost(arm)),
        }),
    }
  })
}

function isLost({ astrayPairs }: MetricComparison): boolean {
  return astrayPairs > 0
}

function compareMetric(
  cells: readonly CellResult[],
  controls: readonly CellResult[],
  metric: Metric,
  lost: { readonly arm: readonly number[]; readonly control: readonly number[] },
  options: BootstrapOptions,
): MetricComparison | undefined {
  const values = cells.flatMap((cell) => {
    const value = metricValue(cell, metric)
    return value === undefined ? [] : [{ seed: cell.seed, value }]
  })
  const strays = (of: readonly CellResult[], others: readonly number[]): number[] => [
    ...of.filter((cell) => isAstray(cell, metric)).map(({ seed }) => seed),
    ...others,
  ]
  const [armStrays, controlStrays] = [strays(cells, lost.arm), strays(controls, lost.control)]
  const astray = armStrays.length
  if (values.length + astray === 0) return undefined
  const pairs = cells.flatMap((cell): CellPair[] => {
    const twin = controls.find(({ seed }) => seed === cell.seed)
    const [arm, control] = [metricValue(cell, metric), twin && metricValue(twin, metric)]
    return twin && arm !== undefined && control !== undefined && isComparable(cell, twin, metric)
      ? [{ cell, twin, arm, control }]
      : []
  })
  const tried = [...cells.map(({ seed }) => seed), ...lost.arm]
  const triedControl = new Set([...controls.map(({ seed }) => seed), ...lost.control])
  const strayed = new Set([...armStrays, ...controlStrays])
  const astrayPairs = tried.filter((seed) => triedControl.has(seed) && strayed.has(seed)).length
  const compared = astrayPairs === 0 ? pairs : []
  const arm = compared.map((pair) => pair.arm)
  const control = compared.map((pair) => pair.control)
  const relative = relativeDifference(arm, control)
  const spread = relative.standardDeviation
  const shares = compared.map((pair) => pair.arm / pair.control - 1)
  const mean = (sample: readonly number[]) => sample.reduce((a, b) => a + b, 0) / sample.length
  const { low, high } =
    relative.n < 2 ? { low: Number.NaN, high: Number.NaN } : bootstrapInterval(shares, mean, options)
  return {
    metric: metric.name,
    n: pairs.length,
    mean: values.length > 0 ? mean(values.map(({ value }) => value)) : Number.NaN,
    values,
    astray,
    astrayPairs,
    difference: compared.length > 0 ? pairedDifference(arm, control) : NONE,
    relative,
    bootstrap: { low, high },
    p: relative.p,
    holmP: Number.NaN,
    detectable: minimumDetectableEffect(spread, compared.length),
    pairsForOnePercent: spread > 0 && spread < 10 ? pairsNeeded(spread, 0.01) : Number.NaN,
    ...compareTimesteps(compared, metric),
  }
}

/** Two cells of one seed, and a metric's value in each. */
interface CellPair {
  readonly cell: CellResult
  readonly twin: CellResult
  readonly arm: number
  readonly control: number
}

/** Distances by the features of two classifiers, of two machines for instance, are not comparable. */
function isComparable(cell: CellResult, twin: CellResult, { sample }: Metric): boolean {
  const isOfFeatures = sample === 'frechet' || sample === 'kid'
  return !isOfFeatures || cell.samples?.features === twin.samples?.features
}

const NONE: MeanInterval = { ...meanInterval([0]), n: 0, mean: Number.NaN }

/** Differences as shares of the control's values; none where one is not above 0, as an unbiased kid may be, or not finite. */
function relativeDifference(arm: readonly number[], control: readonly number[]): MeanInterval {
  const isShare =
    control.length > 0 && control.every((value) => value > 0) && [...arm, ...control].every(Number.isFinite)
  return isShare ? pairedDifference(arm, control, { relative: true }) : NONE
}

function compareTimesteps(pairs: readonly CellPair[], metric: Metric): Pick<MetricComparison, 'timesteps'> {
  const measured = pairs.flatMap(({ cell, twin }) => {
    const [arm, control] = [metricTimesteps(cell, metric), metricTimesteps(twin, metric)]
    return arm && control ? [{ arm, control }] : []
  })
  const first = pairs[0]?.cell.heldOut
  const isShared = pairs.every(({ cell, twin }) =>
    [cell, twin].every(({ heldOut }) => `${heldOut.t}` === `${first?.t}`),
  )
  if (!first || measured.length === 0 || !isShared) return {}
  return {
    timesteps: first.t.map((t, k) => {
      const values = (of: 'arm' | 'control') => measured.map((pair) => pair[of][k] as number)
      const relative = relativeDifference(values('arm'), values('control'))
      return { t, logSnr: first.logSnr[k] as number, relative }
    }),
  }
}

function imagesToReach(
  cells: readonly CellResult[],
  controls: readonly CellResult[],
  metric: Metric,
  lost: readonly number[],
): ImagesToReach {
  const curves = [
    ...cells.map((cell) => ({ seed: cell.seed, points: curveValues(cell, metric) })),
    ...lost.map((seed) => ({ seed, points: [] })),
  ]
  const seeds = curves.flatMap(({ seed, points }) => {
    const twin = controls.find((control) => control.seed === seed)
    const own = twin ? curveValues(twin, metric) : []
    const end = own.find(({ images }) => images === twin?.imagesSeen)
    if (!end) return []
    // The control, too, may have been there before its end: an arm that is its equal needs as many images.
    const first = firstBelow(own, end.value)
    return [
      {
        seed,
        controlImages: first.images ?? end.images,
        isControlUpperBound: first.isUpperBound,
        ...firstBelow(points, end.value),
      },
    ]
  })
  const logs = seeds.flatMap(({ images, controlImages }) =>
    images === null ? [] : [Math.log(controlImages / images)],
  )
  const none = { mean: Number.NaN, low: Number.NaN, high: Number.NaN }
  const { mean, low, high } = logs.length > 0 && logs.length === seeds.length ? meanInterval(logs) : none
  return {
    metric: metric.name,
    seeds,
    reached: logs.length,
    ratio: { mean: Math.exp(mean), low: Math.exp(low), high: Math.exp(high) },
  }
}

/** Where a learning curve first comes down to a value: log loss is linear in log images between measured points. */
export function firstBelow(
  points: readonly { readonly images: number; readonly value: number }[],
  target: number,
): { readonly images: number | null; readonly isUpperBound: boolean } {
  const at = points.findIndex(({ value }) => value <= target)
  const after = points[at]
  if (!after) return { images: null, isUpperBound: false }
  const before = points[at - 1]
  if (!before) return { images: after.images, isUpperBound: after.value < target }
  const share = Math.log(before.value / target) / Math.log(before.value / after.value)
  return { images: before.images * (after.images / before.images) ** share, isUpperBound: false }
}
