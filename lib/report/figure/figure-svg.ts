import type { Spec } from 'vega'
import { escapeHtml } from '../page/html.ts'
import type { Figure } from './figure.ts'
import { heatmapSpec } from './heatmap-spec.ts'
import { lineSpec } from './line-spec.ts'

/** The package vega, which is an ES module only; `scripts/build.mjs` keeps the import() in the CommonJS build. */
async function loadVega(): Promise<typeof import('vega', { with: { 'resolution-mode': 'import' }})> {
  return import('vega')
}

/**
 * Draws a figure as an `svg` element for a page that defines its colours; the same figure gives the same text.
 *
 * @returns undefined when the figure has nothing that can be drawn
 */
export async function figureSvg(
  figure: Figure,
  { width = 920, height = 340 }: { readonly width?: number; readonly height?: number } = {},
): Promise<string | undefined> {
  const spec: Spec | undefined =
    figure.kind === 'heatmap' ? heatmapSpec(figure, width) : lineSpec(figure, { width, height })
  if (!spec) return undefined
  const { parse, View } = await loadVega()
  const view = new View(parse(spec), { renderer: 'none' })
  try {
    const svg = await view.toSVG()
    const head = `<svg class="plot" role="img" aria-label="${escapeHtml(figure.title)}" viewBox="0 0 ${spec.width} ${spec.height}">`
    return svg.replace(/^<svg[^>]*>/, () => head)
  } finally {
    view.finalize()
  }
}
