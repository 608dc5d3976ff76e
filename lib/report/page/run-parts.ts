// What the page says about one run.
import { HEADS } from '../../prediction/heads.ts'
import { valueText } from './compare.ts'
import { gradientFigures, headFigures } from './head-figures.ts'
import { type Html, html } from './html.ts'
import { figures, instrumentSections, section } from './parts.ts'
import { choiceFigures, examplesFigure, slotEdges, timestepFigures, trainingFigures } from './run-figures.ts'
import type { RunFolder } from './run-folder.ts'
import { samplesPart } from './samples.ts'

/** Names and values that sum a run up. */
export function facts(run: RunFolder): [name: string, value: string][] {
  const { config, rows, timing, image, parameterCount } = run
  const last = rows.at(-1)
  const known = (name: string, value: string | undefined): [string, string][] =>
    value === undefined ? [] : [[name, value]]
  const size = image && `, ${image.height}×${image.width}${image.channels === 1 ? ' grey' : ''}`
  const loss = last && lastLoss(run)
  return [
    ...known('Data', typeof config.data === 'string' ? `${config.data}${size ?? ''}` : undefined),
    ...known('Predicts', config.modelChannels === undefined ? undefined : headNames(config.heads)),
    ...known('Weights', parameterCount?.toLocaleString('en-US')),
    ...known(
      'Steps',
      last && `${count(last.step)}${typeof config.steps === 'number' ? ` of ${count(config.steps)}` : ''}`,
    ),
    ...known('Images seen', last?.imagesSeen === undefined ? undefined : count(last.imagesSeen)),
    ...known('Batch', typeof config.batchSize === 'number' ? String(config.batchSize) : undefined),
    ...known('Loss, last tenth', loss),
    ...known('Time of training', timing.length > 0 ? duration(trainingSeconds(run)) : undefined),
    ...known('Speed', speed(run)),
    ...known('Seed', config.seed === undefined ? undefined : String(config.seed)),
  ]
}

/** The facts as a list. */
export function factsPart(run: RunFolder): Html | undefined {
  const list = facts(run)
  if (list.length === 0) return undefined
  return html`<dl class="facts">${list.map(([name, value]) => html`<div><dt>${name}</dt><dd>${value}</dd></div>`)}</dl>
`
}

/** Curves, timesteps, heads, samples and instruments of a run, each under a heading. */
export async function runParts(run: RunFolder, level: 2 | 3): Promise<Html[]> {
  const isEmpty = run.rows.length === 0
  const isOnlyMeasured = isEmpty && Object.keys(run.config).length === 0 && run.instruments.length > 0
  const slots = slotEdges(run)
  const examples = examplesFigure(run)
  const timesteps = await figures([...timestepFigures(run), ...(examples ? [examples] : [])])
  const training = isEmpty ? html`<p>No step is logged yet.</p>` : await figures(trainingFigures(run))
  const parts = [
    isOnlyMeasured ? undefined : section('Training', level, [training]),
    section(
      'Timesteps',
      level,
      [timesteps],
      slots && `Stripes are the ${slots.length - 1} slots of timesteps.`,
    ),
    section('Heads', level, [
      await figures(choiceFigures(run)),
      await figures([...headFigures(run), ...gradientFigures(run)]),
    ]),
    section('Samples', level, [await samplesPart(run)]),
    await instrumentSections(run.instruments, level),
  ]
  return parts.filter((part) => part !== undefined)
}

/** Every option of a run, folded. */
export function optionsPart({ config, name }: RunFolder): Html | undefined {
  const entries = Object.entries(config)
  if (entries.length === 0) return undefined
  return html`<details><summary>All ${entries.length} options of ${name}</summary>
<dl class="options">${entries.map(([key, value]) => html`<div><dt>${key}</dt><dd>${valueText(value)}</dd></div>\n`)}</dl></details>
`
}

function headNames(heads: unknown): string {
  return valueText(Array.isArray(heads) ? heads : HEADS)
}

function lastLoss({ rows }: RunFolder): string | undefined {
  const losses = rows.map(({ loss }) => loss).filter((loss) => Number.isFinite(loss))
  const last = losses.slice(-Math.max(1, Math.round(losses.length / 10)))
  return last.length === 0 ? undefined : (last.reduce((a, b) => a + b, 0) / last.length).toPrecision(4)
}

/** Computing and waiting for images; steps between two lines count as the later one's. */
function trainingSeconds({ timing }: RunFolder): number {
  let seconds = 0
  let before = 0
  for (const { step, stepMs, waitMs } of timing) {
    const each = Number(stepMs) + Number(waitMs)
    if (Number.isFinite(each)) seconds += ((Number(step) - before) * each) / 1000
    before = Number(step)
  }
  return seconds
}

function speed({ timing, config }: RunFolder): string | undefined {
  const rates = timing
    .map(({ imagesPerSecond }) => Number(imagesPerSecond))
    .filter(Number.isFinite)
    .sort((a, b) => a - b)
  if (rates.length === 0) return undefined
  const rate = rates[Math.floor(rates.length / 2)]!.toPrecision(3)
  const threads =
    typeof config.threads === 'number' && config.device === 'cpu'
      ? `, ${config.threads} thread${config.threads === 1 ? '' : 's'}`
      : ''
  return `${rate} images/s${threads}`
}

function duration(seconds: number): string {
  if (seconds < 90) return `${Math.round(seconds)} s`
  const minutes = Math.round(seconds / 60)
  return minutes < 90 ? `${minutes} min` : `${Math.floor(minutes / 60)} h ${minutes % 60} min`
}

function count(value: number): string {
  return value.toLocaleString('en-US')
}
