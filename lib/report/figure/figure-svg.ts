import type { Spec } from 'vega'
import { escapeHtml } from '../page/html.ts'
import type { Figure } from './figure.ts'
import { heatmapSpec } from './heatmap-spec.ts'
import { lineSpec } from './line-spec.ts'

/** Pixels of a drawing. */
export interface FigureSize {
  readonly width: number
  readonly height: number
}

/** The package vega, which is an ES module only; `scripts/build.mjs` keeps the import() in the CommonJS build. */
async function loadVega(): Promise<typeof import('vega', { with: { 'resolution-mode': 'import' }})> {
  return import('vega')
}

/** A figure as a specification for vega, of the width given; a matrix settles its height. Undefined when nothing can be drawn. */
export function figureSpec(figure: Figure, size: FigureSize): Spec | undefined {
  return figure.kind === 'heatmap' ? heatmapSpec(figure, size.width) : lineSpec(figure, size)
}

/** Draws a specification in a font; `head` is the tag that opens the SVG. The same specification gives the same text. */
export async function drawSpec(spec: Spec, font: string, head: string): Promise<string> {
  const { parse, View } = await loadVega()
  const view = new View(parse(spec, { background: null, font } as unknown as NonNullable<Spec['config']>), {
    renderer: 'none',
  })
  try {
    const svg = await view.toSVG()
    return withNamedClip(svg.replace(/^<svg[^>]*>/, () => head))
  } finally {
    view.finalize()
  }
}

/** vega numbers clips over the life of the process; a name by its shape is the same every time, and right beside other figures. */
function withNamedClip(svg: string): string {
  const shape = /<clipPath id="clip\d+"[^>]*><path d="([^"]*)"/.exec(svg)?.[1]
  if (shape === undefined) return svg
  return svg.replace(/(url\(#|<clipPath id=")clip\d+/g, `$1clip${shape.replace(/[^\d.]+/g, '-')}`)
}

/**
 * Draws a figure as an `svg` element for a page that defines its colours.
 *
 * @returns undefined when the figure has nothing that can be drawn
 */
export async function figureSvg(
  figure: Figure,
  { width = 920, height = 340 }: Partial<FigureSize> = {},
): Promise<string | undefined> {
  const spec = figureSpec(figure, { width, height })
  if (!spec) return undefined
  const head = `<svg class="plot" role="img" aria-label="${escapeHtml(figure.title)}" viewBox="0 0 ${spec.width} ${spec.height}">`
  return drawSpec(spec, 'inherit', head)
}
