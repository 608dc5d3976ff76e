// The figures of a study: held-out errors of its arms, with intervals over seeds. The page and the study's picture files share them.

import { type FigureSeries, type LineFigure, NOISE_AXIS } from '../figure/figure.ts'
import { seriesOf } from './compare.ts'
import { meanInterval } from './interval.ts'
import { isFields } from './run-folder.ts'
import type { StudyCell, StudyFolder } from './study-folder.ts'
import { differencesByNoise, scatterFigure } from './study-tables.ts'

/** What the figures show, as far as it is measured. */
export type StudyResults = Pick<StudyFolder, 'control' | 'metrics' | 'arms' | 'scatter'> & {
  readonly cells: readonly Pick<StudyCell, 'arm' | 'seed' | 'result'>[]
}

/** What a cell's held-out errors are measured in: of these, the study's first metric that says so. */
const ERRORS = {
  'F.clipped': 'F space, xStart clipped',
  'v.clipped': 'v space, xStart clipped',
  F: 'F space',
  v: 'v space',
} as const

/** An error, and of which weights where the metric says so; else those that the cell's evaluation names. */
export interface ErrorChoice {
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

/** An arm with the errors of its finished cells, by seed. */
export interface MeasuredArm {
  readonly name: string
  readonly results: ReadonlyMap<number, HeldOut>
}

/** The figures of a study by the name of their file; undefined where it has no results for one. */
export function studyFigures(study: StudyResults): Record<string, LineFigure | undefined> {
  const { control = 'the control', arms = [], scatter } = study
  const error = errorOf(study)
  const measured = measuredArms(study, error)
  return {
    ...heldOutFigures(measured, error),
    'timesteps-relative': differencesByNoise(arms, control),
    'timesteps-scatter': scatterFigure(scatter),
  }
}

/** Arms that have an error, in the order of the cells. */
export function measuredArms({ cells }: Pick<StudyResults, 'cells'>, error: ErrorChoice): MeasuredArm[] {
  const names = [...new Set(cells.map(({ arm }) => arm))]
  return names
    .map((name) => {
      const own = cells.filter(({ arm }) => arm === name)
      return { name, results: new Map(own.flatMap((cell) => heldOut(cell, error) ?? [])) }
    })
    .filter(({ results }) => results.size > 0)
}

/** The first metric of the study that is such an error in every result; clipped F where the study names none. */
export function errorOf({ metrics, cells }: Pick<StudyResults, 'metrics' | 'cells'>): ErrorChoice {
  const results = cells.filter(({ result }) => isFields(result?.heldOut))
  const named = metrics.flatMap((metric): ErrorChoice[] => {
    const [, name, weights] = /^([Fv](?:\.clipped)?)(?:\.(raw|ema))?$/.exec(metric) ?? []
    return name === undefined ? [] : [{ name, weights } as ErrorChoice]
  })
  const isThere = (error: ErrorChoice) =>
    results.every((cell) => (heldOut(cell, error)?.[0][1].byTimestep.length ?? 0) > 0)
  return [...named, { name: 'F.clipped' } as const].find(isThere) ?? { name: 'F' }
}

/** Seed and errors of result.json; undefined where it has none. */
function heldOut(
  { seed, result }: StudyResults['cells'][number],
  { name, weights: asked }: ErrorChoice,
): [[number, HeldOut]] | undefined {
  const found = result?.heldOut
  if (!isFields(found)) return undefined
  const isRaw = isFields(result?.settings) && result.settings.weights === 'raw'
  const weights = asked ?? (!isRaw && isFields(found.ema) ? 'ema' : 'raw')
  const errors = found[weights]
  if (!isFields(errors) || errors[name] === undefined) return undefined
  const numbers = (value: unknown) => (Array.isArray(value) ? value.map(numberOf) : [])
  const points = Array.isArray(result?.curve) ? result.curve.filter(isFields) : []
  const curve = points.map((point) => {
    const means = point[weights]
    return {
      imagesSeen: Number(point.imagesSeen),
      mean: isFields(means) ? numberOf(means[name]) : Number.NaN,
    }
  })
  const byTimestep = isFields(errors.perTimestep) ? numbers(errors.perTimestep[name]) : []
  return [[seed, { mean: numberOf(errors[name]), logSnr: numbers(found.logSnr), byTimestep, curve }]]
}

/** A number of JSON, in which null stands for one that is not finite: the error of a network that went astray. */
function numberOf(value: unknown): number {
  return typeof value === 'number' ? value : Number.NaN
}

/** The space of an error, and the weights, in words. */
export function errorText({ name, weights }: ErrorChoice): string {
  return `${ERRORS[name]}${weights ? `, ${weights === 'raw' ? 'weights as they are' : 'average of the weights'}` : ''}`
}

function heldOutFigures(
  arms: readonly MeasuredArm[],
  error: ErrorChoice,
): Record<string, LineFigure | undefined> {
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
  const curves = over(
    ({ curve }) => curve.map(({ imagesSeen }) => imagesSeen),
    ({ curve }) => curve.map(({ mean }) => mean),
  )
  const levels = over(
    ({ logSnr }) => logSnr,
    ({ byTimestep }) => byTimestep,
  )
  const hasLine = (series: readonly FigureSeries[]) => series.some(({ x }) => x.length > 1)
  const training = {
    title: 'Held-out error while training',
    x: { label: 'images seen', scale: 'log' },
  } as const
  const atEnd = { title: 'Held-out error by noise level, at the end', x: NOISE_AXIS }
  return {
    'learning-curves': hasLine(curves) ? { ...training, y, series: curves, ...note } : undefined,
    timesteps: hasLine(levels) ? { ...atEnd, y, series: levels, ...note } : undefined,
  }
}
