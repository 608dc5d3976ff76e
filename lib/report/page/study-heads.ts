// Figures from the heads of study.json: who is best at each noise level in each arm of several heads, and what choosing or mixing gives.
import { ALL_HEADS } from '../../prediction/heads.ts'
import { type LineFigure, NOISE_AXIS } from '../figure/figure.ts'
import { curve } from './head-figures.ts'
import { HEAD_COLOUR } from './run-figures.ts'
import { type Fields, isFields } from './run-folder.ts'

/** Errors and win rates of each arm; empty where study.json tells of none. */
export function studyHeadFigures(arms: readonly Fields[]): LineFigure[] {
  return arms.flatMap(({ arm, heads: named, n, timesteps }) => {
    const levels = Array.isArray(timesteps) ? timesteps.filter(isLevel) : []
    if (levels.length < 2 || !Array.isArray(named)) return []
    const heads = ALL_HEADS.filter((head) => named.includes(head))
    const perHead = (key: string) =>
      heads.map((head) =>
        curve(levels, head, HEAD_COLOUR[head], (level) => isFields(level[key]) && level[key][head]),
      )
    const knowsWinners = levels.every(({ winRate }) => isFields(winRate))
    return [
      {
        title: `Errors of the heads: ${arm}`,
        x: NOISE_AXIS,
        y: {
          label: `mean squared error in F space, ${n} ${n === 1 ? 'seed' : 'seeds'}`,
          scale: 'log' as const,
        },
        series: [
          ...perHead('error'),
          curve(levels, 'best head', 3, ({ table }) => table),
          curve(levels, 'best mixture', 4, ({ blue }) => blue),
          ...(knowsWinners ? [curve(levels, 'minimum of each image', 5, ({ minimum }) => minimum)] : []),
        ],
        note: 'Best head and best mixture are chosen on one half of the images and measured on the other; the minimum of each image needs the truth.',
      },
      ...(knowsWinners
        ? [
            {
              title: `Which head has the smallest error: ${arm}`,
              x: NOISE_AXIS,
              y: { label: 'share of held-out images, in v space', min: 0, max: 1 },
              series: perHead('winRate'),
            },
          ]
        : []),
    ]
  })
}

function isLevel(value: unknown): value is Fields & { readonly logSnr: number } {
  return isFields(value) && typeof value.logSnr === 'number'
}
