import { rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { exists, writeDurably } from '../folder.ts'
import { studyFigures } from '../report/page/study-figures.ts'
import { writePlot } from '../report/plot.ts'
import { packageVersion } from '../setup/paths.ts'
import { ALTERNATION_TITLES, type Alternation, alternationCells } from '../statistics/alternation.ts'
import { boundSign } from '../statistics/bound-sign.ts'
import { changeText } from '../statistics/change-text.ts'
import { type ArmHeads, armHeads } from './arm-heads.ts'
import { type CellResult, RESULT } from './cell.ts'
import {
  type ArmComparison,
  type CellName,
  compareArms,
  type MetricComparison,
  type TimestepComparison,
} from './comparison.ts'
import { type CellFailure, isDiverged } from './failures.ts'
import { measuredFor } from './metric.ts'
import { cellFolder, type Study } from './study-file.ts'

/**
 * Writes `study.json` (every figure), `study.md` (tables) and plots, as SVG and, where the package sharp is there, PNG, of what is
 * finished.
 *
 * @param drawn the arms that the plots show, beside the control; the tables have all
 * @returns the tables as text
 */
export async function writeStudyReport(
  study: Study,
  results: readonly CellResult[],
  failures: readonly CellFailure[] = [],
  drawn: readonly string[] = study.arms.map(({ name }) => name),
): Promise<string> {
  const arms = compareArms(study, results, {}, failures.filter(isDiverged))
  const { name, title, about, seeds, compare, out } = study
  const described = study.arms.map(({ name: arm, options, stops }) => ({ arm, options, stops }))
  const version = packageVersion()
  const makers = results.map((cell) => cell.version ?? 'unknown')
  const madeBy = [...new Set(makers)].map((maker) => ({
    version: maker,
    cells: makers.filter((other) => other === maker).length,
  }))
  const file = {
    format: 1,
    name,
    title,
    about,
    version,
    seeds,
    compare,
    cells: results.length,
    uncounted: await uncountedCells(study, results),
    madeBy,
    ...(failures.length > 0 && { failures }),
    declared: described,
    arms,
    alternation: alternations(study, results),
    scatter: scatters(study, results),
    heads: armHeads(study, results),
  }
  await writeDurably(join(out, 'study.json'), `${JSON.stringify(file, undefined, 1)}\n`)
  const failed = failures.map(
    ({ arm, seed, message }) => `Failed: ${arm}/seed-${seed}: ${message.split('\n')[0]}`,
  )
  const text = [
    studyTables(study, arms),
    ...alternationTable(file.alternation),
    ...headTables(file.heads),
    ...failed,
  ].join('\n\n')
  const made = madeBy.map(({ version: maker, cells }) => `${cells} by ${maker}`).join(', ')
  const heading = [`# ${title}`, ...(about ? [about] : []), ...(made ? [`Cells: ${made}.`] : [])].join('\n\n')
  await writeFile(join(out, 'study.md'), `${heading}\n\n${text}\n`)
  const isDrawn = ({ arm }: { readonly arm: string }): boolean =>
    drawn.includes(arm) || arm === compare.control
  const figures = studyFigures({
    ...compare,
    cells: study.arms.flatMap(({ name: arm }) =>
      results
        .filter((cell) => cell.arm === arm && isDrawn(cell))
        .map((cell) => ({ arm, seed: cell.seed, result: { ...cell } })),
    ),
    arms: arms.filter(isDrawn).map((arm) => ({ ...arm })),
    scatter: file.scatter.filter(isDrawn).map((arm) => ({ ...arm })),
  })
  for (const [plot, figure] of Object.entries(figures)) {
    if (figure)
      await writePlot(join(out, plot), { ...figure, title, subtitle: figure.title, width: 1200, height: 620 })
    // One of an earlier report, of more arms than this one draws, would be taken for its own.
    else for (const kind of ['svg', 'png']) await rm(join(out, `${plot}.${kind}`), { force: true })
  }
  return text
}

/** Cells whose folder has a result of other options or another evaluation: the page leaves them out, too. */
async function uncountedCells(
  { out, arms, seeds }: Study,
  results: readonly CellResult[],
): Promise<CellName[]> {
  const counted = new Set(results.map(({ arm, seed }) => cellFolder(out, arm, seed)))
  const cells = arms.flatMap(({ name }) => seeds.map((seed) => ({ arm: name, seed })))
  const found = await Promise.all(
    cells.map(async (cell) => {
      const folder = cellFolder(out, cell.arm, cell.seed)
      return !counted.has(folder) && (await exists(join(folder, RESULT))) ? [cell] : []
    }),
  )
  return found.flat()
}

/** A table for each metric, as Markdown. */
export function studyTables(study: Pick<Study, 'compare'>, arms: readonly ArmComparison[]): string {
  const { control, metrics } = study.compare
  const blocks = metrics.flatMap((name) => {
    const rows = arms.flatMap((arm) => {
      const found = arm.metrics.find(({ metric }) => metric === name)
      return found ? [{ arm, found }] : []
    })
    if (rows.length === 0) return []
    const cells = rows.map(({ arm, found }) => {
      const { relative, p, holmP, detectable } = found
      const isReach = arm.reach?.metric === name
      return [
        arm.arm,
        String(found.values.length) + (found.astray > 0 ? ` and ${found.astray} not finite` : ''),
        figure(found.mean),
        arm.isControl ? 'control' : found.astrayPairs > 0 ? astrayText(found) : percentInterval(relative),
        arm.isControl ? '' : probability(p),
        arm.isControl ? '' : probability(holmP),
        arm.isControl ? '' : percent(detectable),
        arm.isControl ? '' : worstText(found),
        isReach && !arm.isControl ? reachText(arm) : '',
        arm.n > 0 ? arm.trainSeconds.toFixed(0) : '',
      ]
    })
    const titles = [
      'arm',
      'n',
      name,
      `against ${control}, 95 %`,
      'p',
      'Holm p',
      'detectable',
      'worst at log snr',
      'images by',
      's/run',
    ]
    return [table(titles, cells)]
  })
  return blocks.length > 0 ? blocks.join('\n\n') : 'no cell is finished yet'
}

/** How the step losses of an arm go up and down, seed by seed. */
interface ArmAlternation {
  readonly arm: string
  readonly seeds: readonly (Alternation & { readonly seed: number })[]
}

/** Of the arms that logged every step. */
function alternations(study: Study, results: readonly CellResult[]): ArmAlternation[] {
  return study.arms.flatMap(({ name }) => {
    const seeds = results.flatMap(({ arm, seed, alternation }) =>
      arm === name && alternation ? [{ seed, ...alternation }] : [],
    )
    return seeds.length > 0 ? [{ arm: name, seeds }] : []
  })
}

/** Means over seeds, with 95 % intervals; empty unless every step was logged. */
function alternationTable(found: readonly ArmAlternation[]): string[] {
  const rows = found.map(({ arm, seeds }) => [
    arm,
    String(seeds.length),
    ...alternationCells(seeds.map((cell) => ({ ...cell }))),
  ])
  const titles = ['arm', 'n', ...ALTERNATION_TITLES]
  return rows.length > 0 ? [table(titles, rows)] : []
}

/** Who is best at each noise level, for each arm of several heads. */
function headTables(found: readonly ArmHeads[]): string[] {
  return found.map(({ arm, heads, timesteps }) => {
    const of = (values: Readonly<Record<string, number>> | undefined, digits: number): string =>
      values ? Object.values(values).map((value) => value.toFixed(digits)).join(' / ') : '' // biome-ignore format: short
    const rows = timesteps.map((at) => [
      at.logSnr.toFixed(1),
      of(at.winRate, 2),
      heads.map((head) => figure(at.error[head] as number)).join(' / '),
      ...[at.minimum ?? Number.NaN, at.table, at.blue, at.signal].map(figure),
      of(at.correlation, 3),
      of(at.brightnessGap, 3),
      at.kept ? `${figure(at.kept.table)} / ${figure(at.kept.blue)}` : '',
      at.kept ? at.kept.agreement.toFixed(2) : '',
    ])
    const pairs = Object.keys(timesteps[0]?.correlation ?? {}).join(' / ')
    const titles = [
      ...['log snr', 'best on this share of images', 'F error', 'minimum of each image'],
      ...['table', 'blue', 'signal', `correlation of errors, ${pairs}`, 'gap of brightness'],
      ...['table / blue of the checkpoint', 'its table agrees'],
    ]
    return `${arm}: ${heads.join(' / ')}\n\n${table(titles, rows)}`
  })
}

/** How the loss of one image scatters at each timestep: deviation over mean of F, xStart clipped, means over seeds. */
interface ArmScatter {
  readonly arm: string
  readonly logSnr: readonly number[]
  readonly deviationOverMean: readonly number[]
}

function scatters(study: Study, results: readonly CellResult[]): ArmScatter[] {
  return study.arms.flatMap(({ name }) => {
    const cells = results.filter(({ arm }) => arm === name)
    const rows = cells.flatMap((cell) => {
      const errors = measuredFor(cell, {}, cell.heldOut)
      return errors ? [errors.perTimestep] : []
    })
    const [first] = cells
    if (!first || rows.length === 0) return []
    const deviationOverMean = first.heldOut.logSnr.map(
      (_, k) => rows.reduce((sum, row) => sum + row.deviation[k]! / row['F.clipped'][k]!, 0) / rows.length,
    )
    return [{ arm: name, logSnr: first.heldOut.logSnr, deviationOverMean }]
  })
}

function reachText({ reach }: ArmComparison): string {
  if (!reach || reach.seeds.length === 0) return ''
  const { ratio, reached, seeds } = reach
  if (reached < seeds.length) return `${reached} of ${seeds.length} reach it`
  const sign = boundSign(seeds)
  if (sign === undefined) return 'unknown'
  const range = Number.isFinite(ratio.low) ? ` [${ratio.low.toFixed(2)}, ${ratio.high.toFixed(2)}]` : ''
  return `${sign && `${sign} `}${ratio.mean.toFixed(2)}${range}`
}

function astrayText({ astrayPairs }: MetricComparison): string {
  return `${astrayPairs} ${astrayPairs === 1 ? 'pair' : 'pairs'} not finite`
}

/** The timestep at which an arm does worst against the control. */
function worstText({ timesteps = [] }: MetricComparison): string {
  const worst = timesteps
    .filter(({ relative }) => Number.isFinite(relative.mean))
    .reduce<TimestepComparison | undefined>(
      (most, at) => (most && most.relative.mean >= at.relative.mean ? most : at),
      undefined,
    )
  return worst ? `${worst.logSnr.toFixed(1)}: ${percentInterval(worst.relative)}` : ''
}

function percentInterval({ mean, low, high }: { mean: number; low: number; high: number }): string {
  if (!Number.isFinite(mean)) return ''
  return Number.isFinite(low)
    ? `${changeText(mean)} [${changeText(low)}, ${changeText(high)}]`
    : changeText(mean)
}

function percent(share: number): string {
  return Number.isFinite(share) ? `${(100 * share).toFixed(Math.abs(share) < 0.1 ? 2 : 1)} %` : ''
}

function probability(p: number): string {
  if (!Number.isFinite(p)) return ''
  return p < 0.0001 ? '<0.0001' : p.toFixed(4)
}

function figure(value: number): string {
  return Number.isFinite(value) ? value.toPrecision(5) : ''
}

function table(titles: readonly string[], rows: readonly (readonly string[])[]): string {
  const widths = titles.map((title, c) => Math.max(title.length, ...rows.map((row) => row[c]!.length)))
  const line = (cells: readonly string[]): string =>
    `| ${cells.map((cell, c) => (c === 0 ? cell.padEnd(widths[c]!) : cell.padStart(widths[c]!))).join(' | ')} |`
  const rule = `|${widths.map((width, c) => (c === 0 ? '-'.repeat(width + 2) : `${'-'.repeat(width + 1)}:`)).join('|')}|`
  return [line(titles), rule, ...rows.map(line)].join('\n')
}
