// Figures from heads.jsonl, held-out-heads.jsonl and gradients.jsonl: what the errors of the heads have to do with each other at each noise level.
import { ALL_HEADS, type Head } from '../../prediction/heads.ts'
import { type FigureSeries, type LineFigure, NOISE_AXIS } from '../figure/figure.ts'
import { HEAD_COLOUR } from './run-figures.ts'
import { type Fields, isFields, type RunFolder } from './run-folder.ts'

/** A noise level of a line; errors are mean squares in v space. */
interface Bin {
  /** Timesteps [begin, end). */
  readonly t: readonly [number, number]
  readonly logSnr: number
  readonly winRate: Fields
  readonly error: Fields
  readonly minimum: unknown
  readonly table: unknown
  readonly blueError: unknown
  readonly correlation: Fields
  readonly brightnessGap: Fields
}

/** Win rates, errors with what choosing and mixing could reach, correlations, gaps in brightness; empty without lines. */
export function headFigures({
  heads: lines,
  heldOutHeads = [],
}: Pick<RunFolder, 'heads'> & Partial<Pick<RunFolder, 'heldOutHeads'>>): LineFigure[] {
  const stages = stagesOf(lines)
  const last = stages.at(-1)
  if (!last) return []
  const { bins, step } = last
  const heads = headsOf(bins)
  const perHead = (of: (bin: Bin) => Fields) =>
    heads.map((head) => curve(bins, head, HEAD_COLOUR[head], (bin) => of(bin)[head]))
  const pairs = Object.keys(bins[0]!.correlation)
  const perPair = (of: (bin: Bin) => Fields): FigureSeries[] =>
    pairs.map((pair, k) => curve(bins, pair.replace('-', ' and '), 3 + k, (bin) => of(bin)[pair]))
  const share = { min: 0, max: 1 }
  const heldOut = stagesOf(heldOutHeads).at(-1)
  return [
    ...(heldOut ? [errorsFigure('Held-out errors', `held out, at step ${heldOut.step}`, heldOut.bins)] : []),
    errorsFigure('Errors', `in training, at step ${step}`, bins),
    {
      title: 'Which head has the smallest error, over training',
      x: { label: 'step' },
      y: { label: 'share of images, in v space, all timesteps alike', ...share },
      series: heads.map((head) => ({
        ...{ name: head, color: HEAD_COLOUR[head], x: stages.map((stage) => stage.step) },
        y: stages.map((stage) => overTimesteps(stage.bins, head)),
      })),
    },
    {
      title: 'Which head has the smallest error, by noise level',
      x: NOISE_AXIS,
      y: { label: `share of images, in v space, at step ${step}`, ...share },
      series: perHead(({ winRate }) => winRate),
    },
    {
      title: 'Correlation of the heads’ errors',
      x: NOISE_AXIS,
      y: { label: 'correlation, in v space', max: 1 },
      series: perPair(({ correlation }) => correlation),
      note: 'Near 1 there is nothing to gain from mixing.',
    },
    {
      title: 'Difference of brightness between heads',
      x: NOISE_AXIS,
      y: { label: 'root mean square, of the mean pixel of xStart', min: 0 },
      series: perPair(({ brightnessGap }) => brightnessGap),
      note: 'Large where heads have become rival hypotheses.',
    },
  ]
}

/** What each head gives to the trunk, by noise level and over training; empty without gradients.jsonl. */
export function gradientFigures({ gradients }: Pick<RunFolder, 'gradients'>): LineFigure[] {
  const stages = gradients.map((line) => ({ step: Number(line.step), levels: levelsOf(line) }))
  const last = stages.at(-1)
  const heads = ALL_HEADS.filter((head) =>
    stages.some(({ levels }) => levels.some(({ share }) => head in share)),
  )
  if (!last || heads.length === 0) return []
  const hasMixture = stages.some(({ levels }) => levels.some(({ share }) => 'mixture' in share))
  const parts = [
    ...heads.map((name) => ({ name: name as string, color: HEAD_COLOUR[name] })),
    ...(hasMixture ? [{ name: 'mixture', color: 4 }] : []),
  ]
  const y = { min: 0, max: 1 }
  const note =
    'Of the squared norm of the heads’ gradients on the parameters that they share, as the run trains them: a head that is not chosen has none. Gaps where noise hides one.'
  return [
    {
      title: 'Share of each head in the trunk’s gradient, by noise level',
      x: NOISE_AXIS,
      y: { label: `share, at step ${last.step}`, ...y },
      series: parts.map((part) => ({
        ...{ ...part, x: last.levels.map(({ logSnr }) => logSnr) },
        y: last.levels.map(({ share }) => finite(share[part.name])),
      })),
      note,
    },
    {
      title: 'Share of each head in the trunk’s gradient, over training',
      x: { label: 'step' },
      y: { label: 'share, mean over noise levels', ...y },
      series: parts.map((part) => ({
        ...{ ...part, x: stages.map(({ step }) => step) },
        y: stages.map(({ levels }) => mean(levels.flatMap(({ share }) => finite(share[part.name]) ?? []))),
      })),
    },
  ]
}

/** Errors of the heads, and what choosing one at each noise level, mixing them, or knowing the truth would reach. */
function errorsFigure(title: string, where: string, bins: readonly Bin[]): LineFigure {
  return {
    title: `${title} of the heads, and what choosing or mixing can reach`,
    x: NOISE_AXIS,
    y: { label: `mean squared error in v space, ${where}`, scale: 'log' },
    series: [
      ...headsOf(bins).map((head) => curve(bins, head, HEAD_COLOUR[head], ({ error }) => error[head])),
      curve(bins, 'best head', 3, ({ table }) => table),
      curve(bins, 'best mixture', 4, ({ blueError }) => blueError),
      curve(bins, 'minimum (needs truth)', 6, ({ minimum }) => minimum),
    ],
    note: 'The minimum takes the best head of each image, which only the truth tells: what a loss of minima logs and no sampler has. A sampler can have the best head of each noise level, or the best mixture, which weighs the heads by their errors’ covariance.',
  }
}

/** A line over noise levels; what is no number interrupts it. */
export function curve<Level extends { readonly logSnr: number }>(
  levels: readonly Level[],
  name: string,
  color: number,
  of: (level: Level) => unknown,
): FigureSeries {
  return { name, color, x: levels.map(({ logSnr }) => logSnr), y: levels.map(of).map(finite) }
}

function headsOf(bins: readonly Bin[]): Head[] {
  return ALL_HEADS.filter((head) => bins.some(({ error }) => typeof error[head] === 'number'))
}

/** Lines with noise levels. */
function stagesOf(lines: readonly Fields[]): { readonly step: number; readonly bins: readonly Bin[] }[] {
  return lines
    .map((line) => ({ step: Number(line.step), bins: binsOf(line) }))
    .filter(({ bins }) => bins.length > 0)
}

function levelsOf({ levels }: Fields): { logSnr: number; share: Fields }[] {
  if (!Array.isArray(levels)) return []
  return levels
    .filter((level) => isFields(level) && typeof level.logSnr === 'number')
    .map(({ logSnr, share }) => ({ logSnr, share: isFields(share) ? share : {} }))
}

function mean(values: readonly number[]): number | null {
  return values.length > 0 ? values.reduce((a, b) => a + b, 0) / values.length : null
}

function binsOf({ bins }: Fields): Bin[] {
  const isBin = (bin: unknown) =>
    isFields(bin) &&
    Array.isArray(bin.t) &&
    typeof bin.logSnr === 'number' &&
    isFields(bin.winRate) &&
    isFields(bin.error)
  const withPairs = (bin: Bin): Bin => ({
    ...bin,
    correlation: bin.correlation ?? {},
    brightnessGap: bin.brightnessGap ?? {},
  })
  return Array.isArray(bins) ? (bins.filter(isBin) as Bin[]).map(withPairs) : []
}

function overTimesteps(bins: readonly Bin[], head: Head): number | null {
  let [sum, total] = [0, 0]
  for (const { t, winRate } of bins) {
    const rate = winRate[head]
    if (typeof rate !== 'number') continue
    sum += (t[1] - t[0]) * rate
    total += t[1] - t[0]
  }
  return total > 0 ? sum / total : null
}

function finite(value: unknown): number | null {
  return typeof value === 'number' && Number.isFinite(value) ? value : null
}
