import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { encodePng } from '../../lib/report/png.ts'

/** What a made-up run's folder holds besides thirty logged steps. */
export interface MadeRun {
  readonly config?: object
  readonly previews?: readonly number[]
  readonly instruments?: Readonly<Record<string, object>>
  /** Factor on the losses. */
  readonly scale?: number
  /** Lines of heads.jsonl. */
  readonly heads?: readonly object[]
}

/** A folder for runs that nobody trained; removed by `remove`. */
export async function reportFolder(): Promise<{ folder: string; remove: () => Promise<void> }> {
  const folder = await mkdtemp(join(tmpdir(), 'trislot-report-'))
  return { folder, remove: () => rm(folder, { recursive: true, force: true }) }
}

/** The line of a step, as runs of three heads log it. */
export function madeRow(step: number, scale = 1): object {
  const loss = (scale * (1 + 0.2 * Math.sin(step))) / Math.sqrt(step)
  const bins = Array.from({ length: 10 }, (_, bin) => loss * (1 + bin))
  const counts = new Array(10).fill(4)
  return {
    ...{ step, imagesSeen: 8 * step, loss, gradNorm: 2 * loss, lr: 1e-4 },
    perHead: { xStart: loss, v: 1.5 * loss, eps: 2 * loss },
    chosen: { xStart: 0.5, v: 0.25, eps: 0.25 },
    byBin: {
      ...{ count: counts, loss: bins },
      perHead: { xStart: bins, v: bins.map((value) => 2 * value), eps: bins.map((value) => 3 * value) },
      chosen: { xStart: counts.map(() => 2), v: counts.map(() => 1), eps: counts.map(() => 1) },
    },
  }
}

/** A line of heads.jsonl: three heads at three noise levels, of which xStart wins `share` of the images, v three quarters of the others. */
export function madeHeads(step: number, share: number): object {
  const winRate = { xStart: share, v: 0.75 * (1 - share), eps: 0.25 * (1 - share) }
  const pairs = { 'xStart-v': 0.5, 'xStart-eps': 0.6, 'v-eps': 0.7 }
  const level = (t: readonly [number, number], logSnr: number) => ({
    ...{ t, logSnr, count: 40, winRate, error: { xStart: 0.1, v: 0.2, eps: 0.3 } },
    ...{ minimum: 0.05, best: 'xStart', table: 0.1, blue: null, blueError: 0.08 },
    ...{ correlation: pairs, brightnessGap: pairs },
  })
  return { step, bins: [level([0, 100], 4), level([100, 500], 0), level([500, 1000], -4)] }
}

/** Writes a run's folder. */
export async function makeRun(folder: string, run: MadeRun = {}): Promise<string> {
  const { config = {}, previews = [], instruments = {}, scale = 1, heads = [] } = run
  await mkdir(folder, { recursive: true })
  const options = {
    data: 'digits',
    steps: 300,
    batchSize: 8,
    modelChannels: 32,
    timestepCount: 1000,
    seed: 0,
    choose: 'min',
  }
  await writeFile(join(folder, 'config.json'), JSON.stringify({ ...options, ...config }))
  const steps = Array.from({ length: 30 }, (_, k) => 10 * (k + 1))
  const lines = (rows: readonly object[]) => rows.map((row) => `${JSON.stringify(row)}\n`).join('')
  await writeFile(join(folder, 'stats.jsonl'), lines(steps.map((step) => madeRow(step, scale))))
  await writeFile(
    join(folder, 'timing.jsonl'),
    lines(steps.map((step) => ({ step, stepMs: 90, waitMs: 10, imagesPerSecond: 80 }))),
  )
  if (heads.length > 0) await writeFile(join(folder, 'heads.jsonl'), lines(heads))
  for (const step of previews) {
    await mkdir(join(folder, 'previews'), { recursive: true })
    const data = Uint8Array.from({ length: 24 * 24 }, (_, i) => (i * step) % 251)
    const png = encodePng({ data, width: 24, height: 24, channels: 1 })
    for (const weights of ['raw', 'ema']) {
      const name = `step-${String(step).padStart(8, '0')}-${weights}.png`
      await writeFile(join(folder, 'previews', name), png)
    }
  }
  for (const [name, instrument] of Object.entries(instruments)) {
    await mkdir(join(folder, 'instruments'), { recursive: true })
    await writeFile(join(folder, 'instruments', `${name}.json`), JSON.stringify(instrument))
  }
  return folder
}

/** An instrument with one plot of each kind and a table. */
export const INSTRUMENT = {
  kind: 'probe',
  title: 'Held-out loss by timestep',
  command: 'trislot probe --run runs/digits',
  summary: ['The loss spans a factor of 100.'],
  plots: [
    {
      title: 'Loss',
      x: { label: 't' },
      y: { label: 'loss', scale: 'log' },
      series: [
        {
          name: 'eps',
          x: [0, 500, 999],
          y: [1, 0.1, 0.01],
          low: [0.9, 0.09, 0.009],
          high: [1.1, 0.11, 0.011],
        },
        { name: 'Gaussian model', x: [0, 500, 999], y: [0.9, 0.09, 0.008] },
      ],
      bands: [{ begin: 0, end: 500, label: 'slot 1' }],
    },
    {
      title: 'Change',
      kind: 'heatmap',
      rows: ['a', 'b'],
      columns: ['c', 'd'],
      values: [-1, 0.5, null, 2],
      label: 'change',
      diverging: true,
    },
  ],
  tables: [
    {
      title: 'Spans',
      columns: ['space', 'span'],
      rows: [
        ['eps', 100],
        ['v', null],
      ],
    },
  ],
  data: {},
}

/** Writes a study's folder: arms `plain` and `better`, which is 10 % better, with seeds 0, 1 and 2. */
export async function makeStudy(folder: string): Promise<string> {
  for (const [arm, scale] of [
    ['plain', 1],
    ['better', 0.9],
  ] as const)
    for (const seed of [0, 1, 2]) {
      const cell = await makeRun(join(folder, arm, `seed-${seed}`), { config: { seed, lr: scale * 1e-4 } })
      const F = scale * (0.1 + 0.01 * seed)
      const means = { F, v: F }
      const curve = [80, 160].map((imagesSeen) => ({
        imagesSeen,
        ema: { ...means, F: (160 * F) / imagesSeen },
        raw: means,
      }))
      const ema = { ...means, perTimestep: { F: [F, 2 * F], v: [F, F] } }
      const heldOut = {
        t: [10, 900],
        logSnr: [5, -5],
        heads: ['eps'],
        combine: 'eps',
        ema,
        raw: { ...ema, F: 9 },
      }
      await writeFile(join(cell, 'result.json'), JSON.stringify({ format: 1, arm, seed, heldOut, curve }))
    }
  const arms = { plain: {}, better: {} }
  const file = {
    name: 'rates',
    title: 'Learning rates',
    about: 'Which is better?',
    arms,
    compare: { control: 'plain' },
  }
  await writeFile(join(folder, 'study-file.json'), JSON.stringify(file))
  return folder
}
