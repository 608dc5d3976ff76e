// The tables of study.json, and its differences by noise level.
import { ALTERNATION_TITLES, alternationCells } from '../../statistics/alternation.ts'
import { boundSign } from '../../statistics/bound-sign.ts'
import { changeText } from '../../statistics/change-text.ts'
import { type LineFigure, NOISE_AXIS } from '../figure/figure.ts'
import { type Fields, isFields, type Table } from './run-folder.ts'
import type { StudyCell } from './study-folder.ts'

/** A table for each metric: every arm's mean, its paired difference from the control with interval, and what could have been found. */
export function studyTables(arms: readonly Fields[], control: string): Table[] {
  const metricsOf = ({ metrics }: Fields) => (Array.isArray(metrics) ? metrics.filter(isFields) : [])
  const names = [...new Set(arms.flatMap(metricsOf).map(({ metric }) => String(metric)))]
  return names.map((name) => {
    const rows = arms.flatMap((arm) =>
      metricsOf(arm)
        .filter(({ metric }) => metric === name)
        .map((found) => ({ arm, found })),
    )
    const isReached = rows.some(({ arm }) => reach(arm, name) !== null)
    return {
      title: name,
      columns: [
        ...['arm', 'seeds', 'mean', `against ${control}`, '95 % interval', 'p', 'Holm’s p', 'detectable'],
        ...(isReached ? ['times fewer images'] : []),
        'seconds of training',
      ],
      rows: rows.map(({ arm, found }) => {
        const relative = isFields(found.relative) && arm.isControl !== true ? found.relative : {}
        const isControl = arm.isControl === true
        return [
          String(arm.arm),
          Array.isArray(found.values)
            ? `${found.values.length}${Number(found.astray) > 0 ? ` and ${Number(found.astray)} not finite` : ''}`
            : null,
          typeof found.mean === 'number' ? found.mean.toPrecision(5) : null,
          isControl ? 'control' : (astray(found) ?? change(relative.mean)),
          between(change(relative.low), change(relative.high)),
          isControl ? null : probability(found.p),
          isControl ? null : probability(found.holmP),
          isControl ? null : percent(found.detectable),
          ...(isReached ? [reach(arm, name)] : []),
          typeof arm.trainSeconds === 'number' ? arm.trainSeconds.toFixed(0) : null,
        ]
      }),
    }
  })
}

/** How many pairs there is no difference for, where one of the two went astray. */
function astray({ astrayPairs }: Fields): string | null {
  return Number(astrayPairs) > 0 ? `none: ${Number(astrayPairs)} of the pairs not finite` : null
}

/** Beyond this many per cent a difference leaves the figure. */
const MOST_PERCENT = 30

/** Paired differences from the control at each noise level, in the study's first metric that has them; undefined where none has. */
export function differencesByNoise(arms: readonly Fields[], control: string): LineFigure | undefined {
  const compared = arms.filter(({ isControl }) => isControl !== true)
  const rowsOf = ({ metrics }: Fields) => (Array.isArray(metrics) ? metrics.filter(isFields) : [])
  const metric = compared.flatMap(rowsOf).find(({ timesteps }) => Array.isArray(timesteps))?.metric
  if (metric === undefined) return undefined
  const series = compared.flatMap((arm) => {
    const found = rowsOf(arm).find((row) => row.metric === metric)
    const points = Array.isArray(found?.timesteps) ? found.timesteps.filter(isFields) : []
    const at = (key: string) =>
      points.map(({ relative }) =>
        isFields(relative) && Number.isFinite(relative[key]) ? 100 * (relative[key] as number) : null,
      )
    const x = points.map(({ logSnr }) => Number(logSnr))
    const color = arms.indexOf(arm) // that of the figures in which the control is, too
    const bounds = { low: at('low'), high: at('high') }
    return x.length > 1 ? [{ name: String(arm.arm), color, x, y: at('mean'), ...bounds }] : []
  })
  const values = series
    .flatMap(({ low, high, y }) => [...low, ...high, ...y])
    .filter((value) => value !== null)
  const bound = Math.min(Math.max(...values.map(Math.abs), 1), MOST_PERCENT)
  const [first, ...others] = series
  if (!first) return undefined
  const what = others.length === 0 ? `${first.name} against` : 'Difference from' // one line has no legend
  return {
    title: `${what} ${control} by noise level, ${metric}`,
    x: NOISE_AXIS,
    y: { label: 'per cent; below 0 is better', min: -bound, max: bound },
    series,
    note: 'Bands: 95 % intervals of the mean over pairs of one seed (Student’s t), at each noise level by itself.',
  }
}

/** How the loss of one image scatters at each noise level; undefined where study.json does not say it. */
export function scatterFigure(scatter: readonly Fields[]): LineFigure | undefined {
  const numbers = (value: unknown) => (Array.isArray(value) ? value.map(Number) : [])
  const series = scatter.map(({ arm, logSnr, deviationOverMean }) => ({
    ...{ name: String(arm), x: numbers(logSnr), y: numbers(deviationOverMean) },
  }))
  if (!series.some(({ x }) => x.length > 1)) return undefined
  return {
    title: 'Scatter of the held-out error over images',
    x: NOISE_AXIS,
    y: { label: 'deviation / mean in F space, xStart clipped', scale: 'log' },
    series,
  }
}

/** How step losses alternate, by arm, where every step was logged; undefined where none was. */
export function alternationTable(cells: readonly StudyCell[]): Table | undefined {
  const found = cells.flatMap(({ arm, result }) =>
    isFields(result?.alternation) ? [{ arm, alternation: result.alternation }] : [],
  )
  if (found.length === 0) return undefined
  const rows = [...new Set(found.map(({ arm }) => arm))].map((name) => {
    const own = found.filter(({ arm }) => arm === name)
    return [name, own.length, ...alternationCells(own.map(({ alternation }) => alternation))]
  })
  return { title: '', columns: ['arm', 'seeds', ...ALTERNATION_TITLES], rows }
}

/** How many times fewer images an arm needs for the control's last error; null where that was not measured. */
function reach(arm: Fields, metric: string): string | null {
  if (
    !isFields(arm.reach) ||
    arm.reach.metric !== metric ||
    arm.isControl === true ||
    !isFields(arm.reach.ratio)
  )
    return null
  const { reached, seeds, ratio } = arm.reach
  if (Array.isArray(seeds) && Number(reached) < seeds.length) return `${reached} of ${seeds.length} reach it`
  const times = (value: unknown) => (typeof value === 'number' ? `${value.toFixed(2)}` : null)
  const range = between(times((ratio as Fields).low), times((ratio as Fields).high))
  const sign = boundSign(Array.isArray(seeds) ? seeds.filter(isFields) : [])
  if (sign === undefined) return 'unknown'
  return `${sign && `${sign} `}${times((ratio as Fields).mean) ?? '–'}${range === null ? '' : ` (${range})`}`
}

function between(low: string | null, high: string | null): string | null {
  return low === null || high === null ? null : `${low} to ${high}`
}

function change(share: unknown): string | null {
  return typeof share === 'number' ? changeText(share) : null
}

function percent(share: unknown): string | null {
  return typeof share === 'number' ? `${(100 * share).toFixed(Math.abs(share) < 0.1 ? 2 : 1)} %` : null
}

function probability(p: unknown): string | null {
  if (typeof p !== 'number') return null
  return p < 0.0001 ? '< 0.0001' : p.toFixed(4)
}
