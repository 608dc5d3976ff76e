// The tables of study.json.
import { type Fields, isFields, type Table } from './run-folder.ts'

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
        ...(isReached ? ['images, control’s by arm’s'] : []),
      ],
      rows: rows.map(({ arm, found }) => {
        const relative = isFields(found.relative) && arm.isControl !== true ? found.relative : {}
        const isControl = arm.isControl === true
        return [
          String(arm.arm),
          Array.isArray(found.values) ? found.values.length : null,
          typeof found.mean === 'number' ? found.mean.toPrecision(5) : null,
          isControl ? 'control' : percent(relative.mean),
          between(percent(relative.low), percent(relative.high)),
          isControl ? null : probability(found.p),
          isControl ? null : probability(found.holmP),
          isControl ? null : percent(found.detectable, ''),
          ...(isReached ? [reach(arm, name)] : []),
        ]
      }),
    }
  })
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
  return `${times((ratio as Fields).mean) ?? '–'}${range === null ? '' : ` (${range})`}`
}

function between(low: string | null, high: string | null): string | null {
  return low === null || high === null ? null : `${low} to ${high}`
}

function percent(share: unknown, plus = '+'): string | null {
  if (typeof share !== 'number') return null
  return `${share > 0 ? plus : ''}${(100 * share).toFixed(Math.abs(share) < 0.1 ? 2 : 1)} %`
}

function probability(p: unknown): string | null {
  if (typeof p !== 'number') return null
  return p < 0.0001 ? '< 0.0001' : p.toFixed(4)
}
