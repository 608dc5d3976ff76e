import { ALL_HEADS, type Head } from '../../prediction/heads.ts'
import { smoothed } from '../../statistics/smoothed.ts'
import type { FigureSeries, HeatmapFigure, LineFigure } from '../figure/figure.ts'
import type { Row, RunFolder } from './run-folder.ts'

/** Colours of the heads, everywhere the same. */
export const HEAD_COLOUR: Readonly<Record<Head, number>> = { xStart: 0, v: 2, eps: 1, xPrev: 3, F: 4 }

const STEP = { label: 'step' } as const

/** The heads for which rows have a field. */
export function headsIn(rows: readonly Row[], field: 'perHead' | 'chosen'): Head[] {
  return ALL_HEADS.filter((head) => rows.some((row) => Number.isFinite(row[field]?.[head])))
}

/** Distance, in rows, at which a neighbour counts half in smoothed curves. */
export function halfLifeOf(rows: readonly unknown[]): number {
  return Math.max(1, rows.length / 40)
}

function smooth(values: readonly number[]): (number | null)[] {
  return Array.from(smoothed(values, halfLifeOf(values)), (value) => (Number.isFinite(value) ? value : null))
}

/** A raw curve, faint, and its smoothed twin, which has the name. */
function rawAndSmooth(
  rows: readonly Row[],
  of: (row: Row) => number | undefined,
  name: string,
  color: number,
): FigureSeries[] {
  const x = rows.map(({ step }) => step)
  const y = rows.map((row) => of(row) ?? Number.NaN)
  return [
    { name: '', x, y, color, opacity: 0.3 },
    { name, x, y: smooth(y), color },
  ]
}

/** A head's error since the row before, of all steps where they are logged: one step may be of one slot. */
export function headError(row: Row, head: Head): number | undefined {
  const errors = row.byBin?.perHead?.[head]
  if (!errors) return row.perHead?.[head]
  const weighted = errors.map((error, bin) => (error ?? 0) * (row.byBin?.count[bin] ?? 0))
  return sum(weighted) / sum(row.byBin?.count ?? [])
}

/** How often a head was chosen since the row before, of all steps where they are logged. */
function chosenShare(row: Row, head: Head): number | undefined {
  const times = row.byBin?.chosen?.[head]
  return times ? sum(times) / sum(row.byBin?.count ?? []) : row.chosen?.[head]
}

/** Loss of the logged steps and its mean over neighbours. */
export function lossFigure(rows: readonly Row[]): LineFigure {
  return {
    title: 'Training loss',
    x: STEP,
    y: {
      label: 'mean squared error, weighted as trained',
      scale: rows.some(({ loss }) => loss < 0) ? 'linear' : 'log',
    },
    series: rawAndSmooth(rows, ({ loss }) => loss, 'loss', 0),
    note: 'Faint: logged steps. Bold: mean of neighbours.',
  }
}

/** Error of each head by step; undefined where no head has one of its own. */
export function headErrorsFigure(rows: readonly Row[]): LineFigure | undefined {
  const heads = headsIn(rows, 'perHead')
  if (heads.length === 0) return undefined
  return {
    title: 'Error of each head',
    x: STEP,
    y: { label: 'mean squared error in the head’s own unit', scale: 'log' },
    series: heads.flatMap((head) =>
      rawAndSmooth(rows, (row) => headError(row, head), head, HEAD_COLOUR[head]),
    ),
  }
}

/** Norm of the gradient by step; undefined where it was not logged. */
export function gradientNormFigure(rows: readonly Row[]): LineFigure | undefined {
  if (!rows.some(({ gradNorm = 0 }) => gradNorm > 0)) return undefined
  return {
    title: 'Gradient norm',
    x: STEP,
    y: { label: 'L2 norm before clipping', scale: 'log' },
    series: rawAndSmooth(rows, ({ gradNorm }) => gradNorm, 'gradient norm', 6),
  }
}

/** How often each head was chosen, by step; undefined where no head is chosen. */
export function choiceFigure(rows: readonly Row[]): LineFigure | undefined {
  const heads = headsIn(rows, 'chosen')
  if (heads.length === 0) return undefined
  return {
    title: 'Which head is chosen, over training',
    x: STEP,
    y: { label: 'share of examples', min: 0, max: 1 },
    series: heads.map((head) => ({
      ...{ name: head, color: HEAD_COLOUR[head], x: rows.map(({ step }) => step) },
      y: smooth(rows.map((row) => chosenShare(row, head) ?? Number.NaN)),
    })),
  }
}

/** Curves over the steps: loss, each head's error, norm of the gradient, learning rate where it changes. */
export function trainingFigures({ rows }: RunFolder): LineFigure[] {
  const heads = headsIn(rows, 'perHead').length > 1 ? headErrorsFigure(rows) : undefined
  const rate: LineFigure = {
    title: 'Learning rate',
    x: STEP,
    y: { label: 'learning rate' },
    series: [
      {
        ...{ name: 'learning rate', color: 6 },
        ...{ x: rows.map(({ step }) => step), y: rows.map(({ lr }) => lr ?? null) },
      },
    ],
  }
  const isChanging = new Set(rows.map(({ lr }) => lr)).size > 1
  return [lossFigure(rows), heads, gradientNormFigure(rows), isChanging ? rate : undefined].filter(
    (figure) => figure !== undefined,
  )
}

/** How often each head was chosen, over training and by timestep; empty where no head is chosen. */
export function choiceFigures(run: RunFolder): LineFigure[] {
  const { rows } = run
  const over = choiceFigure(rows)
  if (!over) return []
  const heads = headsIn(rows, 'chosen')
  const late = lateRows(rows).filter(({ byBin }) => byBin?.chosen)
  if (late.length === 0) return [over]
  const counts = (head: Head, bin: number) => sum(late.map(({ byBin }) => byBin?.chosen?.[head]?.[bin] ?? 0))
  const centres = binCentres(late[0]!, timestepCount(run))
  const totals = centres.map((_, bin) => sum(heads.map((head) => counts(head, bin))))
  return [
    over,
    {
      title: 'Which head is chosen, by timestep',
      x: timestepAxis(run),
      y: { label: `share of examples, ${stepsOf(late)}`, min: 0, max: 1 },
      series: heads.map((head) => {
        const share = centres.map((_, bin) => (totals[bin]! > 0 ? counts(head, bin) / totals[bin]! : null))
        return { name: head, color: HEAD_COLOUR[head], x: centres, y: share }
      }),
      ...slotBands(run),
    },
  ]
}

/** The loss over the timesteps: at several stages of training, and of each head at its end. */
export function timestepFigures(run: RunFolder): LineFigure[] {
  const rows = binnedRows(run)
  if (rows.length === 0) return []
  const centres = binCentres(rows[0]!, timestepCount(run))
  const stages = stagesOf(rows)
  const note =
    'Mean over tenths of the timesteps; darker lines are later in training. Timestep 0 has least noise.'
  const staged = (title: string, label: string, color: number, field: BinField): LineFigure => ({
    title: `${title} over the timesteps as training goes on`,
    x: timestepAxis(run),
    y: { label, scale: 'log' },
    series: stages.map((stage, i) => ({
      ...{ name: stepsOf(stage), color, opacity: 0.3 + (0.7 * (i + 1)) / stages.length },
      ...{ x: centres, y: binMeans(stage, field) },
    })),
    ...slotBands(run),
    note,
  })
  const figures = [staged('Loss', 'loss before its weight', 0, ({ loss }) => loss)]
  const late = lateRows(rows)
  const heads = ALL_HEADS.filter((head) => late.some(({ byBin }) => byBin?.perHead?.[head]))
  if (heads.length > 1)
    figures.push(
      ...heads.map((head) =>
        staged(
          `Error of ${head}`,
          'in the head’s own unit',
          HEAD_COLOUR[head],
          ({ perHead }) => perHead?.[head],
        ),
      ),
      {
        title: 'Error of each head over the timesteps',
        x: timestepAxis(run),
        y: { label: `in the head’s own unit, ${stepsOf(late)}`, scale: 'log' },
        series: heads.map((head) => ({
          ...{ name: head, color: HEAD_COLOUR[head], x: centres },
          y: binMeans(late, ({ perHead }) => perHead?.[head]),
        })),
        ...slotBands(run),
      },
    )
  return figures
}

/** Where training spends its examples, stage by stage; undefined where all timesteps are drawn alike. */
export function examplesFigure(run: RunFolder): HeatmapFigure | undefined {
  const rows = binnedRows(run)
  const drawsAlike = ['uniform', 'stratified', 'systematic', 'golden'].includes(
    String(run.config.sampler ?? 'uniform'),
  )
  if (rows.length === 0 || drawsAlike) return undefined
  const stages = stagesOf(rows)
  const bins = rows[0]!.byBin?.count.length ?? 0
  const edge = (bin: number) => Math.round((bin / bins) * timestepCount(run))
  return {
    kind: 'heatmap',
    title: 'Where training spends its examples',
    rows: stages.map(stepsOf),
    columns: Array.from({ length: bins }, (_, bin) => `${edge(bin)}–${edge(bin + 1) - 1}`),
    values: stages.map((stage) => {
      const counts = Array.from({ length: bins }, (_, bin) =>
        sum(stage.map(({ byBin }) => byBin?.count[bin] ?? 0)),
      )
      const total = sum(counts)
      return counts.map((count) => (total > 0 ? (100 * count) / total : null))
    }),
    label: 'Percent of the examples of these steps, by timestep.',
  }
}

/** Slots as edges 0, ..., T: those of the last line that has them, where they change in training, else of the run's options. */
export function slotEdges({ config, rows }: Pick<RunFolder, 'config' | 'rows'>): number[] | undefined {
  const edges = rows.findLast((row) => row.slotEdges)?.slotEdges ?? config.slotEdges
  const isEdges = Array.isArray(edges) && edges.length > 1 && edges.every((edge) => Number.isFinite(edge))
  return isEdges ? (edges as number[]) : undefined
}

function slotBands(run: RunFolder): Pick<LineFigure, 'bands'> {
  const edges = slotEdges(run)
  if (!edges) return {}
  return { bands: edges.slice(1).map((end, k) => ({ begin: edges[k]!, end, label: `slot ${k + 1}` })) }
}

/** Timesteps of the process that a run trains. */
export function timestepCount(run: Pick<RunFolder, 'config' | 'rows'>): number {
  const { timestepCount: trained, respacing } = run.config
  const respaced = typeof respacing === 'string' ? sum((respacing.match(/\d+/g) ?? []).map(Number)) : 0
  return slotEdges(run)?.at(-1) ?? (respaced || (typeof trained === 'number' ? trained : 1000))
}

function timestepAxis(run: RunFolder) {
  return { label: 'timestep', min: 0, max: timestepCount(run) }
}

/** Middles of the bins, as timesteps. */
export function binCentres({ byBin }: Row, count: number): number[] {
  const bins = byBin?.count.length ?? 0
  return Array.from({ length: bins }, (_, bin) => ((bin + 0.5) / bins) * count)
}

type Bins = NonNullable<Row['byBin']>
type BinField = (bins: Bins) => readonly (number | null)[] | undefined

/** Means of a field over rows, each counting its examples. */
export function binMeans(rows: readonly Row[], field: BinField): (number | null)[] {
  const bins = rows[0]?.byBin?.count.length ?? 0
  return Array.from({ length: bins }, (_, bin) => {
    let [total, count] = [0, 0]
    for (const { byBin } of rows) {
      const value = byBin && field(byBin)?.[bin]
      const examples = byBin?.count?.[bin] ?? 0
      if (typeof value !== 'number' || examples === 0) continue
      total += examples * value
      count += examples
    }
    return count === 0 ? null : total / count
  })
}

/** The last two fifths of the steps, as far as rows have losses by timestep. */
export function lateRows(rows: readonly Row[]): Row[] {
  const withBins = rows.filter(({ byBin }) => byBin)
  const end = withBins.at(-1)?.step ?? 0
  return withBins.filter(({ step }) => step > 0.6 * end)
}

function binnedRows({ rows }: RunFolder): Row[] {
  return rows.filter(({ byBin }) => Array.isArray(byBin?.count) && Array.isArray(byBin.loss))
}

/** Rows in stages, the early ones shorter, because most happens there. */
function stagesOf(rows: readonly Row[]): Row[][] {
  const end = rows.at(-1)!.step
  const edges = [0, 0.04, 0.12, 0.3, 0.6, 1].map((share) => share * end)
  const stages: Row[][] = []
  let waiting: Row[] = []
  for (const [k, to] of edges.slice(1).entries()) {
    const stage = [...waiting, ...rows.filter(({ step }) => step > edges[k]! && step <= to)]
    waiting = stage.length < 2 ? stage : [] // one row shows little but its noise: it goes into the next stage
    if (stage.length >= 2) stages.push(stage)
  }
  return waiting.length > 0 ? [...stages, waiting] : stages
}

function stepsOf(rows: readonly Row[]): string {
  const [first, last] = [rows[0]!.step, rows.at(-1)!.step]
  return first === last ? `step ${first}` : `steps ${first}–${last}`
}

function sum(values: readonly number[]): number {
  return values.reduce((a, b) => a + b, 0)
}
