import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { writeNpz } from '../../lib/data/npz.ts'
import { keyedRandom } from '../../lib/random.ts'
import type { RunOptions } from '../../lib/training/run-config.ts'

/** A temporary folder with 24 random 8x8 pictures in `images.npz`; removed by `remove`. */
export async function smallData(): Promise<{ folder: string; data: string; remove: () => Promise<void> }> {
  const folder = await mkdtemp(join(tmpdir(), 'trislot-run-'))
  const data = join(folder, 'images.npz')
  const stream = keyedRandom(5, 'probe').at(0)
  const pixels = Uint8Array.from({ length: 24 * 8 * 8 }, () => stream.integer(0, 256))
  await writeNpz(data, { arr_0: { data: pixels, shape: [24, 8, 8, 1] } })
  return { folder, data, remove: () => rm(folder, { recursive: true, force: true }) }
}

/** Options of a run that takes milliseconds a step and uses everything that could break a resume. */
export const SMALL = {
  preset: 'tiny',
  dropout: 0.1,
  flip: true,
  batchSize: 4,
  microBatch: 3,
  schedule: 'cosine',
  timestepCount: 4, // so that the sampler soon has its history and leaves uniform draws
  sampler: 'loss-second-moment',
  choose: 'min',
  lr: 1e-3,
  warmupSteps: 5,
  emaRates: [0.9, 0.99],
  threads: 1,
  previewEvery: 0,
  logEvery: 1,
} as const satisfies Partial<RunOptions>

/** The same options as words of a command line. */
export function asArguments(options: Partial<RunOptions>): string[] {
  return Object.entries(options).flatMap(([key, value]) => {
    const name = key.replaceAll(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)
    if (typeof value === 'boolean') return [value ? `--${name}` : `--no-${name}`]
    return [`--${name}`, String(value)]
  })
}
