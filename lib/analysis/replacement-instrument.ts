import type { Instrument, LinePlot, PlotSeries } from '../report/instrument-file.ts'
import type { JsonValue } from '../timesteps/sampler.ts'
import { number } from './probe-instrument.ts'
import {
  INTERVENTIONS,
  type Intervention,
  type Replacement,
  type ReplacementBaseline,
  type ReplacementResult,
} from './replacement.ts'
import { WINDOW_MEASURES, type WindowMeasure } from './replacement-windows.ts'

const TITLES: Record<Intervention, string> = {
  xStart: 'Truth for xStart',
  eps: 'Truth for eps',
  noise: 'Noise on xStart',
}
const MEASURES: Record<WindowMeasure | 'range', string> = {
  steps: 'windows of equal steps',
  logSnr: 'windows of equal log snr',
  weight: 'windows of equal weight',
  range: 'ranges given',
}

/** Replacement as plots, a table and numbers, for `writeInstrument`. */
export function replacementInstrument(found: Replacement, command?: string): Instrument {
  const { baselines, results, imageCount, steps, eta, noiseSize } = found
  const plots = baselines.flatMap((baseline) => [
    ...INTERVENTIONS.flatMap((intervention) =>
      ([...WINDOW_MEASURES, 'range'] as const).flatMap((measure) => {
        const { start } = baseline
        const isOf = (one: ReplacementResult) =>
          one.start === start && one.intervention === intervention && one.measure === measure
        const windows = results.filter(isOf)
        return windows.length === 0 ? [] : [changePlot(start, intervention, measure, windows)]
      }),
    ),
    weightsPlot(baseline),
  ])
  return {
    kind: 'replace',
    title: 'Where in sampling the prediction matters',
    ...(command && { command }),
    summary: [
      `${imageCount} images, DDIM with ${steps} steps${eta > 0 ? ` and eta ${eta}` : ''}; noise of deviation ${noiseSize} on xStart in the reverse test; 95 % intervals over images.`,
      ...baselines.map(
        ({ start, error, identityError }) =>
          `From t = ${start}: squared error ${number(error.mean)}; the open-loop sum gives the walk up to ${identityError.toExponential(1)}.`,
      ),
    ],
    plots,
    tables: [
      {
        title: 'Change of the squared error by each intervention, and what the open-loop sum predicts',
        columns: [
          'start',
          'intervention',
          'windows of',
          't from',
          't to',
          'steps',
          'change',
          'open loop',
          'sliced W',
        ],
        rows: results.map((one) => [
          one.start,
          one.intervention,
          one.measure,
          Number(one.from.toFixed(1)),
          Number(one.to.toFixed(1)),
          one.stepCount,
          one.change.n < 2
            ? number(one.change.mean)
            : `${number(one.change.mean)} [${number(one.change.low)}, ${number(one.change.high)}]`,
          Number(one.openLoop.mean.toPrecision(3)),
          Number(one.slicedWasserstein.toPrecision(3)),
        ]),
      },
    ],
    data: JSON.parse(JSON.stringify(found)) as JsonValue,
  }
}

/** What a change of each prediction does to the result by algebra alone. */
function weightsPlot({ start, t, weights }: ReplacementBaseline): LinePlot {
  const x = t.map((timestep) => timestep + 1)
  const series = Object.entries(weights).map(([name, values]) => ({
    ...{ name, x, y: values.map(Math.abs), kind: 'points' as const },
  }))
  return {
    title: `Weight of each prediction in the result, from t = ${start}`,
    x: { label: 't + 1', scale: 'log' },
    y: { label: 'absolute weight in the open-loop sum', scale: 'log' },
    series,
  }
}

/** Change against the middle of the window, with the open-loop prediction beside it. */
function changePlot(
  start: number,
  intervention: Intervention,
  measure: WindowMeasure | 'range',
  results: readonly ReplacementResult[],
): LinePlot {
  const windows = [...results].sort((a, b) => middle(a) - middle(b))
  const x = windows.map(middle)
  const measured: PlotSeries = {
    name: 'measured',
    x,
    y: windows.map(({ change }) => change.mean),
    ...(windows.every(({ change }) => change.n > 1) && {
      low: windows.map(({ change }) => change.low),
      high: windows.map(({ change }) => change.high),
    }),
    kind: 'points',
  }
  const algebra: PlotSeries = { name: 'open loop', x, y: windows.map(({ openLoop }) => openLoop.mean) }
  return {
    title: `${TITLES[intervention]} from t = ${start}, ${MEASURES[measure]}`,
    x: { label: 'middle of the window, t + 1', scale: 'log' },
    y: { label: 'change of the squared error' },
    series: [measured, { ...algebra, kind: 'line' }],
  }
}

const middle = ({ from, to }: ReplacementResult): number => Math.sqrt((from + 1) * (to + 1))
