import type { Slot } from '../curriculum/slot.ts'
import type { HeatmapPlot, Instrument, InstrumentTable, PlotSpec } from '../report/instrument-file.ts'
import type { MeanInterval } from '../statistics/paired.ts'
import type { JsonValue } from '../timesteps/sampler.ts'
import type { GradientConflict, SlotGradients } from './gradient-conflict.ts'
import type { Interference, InterferenceMatrix } from './interference.ts'
import { number } from './probe-instrument.ts'

/** What training on slots does to one another, and their gradients, as plots and tables; either part may be left out. */
export function interferenceInstrument(
  found: {
    readonly interference?: Interference
    readonly gradients?: GradientConflict
    /** Sentences on slots and copies. */
    readonly notes?: readonly string[]
  },
  command?: string,
): Instrument {
  const { interference, gradients, notes = [] } = found
  return {
    kind: 'interference',
    title: 'What timesteps do to one another',
    ...(command && { command }),
    summary: [
      ...notes,
      ...(interference ? [sizeOf(interference), ...interference.matrices.map(sentence)] : []),
      ...(gradients?.spaces.map((space) => conflict(space, gradients)) ?? []),
    ],
    plots: [
      ...(interference?.matrices.flatMap((matrix) => changePlots(interference.slots, matrix)) ?? []),
      ...(gradients?.spaces.flatMap((space) => gradientPlots(gradients, space)) ?? []),
      ...(gradients ? headSharePlots(gradients) : []),
    ],
    tables: [
      ...(interference
        ? [
            overview(interference),
            ...interference.matrices.map((matrix) => cellTable(interference.slots, matrix)),
          ]
        : []),
      ...(gradients ? gradientTables(gradients) : []),
    ],
    data: JSON.parse(
      JSON.stringify({ interference: interference ?? null, gradients: gradients ?? null }),
    ) as JsonValue,
  }
}

function sizeOf({ slots, seeds, steps, lr, batchSize }: Interference): string {
  return `${slots.length} slots, ${steps} steps of ${batchSize} at learning rate ${lr} on each, ${seeds.length} seeds; intervals are 95 % over seeds.`
}

const percent = (value: number): string => `${value >= 0 ? '+' : ''}${number(100 * value)} %`
/** One seed has no interval. */
function interval(change: MeanInterval | null): string {
  if (change === null) return 'none'
  const { n, mean, low, high } = change
  return n < 2 ? percent(mean) : `${percent(mean)} [${percent(low)}, ${percent(high)}]`
}

function sentence({ head, space, own, near, far }: InterferenceMatrix): string {
  return `${head} in ${space}: the trained slot ${interval(own)}, its neighbours ${interval(near)}, the others ${interval(far)}.`
}

function conflict(found: SlotGradients, gradients: GradientConflict): string {
  const { cosine, cosineError } = found
  const count = Math.sqrt(cosine.length)
  let [pairs, negative] = [0, 0]
  for (const [at, value] of cosine.entries()) {
    const error = cosineError[at]
    if (Math.floor(at / count) >= at % count || value === null || error === null || error === undefined)
      continue
    pairs++
    if (value + 1.96 * error < 0) negative++
  }
  return `${lossOf(found, gradients)}: ${negative} of ${pairs} pairs of slots have gradients whose corrected cosine is below 0 by more than 1.96 standard errors.`
}

/** The loss whose gradient it is, in words. */
function lossOf({ space }: SlotGradients, { head }: GradientConflict): string {
  return space === 'own' ? 'Training loss' : `Loss of ${head} in ${space}`
}

const nameOf = ({ begin, end }: Slot): string => `${begin}–${end - 1}`

function changePlots(slots: readonly Slot[], matrix: InterferenceMatrix): HeatmapPlot[] {
  const { head, space, relative, absolute } = matrix
  const shared = {
    kind: 'heatmap',
    rows: [...slots.map((slot) => `trained ${nameOf(slot)}`), 'trained on all'],
    columns: slots.map(nameOf),
    diverging: true,
  } as const
  return [
    {
      ...shared,
      title: `Change of held-out loss, ${head} in ${space}`,
      values: relative.flat().map(({ mean }) => 100 * mean),
      label: 'percent of the loss before; columns are the slots measured',
    },
    {
      ...shared,
      title: `Change of held-out loss, ${head} in ${space}, absolute`,
      values: absolute.flat().map(({ mean }) => mean),
      label: 'mean squared error after less before; columns are the slots measured',
    },
  ]
}

/** Standard error of a cosine above which a cell says nothing and stays empty. */
const LARGEST_ERROR = 0.5

function gradientPlots(gradients: GradientConflict, found: SlotGradients): PlotSpec[] {
  const { slots } = gradients
  const { cosine, cosineError, ceiling, noiseScale, noiseScaleError, varianceShare } = found
  const loss = lossOf(found, gradients)
  const names = slots.map(nameOf)
  const x = { label: 'middle of the slot, t + 1', scale: 'log' } as const
  const middle = slots.map(({ begin, end }) => (begin + end - 1) / 2 + 1)
  const scales = noiseScale.flatMap((value, k) => {
    return value === null ? [] : [{ x: middle[k]!, y: value, error: noiseScaleError[k] ?? 0 }]
  })
  return [
    {
      title: `Cosine of the slots’ gradients: ${loss}`,
      kind: 'heatmap',
      rows: names,
      columns: names,
      values: cosine.map((value, at) => {
        if (Math.floor(at / slots.length) === at % slots.length) return ceiling[at % slots.length]!
        const error = cosineError[at] ?? null
        return error === null || error > LARGEST_ERROR ? null : value
      }),
      label: 'corrected for noise; on the diagonal the cosine of two halves of the same slot',
      diverging: true,
    },
    ...(scales.length > 0
      ? [
          {
            title: `Gradient noise scale: ${loss}`,
            x,
            y: { label: 'images, with one standard error', scale: 'log' },
            series: [
              {
                name: 'trace / squared norm',
                x: scales.map((p) => p.x),
                y: scales.map((p) => p.y),
                low: scales.map((p) => p.y - p.error),
                high: scales.map((p) => p.y + p.error),
                kind: 'points',
              },
            ],
          } as const,
        ]
      : []),
    {
      title: `Share in the gradient’s variance: ${loss}`,
      x,
      y: { label: 'share at uniform timesteps' },
      series: [{ name: 'share', x: middle, y: varianceShare, kind: 'points' }],
    },
  ]
}

/** What each head's own loss gives to the trunk, slot by slot; none for a network of one head. */
function headSharePlots({ slots, heads, byHead }: GradientConflict): PlotSpec[] {
  if (byHead.length === 0) return []
  const middle = slots.map(({ begin, end }) => (begin + end - 1) / 2 + 1)
  // Where noise decides a slot's norms its shares are not known.
  const series = heads.map((head, h) => {
    const known = byHead.flatMap(({ share }, k) => {
      const value = share[h]
      return typeof value === 'number' && Number.isFinite(value) ? [{ x: middle[k]!, y: value }] : []
    })
    return { name: head, x: known.map(({ x }) => x), y: known.map(({ y }) => y) }
  })
  if (series.every(({ x }) => x.length === 0)) return []
  return [
    {
      title: 'Share of each head in the trunk’s squared gradient norm',
      x: { label: 'middle of the slot, t + 1', scale: 'log' },
      y: { label: 'share, each head with its own loss' },
      series: series.filter(({ x }) => x.length > 0),
    },
  ]
}

function overview({ matrices }: Interference): InstrumentTable {
  return {
    title: 'Relative change of held-out loss, mean over slots with 95 % intervals over seeds',
    columns: [
      'head',
      'space',
      'slot itself',
      'neighbours',
      'farther',
      'all others',
      'control: all timesteps',
    ],
    rows: matrices.map(({ head, space, own, near, far, others, control }) => [
      head,
      space,
      ...[own, near, far, others, control].map(interval),
    ]),
  }
}

/** Every cell of a matrix with its interval. */
function cellTable(slots: readonly Slot[], { head, space, relative }: InterferenceMatrix): InstrumentTable {
  return {
    title: `Relative change of held-out loss, ${head} in ${space}, slot trained x slot measured, with 95 % intervals over seeds`,
    columns: ['trained', ...slots.map(nameOf)],
    rows: relative.map((row, k) => {
      const slot = slots[k]
      return [slot ? nameOf(slot) : 'all', ...row.map(interval)]
    }),
  }
}

function gradientTables(gradients: GradientConflict): InstrumentTable[] {
  const { slots, spaces, heads, byHead } = gradients
  const cell = (value: number | null): number | null => (value === null ? null : Number(value.toPrecision(3)))
  const withError = (value: number | null, error: number | null): string | number | null =>
    value === null || error === null ? cell(value) : `${cell(value)} ± ${Number(error.toPrecision(2))}`
  const bySlot = spaces.map((found) => ({
    title: `Gradients of the slots: ${lossOf(found, gradients)}`,
    columns: [
      'slot',
      'squared norm',
      'trace of covariance',
      'noise scale, images ± standard error',
      'share of variance',
      'split-half cosine',
    ],
    rows: slots.map((slot, k) => [
      nameOf(slot),
      cell(found.squaredNorm[k]!),
      cell(found.trace[k]!),
      withError(found.noiseScale[k]!, found.noiseScaleError[k]!),
      cell(found.varianceShare[k]!),
      cell(found.ceiling[k]!),
    ]),
  }))
  if (byHead.length === 0) return bySlot
  return [
    ...bySlot,
    {
      title: 'Heads in the trunk: share of the squared gradient norm, and cosines',
      columns: ['slot', ...heads, ...pairsOf(heads).map(([a, b]) => `cos ${heads[a]!}, ${heads[b]!}`)],
      rows: byHead.map(({ slot, share, cosine }) => [
        nameOf(slot),
        ...share.map(cell),
        ...pairsOf(heads).map(([a, b]) => cell(cosine[a * heads.length + b]!)),
      ]),
    },
  ]
}

function pairsOf(heads: readonly unknown[]): [number, number][] {
  return heads.flatMap((_, a) => heads.slice(a + 1).map((_, b): [number, number] => [a, a + 1 + b]))
}
