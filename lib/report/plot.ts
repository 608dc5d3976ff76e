import { writeFile } from 'node:fs/promises'
import { argumentError } from '../check.ts'
import { loadSharp } from '../data/decode.ts'
import { type Plot, pictureSvg } from './figure/picture.ts'

export type { Band, FigureAxis as Axis, FigureSeries as Series } from './figure/figure.ts'
export type { Plot } from './figure/picture.ts'

/**
 * Draws lines, points, bars or a matrix as a standalone SVG.
 *
 * @throws RangeError when nothing of it can be drawn, or a matrix has not rows x columns values
 */
export async function plotSvg(plot: Plot): Promise<string> {
  if (plot.kind === 'heatmap') {
    const [count, expected] = [plot.values.flat().length, plot.rows.length * plot.columns.length]
    if (count !== expected) {
      const what = `${plot.rows.length} x ${plot.columns.length} numbers`
      throw argumentError('plotSvg', 'values', what, plot.values)
    }
  }
  const svg = await pictureSvg(plot)
  if (svg !== undefined) return svg
  if (plot.kind === 'heatmap') throw argumentError('plotSvg', 'values', 'at least one number', plot.values)
  const what = 'a series with at least one point that is finite, and positive on a log axis'
  const got = plot.series.map(({ x, y }) => ({ x, y }))
  throw argumentError('plotSvg', 'series', what, got)
}

/** Renders an SVG to PNG bytes through the package sharp. */
export async function svgToPng(svg: string, scale = 1): Promise<Uint8Array> {
  const sharp = await loadSharp('svgToPng')
  return sharp(Buffer.from(svg), { density: 72 * scale })
    .png()
    .toBuffer()
}

/**
 * @internal Writes a plot as `<path>.svg` and, where the package sharp is there, `<path>.png`.
 *
 * @returns the paths; none where nothing can be drawn
 */
export async function writePlot(path: string, plot: Plot): Promise<string[]> {
  const svg = await pictureSvg(plot)
  if (svg === undefined) return []
  await writeFile(`${path}.svg`, svg)
  const png = await svgToPng(svg).catch(() => undefined) // sharp is optional
  if (!png) return [`${path}.svg`]
  await writeFile(`${path}.png`, png)
  return [`${path}.svg`, `${path}.png`]
}
