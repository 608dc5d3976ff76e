// Figures from the heads of study.json: who is best at each noise level in each arm of several heads, and what choosing or mixing gives.
import { ALL_HEADS } from '../../prediction/heads.ts'
import type { FigureSeries, LineFigure } from './figure.ts'
import { HEAD_COLOUR } from './run-figures.ts'
import { type Fields, isFields } from './run-folder.ts'

const NOISE = { label: 'log snr (much noise left, little right)' } as const

/** Errors and win rates of each arm; empty where study.json tells of none. */
export function studyHeadFigures(arms: readonly Fields[]): LineFigure[] {
  return arms.flatMap(({ arm, heads: named, n, timesteps }) => {
    const levels = Array.isArray(timesteps) ? timesteps.filter(isFields) : []
    if (levels.length < 2 || !Array.isArray(named)) return []
    const heads = ALL_HEADS.filter((head) => named.includes(head))
    const x = levels.map(({ logSnr }) => Number(logSnr))
    const curve = (name: string, color: number, of: (level: Fields) => unknown): FigureSeries => {
      const y = levels.map((level) => {
        const value = of(level)
        return typeof value === 'number' ? value : null
      })
      return { name, color, x, y }
    }
    const perHead = (key: string) =>
      heads.map((head) => curve(head, HEAD_COLOUR[head], (level) => isFields(level[key]) && level[key][head]))
    const knowsWinners = levels.every(({ winRate }) => isFields(winRate))
    return [
      {
        title: `Errors of the heads: ${arm}`,
        x: NOISE,
        y: {
          label: `mean squared error in F space, ${n} ${n === 1 ? 'seed' : 'seeds'}`,
          scale: 'log' as const,
        },
        series: [
          ...perHead('error'),
          curve('best head', 3, ({ table }) => table),
          curve('best mixture', 4, ({ blue }) => blue),
          ...(knowsWinners ? [curve('minimum of each image', 5, ({ minimum }) => minimum)] : []),
        ],
        note: 'Best head and best mixture are chosen on one half of the images and measured on the other; the minimum of each image needs the truth.',
      },
      ...(knowsWinners
        ? [
            {
              title: `Which head has the smallest error: ${arm}`,
              x: NOISE,
              y: { label: 'share of held-out images, in v space', min: 0, max: 1 },
              series: perHead('winRate'),
            },
          ]
        : []),
    ]
  })
}
