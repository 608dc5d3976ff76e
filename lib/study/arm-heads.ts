import { type ByName, byPair } from '../mixing/head-row.ts'
import type { Head } from '../prediction/heads.ts'
import type { CellResult, HeldOutResult } from './cell.ts'
import { measuredFor, metricTimesteps, parseMetric } from './metric.ts'
import type { Study } from './study-file.ts'

/** Several heads at one noise level, means over the seeds; errors are mean squares in F space, of the weights that the arm is judged by. */
export interface HeadsAtTimestep {
  readonly t: number
  readonly logSnr: number
  /** Each head's own error. */
  readonly error: ByName
  /** Of the best head and of the best linear mixture, chosen on one half of the images and measured on the other. */
  readonly table: number
  readonly blue: number
  /** Of the default combination. */
  readonly signal: number
  readonly correlation: ByName
  /** As `HeadRivalry` has them, the minimum in F space; absent where some cell does not say them. */
  readonly winRate?: ByName
  readonly minimum?: number
  readonly brightnessGap?: ByName
  /**
   * What the statistics in the checkpoints give, of training images with the weights as they were then: errors of `table` and `blue`, and
   * the share of cells whose table has the head that is best on these images; absent where some cell does not say it.
   */
  readonly kept?: { readonly table: number; readonly blue: number; readonly agreement: number }
}

/** The heads of an arm that has several. */
export interface ArmHeads {
  readonly arm: string
  readonly heads: readonly Head[]
  /** Cells. */
  readonly n: number
  readonly timesteps: readonly HeadsAtTimestep[]
}

/** How the heads of each arm of several share the noise levels (math.md, eq. 70 to 72 and 100). */
export function armHeads(study: Pick<Study, 'arms'>, results: readonly CellResult[]): ArmHeads[] {
  return study.arms.flatMap(({ name }) => {
    const cells = results.filter(({ arm, heldOut }) => arm === name && heldOut.heads.length > 1)
    const [first] = cells
    const isAlike = cells.every(({ heldOut }) => heldOut.t.join() === first?.heldOut.t.join())
    if (!first || !isAlike) return []
    const { t, heads } = first.heldOut
    const inF = new Map(
      [...heads, 'table', 'blue', 'signal', 'table.kept', 'blue.kept'].map((combination) => {
        const metric = parseMetric('armHeads', `F@${combination}`)
        const curves = cells.map((cell) => metricTimesteps(cell, metric))
        return [combination, t.map((_, k) => mean(curves.map((curve) => curve?.[k] ?? Number.NaN)))]
      }),
    )
    const timesteps = t.map((_, k) => headsAt(cells, k, (combination) => inF.get(combination)![k]!))
    return [{ arm: name, heads, n: cells.length, timesteps }]
  })
}

function headsAt(
  cells: readonly CellResult[],
  k: number,
  inF: (combination: string) => number,
): HeadsAtTimestep {
  const { t, logSnr, heads } = (cells[0] as CellResult).heldOut
  const errors = cells.flatMap((cell) => measuredFor(cell, {}, cell.heldOut) ?? [])
  const over = (of: (cell: (typeof errors)[number]) => number): number => mean(errors.map(of))
  const size = heads.length
  const correlation = byPair(heads, (a, b) =>
    over(({ products }) => {
      const at = (g: number, h: number) => mean(products.map((half) => half[k]![g * size + h]!))
      return at(a, b) / Math.sqrt(at(a, a) * at(b, b))
    }),
  )
  const rivalries = errors.flatMap(({ rivalry, perTimestep }) =>
    rivalry ? [{ ...rivalry, fromV: perTimestep.F[k]! / perTimestep.v[k]! }] : [],
  )
  const named = (of: (rivalry: (typeof rivalries)[number]) => Readonly<Record<string, readonly number[]>>) =>
    Object.fromEntries(
      Object.keys(of(rivalries[0]!)).map((name) => [name, mean(rivalries.map((row) => of(row)[name]![k]!))]),
    )
  return {
    ...{ t: t[k] as number, logSnr: logSnr[k] as number },
    error: Object.fromEntries(heads.map((head) => [head, inF(head)])),
    ...{ table: inF('table'), blue: inF('blue'), signal: inF('signal'), correlation },
    ...(rivalries.length === cells.length && {
      winRate: named(({ winRate }) => winRate),
      minimum: mean(rivalries.map(({ minimum, fromV }) => minimum[k]! * fromV)),
      brightnessGap: named(({ brightnessGap }) => brightnessGap),
    }),
    ...(errors.filter(({ kept }) => kept).length === cells.length && {
      kept: {
        ...{ table: inF('table.kept'), blue: inF('blue.kept') },
        agreement: over((error) => Number(tableAgrees(error, k))),
      },
    }),
  }
}

/** Whether the checkpoint's table has the head that is best on the images. */
function tableAgrees({ heads, kept }: HeldOutResult, k: number): boolean {
  const least = Math.min(...Object.values(heads).map(({ v }) => v[k]!))
  return kept !== undefined && kept.table.v[k]! <= least * (1 + 1e-9)
}

function mean(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length
}
