// The names of series above a picture, beside a piece of each one's line.
import type { Mark } from 'vega'
import { type LineFigure, seriesColour, seriesPen } from './figure.ts'
import { DASHES, text } from './line-marks.ts'
import type { Block } from './picture.ts'

const ROW = 19 // pixels from a row of names to the next
const SAMPLE = 22
const BESIDE = 44 // the piece of line and the gaps around the name
const LETTER = 6.8 // on average: a name too narrow makes up for one too wide

/** The named series of a figure, as many beside each other as the width has room for; nothing of less than two. */
export function legendOf({ series }: LineFigure, width: number): Block {
  let [left, row] = [0, 0]
  const items = series.flatMap((one, i) => {
    if (one.name === '') return []
    const own = BESIDE + one.name.length * LETTER
    if (left > 0 && left + own > width) [left, row] = [0, row + 1]
    const item = { ...one, color: one.color ?? i, left, row }
    left += own
    return [item]
  })
  const at = (y: number) =>
    items.flatMap(({ name, kind = 'line', color, opacity = 1, left: x, row: below }): Mark[] => {
      const middle = y + (below + 0.5) * ROW
      const place = { x: { value: x }, y: { value: middle } }
      const stroke = { stroke: { value: seriesColour(color) }, strokeOpacity: { value: opacity } }
      const fill = { fill: { value: seriesColour(color) }, fillOpacity: { value: opacity } }
      const pen = { strokeWidth: { value: 2.6 }, strokeDash: { value: [...DASHES[seriesPen(color)]] } }
      const piece =
        kind === 'line' || kind === 'steps'
          ? { type: 'rule', encode: { enter: { ...place, x2: { value: x + SAMPLE }, ...stroke, ...pen } } }
          : {
              type: 'symbol',
              encode: {
                enter: {
                  ...{ ...place, x: { value: x + SAMPLE / 2 }, ...fill, size: { value: 60 } },
                  shape: { value: kind === 'bars' ? 'square' : 'circle' },
                },
              },
            }
      const look = { baseline: 'middle', fill: 'var(--ink)', fontSize: 12 }
      return [piece as Mark, text(name, x + SAMPLE + 7, middle, look)]
    })
  return items.length < 2 ? { height: 0, at: () => [] } : { height: (row + 1) * ROW + 2, at }
}
