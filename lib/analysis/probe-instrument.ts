import type { Instrument, InstrumentTable, LinePlot, PlotSeries } from '../report/instrument-file.ts'
import type { JsonValue } from '../timesteps/sampler.ts'
import { ERROR_SPACES, type ErrorSpace } from './error-space.ts'
import type { Probe, RecommendedSlots } from './probe.ts'

const SPACE_TITLES: Record<ErrorSpace, string> = {
  eps: 'Held-out error of eps',
  v: 'Held-out error of v',
  xStart: 'Held-out error of xStart',
  F: 'Held-out error in EDM’s F',
}
const RULE_TITLES: Record<RecommendedSlots['rule'], string> = {
  loss: 'equal loss',
  excess: 'equal excess over the Gaussian model',
  excessMin: 'equal excess over the smallest',
  gradientMoment: 'equal gradient second moment',
  gradientRoot: 'equal root of gradient second moment',
}

/** A probe as plots, tables and numbers, for `writeInstrument`. */
export function probeInstrument(probe: Probe, command?: string): Instrument {
  const { heads, t, gaussian, curves, slots, gradient, imageCount, timestepCount } = probe
  const x = { label: 'timestep t + 1 (1 = least noise)', scale: 'log' } as const
  const plots = ERROR_SPACES.map((space): LinePlot => {
    const own = heads.find((head) => head === space) ?? heads[0]!
    const cut = slots.find((one) => one.rule === 'loss' && one.head === own && one.space === space)
    const series = curves
      .filter((curve) => curve.space === space)
      .map(({ head, value, standardError }): PlotSeries => {
        const bound = (sign: number) => Array.from(value, (v, i) => v + sign * 1.96 * standardError[i]!)
        return {
          name: head,
          x: shifted(t),
          y: Array.from(value),
          low: bound(-1).map((v) => Math.max(v, Number.MIN_VALUE)),
          high: bound(1),
        }
      })
    const model = gaussian.curves[space]
    return {
      title: SPACE_TITLES[space],
      x,
      y: { label: 'mean squared error', scale: 'log' },
      series: [
        ...series,
        { name: 'Gaussian model', x: shifted(t), y: Array.from(t, (s) => model[s]!), kind: 'line' },
      ],
      ...(cut && { bands: bandsOf(cut.edges) }),
    }
  })
  if (gradient) {
    plots.push({
      title: 'Second moment of the training gradient',
      x,
      y: { label: 'mean squared norm of one image', scale: 'log' },
      series: [{ name: 'gradient', x: shifted(gradient.t), y: Array.from(gradient.mean), kind: 'line' }],
    })
  }
  return {
    kind: 'probe',
    title: 'Loss over the timesteps',
    ...(command && { command }),
    summary: [
      `${imageCount} held-out images at ${t.length} of ${timestepCount} timesteps, the same noise at each.`,
      ...curves
        .filter(({ head, space }) => head === space || space === 'F')
        .map(({ head, space, span, variation }) => `${head} in ${space}: ${spread(span, variation)}`),
      `Gaussian model of these images (variance ${number(gaussian.dataVariance)}): ${ERROR_SPACES.map(
        (space) => `${space} spans ${number(gaussian.spread[space].span)}`,
      ).join(', ')}.`,
    ],
    plots,
    tables: [spreadTable(probe), ...slotTables(slots)],
    data: json(probe),
  }
}

/** Every number of a probe as JSON. */
function json(probe: Probe): JsonValue {
  const plain = JSON.stringify(probe, (_, value) =>
    ArrayBuffer.isView(value) ? Array.from(value as never) : value,
  )
  return JSON.parse(plain) as JsonValue
}

function spreadTable({ curves, gaussian }: Probe): InstrumentTable {
  return {
    title: 'Loss over uniform timesteps',
    columns: [
      'head, space',
      'mean',
      'greatest / smallest',
      '95 % interval',
      'deviation / mean',
      'off the model by',
    ],
    rows: ERROR_SPACES.flatMap((space) => {
      const model = gaussian.spread[space]
      return [
        ...curves
          .filter((curve) => curve.space === space)
          .map(({ head, mean, span, spanLow, spanHigh, variation, distance }) => [
            `${head}, ${space}`,
            round(mean),
            round(span),
            `${number(spanLow)}–${number(spanHigh)}`,
            round(variation),
            round(distance),
          ]),
        [
          `Gaussian model, ${space}`,
          round(model.mean),
          round(model.span),
          null,
          round(model.variation),
          null,
        ],
      ]
    }),
  }
}

/** Each head in its own space and in F; the others are in the data. */
function slotTables(all: readonly RecommendedSlots[]): InstrumentTable[] {
  const slots = all.filter(({ head, space }) => head === undefined || head === space || space === 'F')
  if (slots.length === 0) return []
  const count = slots[0]!.edges.length - 1
  return [
    {
      title: `Edges of ${count} slots under each rule, with 95 % intervals`,
      columns: ['rule', 'head', 'space', ...Array.from({ length: count - 1 }, (_, k) => `edge ${k + 1}`)],
      rows: slots.map(({ rule, head, space, edges, low, high }) => [
        RULE_TITLES[rule],
        head ?? null,
        space ?? null,
        ...edges.slice(1, -1).map((edge, k) => `${edge} (${low[k + 1]}–${high[k + 1]})`),
      ]),
    },
  ]
}

const shifted = (t: Int32Array): number[] => Array.from(t, (s) => s + 1)

/** Slots as stripes on an axis of t + 1. */
export function bandsOf(edges: readonly number[]): { begin: number; end: number; label: string }[] {
  return edges.slice(1).map((end, k) => ({ begin: edges[k]! + 1, end: end + 1, label: `slot ${k}` }))
}

function spread(span: number, variation: number): string {
  return `spans a factor of ${number(span)}, deviation over mean ${number(variation)} at uniform timesteps.`
}

/** Three digits, for sentences. */
export function number(value: number): string {
  return String(round(value))
}

function round(value: number): number {
  return Number(value.toPrecision(3))
}
