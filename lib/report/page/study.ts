// What the page says about a study.

import { changeText } from '../../statistics/change-text.ts'
import { type LineFigure, NOISE_AXIS } from '../figure/figure.ts'
import { comparisonFigures, differences, type RunGroup, seriesOf, valueText } from './compare.ts'
import { type Html, html } from './html.ts'
import { meanInterval } from './interval.ts'
import { figures, section, table } from './parts.ts'
import { isFields, type Table } from './run-folder.ts'
import type { StudyCell, StudyFolder } from './study-folder.ts'
import { studyHeadFigures } from './study-heads.ts'
import { alternationTable, differencesByNoise, scatterFigures, studyTables } from './study-tables.ts'

/** What a cell's held-out errors are measured in: of these, the study's first metric that says so. */
const ERRORS = {
  'F.clipped': 'F space, xStart clipped',
  'v.clipped': 'v space, xStart clipped',
  F: 'F space',
  v: 'v space',
} as const

/** An error, and of which weights where the metric says so; else those that the cell's evaluation names. */
interface ErrorChoice {
  readonly name: keyof typeof ERRORS
  readonly weights?: 'raw' | 'ema' | undefined
}

/** Held-out errors of a finished cell. */
interface HeldOut {
  readonly mean: number
  readonly logSnr: readonly number[]
  readonly byTimestep: readonly number[]
  readonly curve: readonly { readonly imagesSeen: number; readonly mean: number }[]
}

interface Arm {
  readonly name: string
  readonly cells: readonly StudyCell[]
  readonly results: ReadonlyMap<number, HeldOut>
}

/** Held-out errors with intervals over seeds, differences from the control, and the runs' curves. */
export async function studyParts(study: StudyFolder): Promise<(Html | undefined)[]> {
  const names = [...new Set(study.cells.map(({ arm }) => arm))]
  const error = errorOf(study)
  const arms = names.map((name): Arm => {
    const cells = study.cells.filter(({ arm }) => arm === name)
    return { name, cells, results: new Map(cells.flatMap((cell) => heldOut(cell, error) ?? [])) }
  })
  const finished = study.cells.filter(({ result }) => result).length
  // Results of another machine come without their runs.
  const groups = arms.map(
    ({ name, cells }): RunGroup => ({
      name,
      runs: cells.map(({ run }) => run).filter(({ rows }) => rows.length > 0),
    }),
  )
  const begun = groups.filter(({ runs }) => runs.length > 0)
  const known = arms.flatMap(({ name, cells }) => {
    const config = cells.map(({ run }) => run.config).find((one) => Object.keys(one).length > 0)
    return config ? [{ name, config }] : [] // a result of another machine comes without its run
  })
  const keys = differences(known.map(({ config }) => config)).filter((key) => key !== 'run' && key !== 'seed')
  const options = keys.map((key) => [key, ...known.map(({ config }) => valueText(config[key]))])
  const measured = arms.filter(({ results }) => results.size > 0)
  const alternation = alternationTable(study.cells)
  const ofHeads = studyHeadFigures(study.heads)
  const control = measured.find(({ name }) => name === study.control) ?? measured[0]
  return [
    html`<p class="lede">${study.about && `${study.about} `}${finished} of ${Math.max(study.declaredCount, study.cells.length)} runs finished.</p>
`,
    control &&
      section('Held-out error', 2, [
        await figures([
          ...heldOutFigures(measured, error),
          ...differencesByNoise(study.arms ?? [], study.control ?? 'the control'),
          ...scatterFigures(study.scatter),
        ]),
        study.arms ? undefined : table(heldOutTable(measured, control, error)),
      ]),
    study.arms &&
      section(
        'Comparison with the control',
        2,
        studyTables(study.arms, study.control ?? 'the control').map(table),
        'Mean of each arm, and the mean of its relative differences from the control, seed by seed, with Student’s interval. Holm’s p is corrected for the number of arms; below 0.05 an arm was found different. Detectable is the difference that so many pairs would have found with 80 % power.',
      ),
    ofHeads.length > 0 ? section('Heads', 2, [await figures(ofHeads)]) : undefined,
    alternation && section('How step losses alternate', 2, [table(alternation)]),
    options.length > 0
      ? section('Options that differ', 2, [
          table({ title: '', columns: ['option', ...known.map(({ name }) => name)], rows: options }),
        ])
      : undefined,
    begun.length > 0 ? section('Training', 2, [await figures(comparisonFigures(begun))]) : undefined,
  ]
}

/** The first metric of the study that is such an error in every result; clipped F where the study names none. */
function errorOf({ metrics, cells }: StudyFolder): ErrorChoice {
  const results = cells.filter(({ result }) => isFields(result?.heldOut))
  const named = metrics.flatMap((metric): ErrorChoice[] => {
    const [, name, weights] = /^([Fv](?:\.clipped)?)(?:\.(raw|ema))?$/.exec(metric) ?? []
    return name === undefined ? [] : [{ name, weights } as ErrorChoice]
  })
  const isThere = (error: ErrorChoice) => results.every((cell) => heldOut(cell, error) !== undefined)
  return [...named, { name: 'F.clipped' } as const].find(isThere) ?? { name: 'F' }
}

/** Seed and errors of result.json; undefined where it has none. */
function heldOut(
  { seed, result }: StudyCell,
  { name, weights: asked }: ErrorChoice,
): [[number, HeldOut]] | undefined {
  const found = result?.heldOut
  if (!isFields(found)) return undefined
  const isRaw = isFields(result?.settings) && result.settings.weights === 'raw'
  const weights = asked ?? (!isRaw && isFields(found.ema) ? 'ema' : 'raw')
  const errors = found[weights]
  if (!isFields(errors) || typeof errors[name] !== 'number') return undefined
  const numbers = (value: unknown) => (Array.isArray(value) ? value.map(Number) : [])
  const points = Array.isArray(result?.curve) ? result.curve.filter(isFields) : []
  const curve = points.map((point) => {
    const means = point[weights]
    return { imagesSeen: Number(point.imagesSeen), mean: isFields(means) ? Number(means[name]) : Number.NaN }
  })
  const byTimestep = isFields(errors.perTimestep) ? numbers(errors.perTimestep[name]) : []
  return [[seed, { mean: errors[name], logSnr: numbers(found.logSnr), byTimestep, curve }]]
}

function errorText({ name, weights }: ErrorChoice): string {
  return `${ERRORS[name]}${weights ? `, ${weights === 'raw' ? 'weights as they are' : 'average of the weights'}` : ''}`
}

function heldOutFigures(arms: readonly Arm[], error: ErrorChoice): LineFigure[] {
  const note = arms.some(({ results }) => results.size > 1)
    ? { note: 'Bands: 95 % intervals of the mean over seeds (Student’s t).' }
    : {}
  // Seeds may have been measured at different places.
  const over = (x: (result: HeldOut) => readonly number[], y: (result: HeldOut) => readonly number[]) =>
    arms.map(({ name, results }) => {
      const all = [...results.values()].map(
        (result) => new Map(x(result).map((place, i) => [place, y(result)[i] as number])),
      )
      const places = [...all[0]!.keys()].filter((place) =>
        all.every((values) => Number.isFinite(values.get(place))),
      )
      const points = places.map((place) => meanInterval(all.map((values) => values.get(place) as number)))
      return { name, x: places, ...seriesOf(points, all.length) }
    })
  const y = { label: `mean squared error in ${errorText(error)}`, scale: 'log' } as const
  return [
    {
      ...{ title: 'Held-out error while training', x: { label: 'images seen', scale: 'log' as const }, y },
      ...{
        series: over(
          ({ curve }) => curve.map(({ imagesSeen }) => imagesSeen),
          ({ curve }) => curve.map(({ mean }) => mean),
        ),
        ...note,
      },
    },
    {
      ...{
        title: 'Held-out error by noise level, at the end',
        x: NOISE_AXIS,
        y,
      },
      series: over(
        ({ logSnr }) => logSnr,
        ({ byTimestep }) => byTimestep,
      ),
    },
  ].filter(({ series }) => series.some(({ x }) => x.length > 1))
}

/** Mean errors of the arms and their paired difference from the control, seed by seed. */
function heldOutTable(arms: readonly Arm[], control: Arm, error: ErrorChoice): Table {
  return {
    title: `Held-out error at the end, ${errorText(error)}`,
    columns: ['arm', 'seeds', 'mean', '95 % interval', `against ${control.name}`, '95 % interval '],
    rows: arms.map((arm) => {
      const errors = meanInterval([...arm.results.values()].map(({ mean }) => mean))
      const pairs = [...arm.results].flatMap(([seed, { mean }]) => {
        const other = control.results.get(seed)
        return other && arm !== control ? [Math.log(mean / other.mean)] : []
      })
      const ratio = pairs.length > 0 ? meanInterval(pairs) : undefined
      return [
        arm.name,
        arm.results.size,
        errors.mean.toPrecision(4),
        range(errors, (value) => value.toPrecision(4)),
        ratio ? percent(ratio.mean) : null,
        ratio ? range(ratio, percent) : null,
      ]
    }),
  }
}

function range(
  { low, high }: ReturnType<typeof meanInterval>,
  words: (value: number) => string,
): string | null {
  return low === undefined || high === undefined ? null : `${words(low)} to ${words(high)}`
}

/** A mean log ratio as a change in per cent, or a factor where that says more. */
function percent(logRatio: number): string {
  return changeText(Math.expm1(logRatio), 2)
}
