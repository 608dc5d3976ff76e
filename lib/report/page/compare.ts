import { smoothed } from '../../statistics/smoothed.ts'
import type { FigureSeries, LineFigure } from '../figure/figure.ts'
import { meanInterval } from './interval.ts'
import {
  binCentres,
  binMeans,
  halfLifeOf,
  headError,
  headsIn,
  lateRows,
  timestepCount,
} from './run-figures.ts'
import type { Fields, Row, RunFolder, Table } from './run-folder.ts'

/** Options that say nothing about what is learned. */
const INCIDENTAL = new Set([
  'run',
  'threads',
  'saveEvery',
  'previewEvery',
  'previewCount',
  'keep',
  'logEvery',
  'splitSeed',
])

/** Runs that differ in nothing but their seed. */
export interface RunGroup {
  readonly name: string
  readonly runs: readonly RunFolder[]
}

/** Groups runs by what their options say besides the seed; names are what tells the groups apart. */
export function groupRuns(runs: readonly RunFolder[]): RunGroup[] {
  const groups = new Map<string, RunFolder[]>()
  for (const run of runs) {
    const key = JSON.stringify(
      Object.entries(run.config)
        .filter(([name]) => name !== 'seed' && !INCIDENTAL.has(name))
        .sort(([a], [b]) => (a < b ? -1 : 1)),
    )
    groups.set(key, [...(groups.get(key) ?? []), run])
  }
  const lists = [...groups.values()]
  const keys = differences(lists.map(([first]) => first!.config)).filter(
    (key) => key !== 'seed' && !INCIDENTAL.has(key),
  )
  return lists.map((list) => {
    const { config, name } = list[0]!
    const told = keys
      .filter((key) => config[key] !== undefined)
      .map((key) => (typeof config[key] === 'string' ? config[key] : `${key} ${valueText(config[key])}`))
      .slice(0, 3)
    return { name: list.length === 1 || told.length === 0 ? name : told.join(', '), runs: list }
  })
}

/** Options in which configurations differ, in their order. */
export function differences(configs: readonly Fields[]): string[] {
  const keys = [...new Set(configs.flatMap((config) => Object.keys(config)))]
  return keys.filter((key) => new Set(configs.map((config) => JSON.stringify(config[key]))).size > 1)
}

/** An option's value as people write it. */
export function valueText(value: unknown): string {
  if (value === undefined) return '–'
  if (Array.isArray(value)) return value.map(valueText).join(', ')
  if (typeof value === 'boolean') return value ? 'yes' : 'no'
  if (typeof value === 'number') return String(Number(value.toPrecision(8)))
  return typeof value === 'object' ? JSON.stringify(value) : String(value)
}

/** Smoothed curves of all groups on shared axes: a mean and its 95 % interval where a group has several runs. */
export function comparisonFigures(groups: readonly RunGroup[]): LineFigure[] {
  const runs = groups.flatMap((group) => group.runs)
  const batchSizes = new Set(runs.map(({ config }) => config.batchSize))
  const axis =
    batchSizes.size > 1
      ? { label: 'images seen', of: ({ imagesSeen, step }: Row) => imagesSeen ?? step }
      : { label: 'step', of: ({ step }: Row) => step }
  const seeds = groups.some((group) => group.runs.length > 1)
  const note = `Smoothed.${seeds ? ' Bands: 95 % intervals of the mean over seeds (Student’s t), point by point.' : ''}`
  const isNegative = runs.some(({ rows }) => rows.some(({ loss }) => loss < 0))
  const figure = (title: string, label: string, of: (row: Row) => number | undefined): LineFigure => ({
    title,
    x: { label: axis.label },
    y: { label, scale: isNegative ? 'linear' : 'log' },
    series: groups.map((group) => groupCurve(group, axis.of, of)),
  })
  const heads = headsIn(
    runs.flatMap(({ rows }) => rows),
    'perHead',
  )
  const hasGradients = runs.every(({ rows }) => rows.some(({ gradNorm = 0 }) => gradNorm > 0))
  const byTimestep = timestepComparison(groups)
  return [
    {
      ...figure('Training loss', 'mean squared error, weighted as each run trains', ({ loss }) => loss),
      note,
    },
    ...heads.map((head) =>
      figure(`Error of ${head}`, `mean squared error of ${head}`, (row) => headError(row, head)),
    ),
    ...(hasGradients ? [figure('Gradient norm', 'L2 norm before clipping', ({ gradNorm }) => gradNorm)] : []),
    ...(byTimestep ? [byTimestep] : []),
  ]
}

/** Losses over the timesteps late in training; undefined where runs did not log them, or have other timesteps. */
function timestepComparison(groups: readonly RunGroup[]): LineFigure | undefined {
  const runs = groups.flatMap((group) => group.runs)
  const late = new Map(runs.map((run) => [run, lateRows(run.rows)]))
  const counts = new Set(runs.map(timestepCount))
  if (counts.size > 1 || [...late.values()].some((rows) => rows.length === 0)) return undefined
  const x = binCentres(late.get(runs[0]!)![0]!, timestepCount(runs[0]!))
  const series = groups.map(({ name, runs: members }) => {
    const curves = members.map((run) => binMeans(late.get(run)!, ({ loss }) => loss))
    const points = x.map((_, bin) => {
      const values = curves.map((curve) => curve[bin]).filter((value) => typeof value === 'number')
      return values.length === members.length ? meanInterval(values) : undefined
    })
    return { ...seriesOf(points, members.length), name: groupName(name, members.length), x }
  })
  const y = { label: 'loss before its weight, last two fifths of the steps', scale: 'log' } as const
  return {
    title: 'Loss over the timesteps',
    x: { label: 'timestep', min: 0, max: timestepCount(runs[0]!) },
    y,
    series,
  }
}

type Interval = ReturnType<typeof meanInterval>

/** Means, and intervals where there are several runs. */
export function seriesOf(
  points: readonly (Interval | undefined)[],
  runCount: number,
): Pick<FigureSeries, 'y' | 'low' | 'high'> {
  const y = points.map((point) => point?.mean ?? null)
  if (runCount < 2) return { y }
  return {
    y,
    low: points.map((point) => point?.low ?? null),
    high: points.map((point) => point?.high ?? null),
  }
}

function groupName(name: string, runCount: number): string {
  return runCount > 1 ? `${name} (${runCount} seeds)` : name
}

/** Loss at the end of training, group by group. */
export function comparisonTable(groups: readonly RunGroup[]): Table {
  return {
    title: 'Mean loss over the last tenth of the logged steps',
    columns: ['runs', 'seeds', 'loss', '95 % interval'],
    rows: groups.map(({ name, runs }) => {
      const losses = runs.map(finalLoss).filter((loss) => loss !== undefined)
      if (losses.length === 0) return [name, runs.length, null, null]
      const { mean, low, high } = meanInterval(losses)
      const interval = low === undefined || high === undefined ? null : `${digits(low)} to ${digits(high)}`
      return [name, losses.length, digits(mean), interval]
    }),
  }
}

/** Mean loss of the last tenth of a run's rows. */
export function finalLoss({ rows }: Pick<RunFolder, 'rows'>): number | undefined {
  const finite = rows.map(({ loss }) => loss).filter((loss) => Number.isFinite(loss))
  const last = finite.slice(-Math.max(1, Math.round(finite.length / 10)))
  return last.length === 0 ? undefined : last.reduce((a, b) => a + b, 0) / last.length
}

function digits(value: number): string {
  return value.toPrecision(4)
}

function groupCurve(
  { name, runs }: RunGroup,
  at: (row: Row) => number,
  of: (row: Row) => number | undefined,
): FigureSeries {
  const curves = runs.map(({ rows }) => {
    const values = smoothed(
      rows.map((row) => of(row) ?? Number.NaN),
      halfLifeOf(rows),
    )
    return new Map(rows.map((row, i) => [at(row), values[i]!]))
  })
  const x = [...(curves[0]?.keys() ?? [])].filter((place) =>
    curves.every((curve) => Number.isFinite(curve.get(place))),
  )
  const points = x.map((place) => meanInterval(curves.map((curve) => curve.get(place)!)))
  return { ...seriesOf(points, runs.length), name: groupName(name, runs.length), x }
}
