import { readFile } from 'node:fs/promises'
import { loadSharp } from '../../data/decode.ts'
import { type Html, html } from './html.ts'
import type { PreviewFile, RunFolder } from './run-folder.ts'

const MOST_STEPS = 16
const MOST_PIXELS = 560 // width and height of a grid on the page
const NAMES: Readonly<Record<string, string>> = { raw: 'weights', ema: 'average of the weights' }

/** Grids of samples over training, from the same noise: one large with a slider, and a filmstrip. Undefined without previews. */
export async function samplesPart(run: RunFolder): Promise<Html | undefined> {
  const steps = spread([...new Set(run.previews.map(({ step }) => step))].sort((a, b) => a - b))
  const kinds = [...new Set(run.previews.map(({ weights }) => weights))].sort().reverse()
  const rows = await Promise.all(
    kinds.map(async (weights) => {
      const files = steps.map((step) =>
        run.previews.find((file) => file.step === step && file.weights === weights),
      )
      return {
        weights,
        images: (await Promise.all(files.map(embedded))).filter((image) => image !== undefined),
      }
    }),
  )
  const shown = rows.filter(({ images }) => images.length > 0)
  if (shown.length === 0) return undefined
  const marks = [...new Set(shown.flatMap(({ images }) => images.map(({ step }) => step)))].sort(
    (a, b) => a - b,
  )
  const last = marks.at(-1)!
  return html`<div class="samples" data-steps="${marks.join(' ')}">
<div class="stages">${shown.map(({ weights, images }) => {
    const { uri, step } = images.at(-1)!
    return html`<figure><img class="stage" data-weights="${weights}" src="${uri}" alt="Samples of ${run.name} at step ${step}, ${nameOf(weights)}"><figcaption>${nameOf(weights)}</figcaption></figure>`
  })}</div>
${
  marks.length > 1 &&
  html`<label class="slider">step <output>${last}</output><input type="range" min="0" max="${marks.length - 1}" value="${marks.length - 1}" step="1" aria-label="Step of the samples"></label>
${shown.map(
  ({ weights, images }) =>
    html`<div class="film" role="group" aria-label="${nameOf(weights)}">${images.map(
      ({ uri, step }) =>
        html`<figure><img data-weights="${weights}" data-step="${step}" src="${uri}" alt="step ${step}, ${nameOf(weights)}"><figcaption>${step}</figcaption></figure>`,
    )}</div>`,
)}`
}
<p class="note">The same noise at every step.${run.previews.some(({ weights }) => weights === 'ema') && ' The average of the weights lags behind early in training.'}</p>
</div>`
}

function nameOf(weights: string): string {
  return NAMES[weights] ?? weights
}

/** At most so many, evenly, with the first and the last. */
function spread(steps: readonly number[]): number[] {
  if (steps.length <= MOST_STEPS) return [...steps]
  return Array.from(
    { length: MOST_STEPS },
    (_, i) => steps[Math.round((i * (steps.length - 1)) / (MOST_STEPS - 1))]!,
  )
}

/** A picture as a data URI, made smaller where it is large; undefined for one that is missing or half written. */
async function embedded(
  preview: PreviewFile | undefined,
): Promise<{ step: number; uri: string } | undefined> {
  if (!preview) return undefined
  const sharp = await loadSharp('writeReport')
  try {
    const inside = {
      width: MOST_PIXELS,
      height: MOST_PIXELS,
      fit: 'inside',
      withoutEnlargement: true,
    } as const
    const picture = sharp(await readFile(preview.file), { failOn: 'error' }).resize(inside)
    // Small images are enlarged by whole pixels, which costs nothing without loss.
    const [exact, close] = await Promise.all([
      picture.clone().webp({ lossless: true }).toBuffer(),
      picture.clone().webp({ quality: 86 }).toBuffer(),
    ])
    const bytes = exact.length <= close.length ? exact : close
    return { step: preview.step, uri: `data:image/webp;base64,${bytes.toString('base64')}` }
  } catch {
    return undefined
  }
}
