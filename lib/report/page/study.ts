// What the page says about a study.
import { changeText } from '../../statistics/change-text.ts'
import { comparisonFigures, differences, type RunGroup, valueText } from './compare.ts'
import { type Html, html } from './html.ts'
import { meanInterval } from './interval.ts'
import { figures, section, table } from './parts.ts'
import type { Table } from './run-folder.ts'
import {
  type ErrorChoice,
  errorOf,
  errorText,
  type MeasuredArm,
  measuredArms,
  studyFigures,
} from './study-figures.ts'
import type { StudyFolder } from './study-folder.ts'
import { studyHeadFigures } from './study-heads.ts'
import { alternationTable, studyTables } from './study-tables.ts'

/** Held-out errors with intervals over seeds, differences from the control, and the runs' curves. */
export async function studyParts(study: StudyFolder): Promise<(Html | undefined)[]> {
  const names = [...new Set(study.cells.map(({ arm }) => arm))]
  const error = errorOf(study)
  const arms = names.map((name) => ({ name, cells: study.cells.filter(({ arm }) => arm === name) }))
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
  const measured = measuredArms(study, error)
  const alternation = alternationTable(study.cells)
  const ofHeads = studyHeadFigures(study.heads)
  const control = measured.find(({ name }) => name === study.control) ?? measured[0]
  return [
    html`<p class="lede">${study.about && `${study.about} `}${finished} of ${Math.max(study.declaredCount, study.cells.length)} runs finished.</p>
`,
    control &&
      section('Held-out error', 2, [
        await figures(Object.values(studyFigures(study)).flatMap((figure) => figure ?? [])),
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

/** Mean errors of the arms and their paired difference from the control, seed by seed. */
function heldOutTable(arms: readonly MeasuredArm[], control: MeasuredArm, error: ErrorChoice): Table {
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
