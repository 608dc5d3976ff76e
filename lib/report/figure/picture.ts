// A figure as a picture that stands alone: with its title, its legend, colours and a size of its own.
import type { Mark } from 'vega'
import { escapeHtml } from '../page/html.ts'
import type { Figure } from './figure.ts'
import { drawSpec, figureSpec } from './figure-svg.ts'
import { widthOfMatrix } from './heatmap-spec.ts'
import { legendOf } from './legend.ts'
import { text } from './line-marks.ts'
import { namesLines } from './line-spec.ts'
import { coloured, LIGHT } from './palette.ts'

/** A figure, and what its picture is to be. */
export type Plot = Figure & {
  /** Below the title; what the numbers are for a matrix, unless given. */
  readonly subtitle?: string
  /** Pixels. Default 860 x 500; a matrix is as wide and high as its cells. */
  readonly width?: number
  readonly height?: number
}

const ZOOM = 1.25 // a page is read from nearer than a picture
const MARGIN = 16
const GAP = 8
const LEAST_HEIGHT = 120
const TITLE = { fontSize: 17, lineHeight: 22, fontWeight: 650, fill: 'var(--ink)' }
const SUBTITLE = { fontSize: 13, lineHeight: 18, fill: 'var(--muted)' }
const NOTE = { fontSize: 11, lineHeight: 15, fill: 'var(--muted)' }

/** Something above or below a figure. */
export interface Block {
  readonly height: number
  /** Its marks, for the y of its upper side. */
  readonly at: (y: number) => Mark[]
}

/**
 * Draws a figure as a standalone SVG in light colours; the same figure gives the same bytes.
 *
 * @returns undefined when the figure has nothing that can be drawn
 */
export async function pictureSvg(plot: Plot): Promise<string | undefined> {
  const width = Math.round(widthOf(plot) - 2 * MARGIN)
  const { subtitle = plot.kind === 'heatmap' ? plot.label : '', note = '' } = plot
  const above = [words(plot.title, TITLE, width), words(subtitle, SUBTITLE, width)]
  if (plot.kind !== 'heatmap' && !namesLines(plot, width)) above.push(legendOf(plot, width))
  const below = words(note, NOTE, width)
  const top = MARGIN + above.reduce((sum, { height }) => sum + height, GAP)
  const bottom = below.height + (below.height > 0 ? 2 * GAP : GAP)
  const height = Math.max(LEAST_HEIGHT, (plot.height ?? 500) / ZOOM - top - bottom)
  const spec = figureSpec(plot, { width, height })
  if (!spec) return undefined

  let y = MARGIN - top
  const marks = above.flatMap((block) => {
    y += block.height
    return block.at(y - block.height)
  })
  const own = spec.height as number
  const size = [width + 2 * MARGIN, top + own + bottom]
  const [pixelWidth, pixelHeight] = size.map((length) => Math.round(ZOOM * length))
  const head = `<svg xmlns="http://www.w3.org/2000/svg" role="img" aria-label="${escapeHtml(plot.title)}" width="${pixelWidth}" height="${pixelHeight}" viewBox="0 0 ${size.join(' ')}">`
  const framed = {
    ...{ ...spec, background: '#ffffff', padding: { left: MARGIN, right: MARGIN, top, bottom } },
    marks: [...(spec.marks ?? []), ...marks, ...below.at(own + GAP)],
  }
  return `${coloured(await drawSpec(framed, 'sans-serif', head), LIGHT)}\n`
}

/** Of the whole picture, before it is enlarged. */
function widthOf(plot: Plot): number {
  if (plot.width !== undefined || plot.kind !== 'heatmap') return (plot.width ?? 860) / ZOOM
  return Math.max(420, widthOfMatrix(plot)) + 2 * MARGIN
}

/** Words in as many lines as they need. */
function words(all: string, look: typeof SUBTITLE & { readonly fontWeight?: number }, width: number): Block {
  const letters = width / ((look.fontWeight === undefined ? 0.57 : 0.65) * look.fontSize)
  const lines: string[] = []
  for (const word of all.split(' ').filter((one) => one !== '')) {
    const longer = `${lines.at(-1)} ${word}`
    if (lines.length > 0 && longer.length <= letters) lines[lines.length - 1] = longer
    else lines.push(word)
  }
  const at = (y: number) => (lines.length === 0 ? [] : [text(lines, 0, y, { baseline: 'top', ...look })])
  return { height: lines.length * look.lineHeight, at }
}
