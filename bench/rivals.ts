// How PyTorch is run: the reference, and everything that may make it faster (bench/reference/bench_worker.py explains it).
import type { Precision } from '../lib/index.ts'
import type { Work } from './protocol.ts'

/** Choices that are on; the others are off. */
export type Variant = Readonly<Record<string, boolean>>

/** As guided-diffusion runs it. */
export const REFERENCE: Variant = {}

/** What is expected to be fastest, for measurements that do not try all. */
export function plausibleBest(work: Work, precision: Precision): Variant {
  return {
    channelsLast: true,
    sdpa: true,
    ...(work === 'train' && { fusedAdamW: true }),
    ...(precision === 'bf16' && { mixedNorm: true }),
    ...(precision === 'bf16' && work === 'ddim' && { bf16Weights: true }),
  }
}

/** The combinations that are tried: all of them, or those around the plausible best with one choice taken back. */
export function candidates(work: Work, precision: Precision, isQuick: boolean): Variant[] {
  const best = plausibleBest(work, precision)
  const names = Object.keys(best)
  if (isQuick) {
    const uncertain = ['channelsLast', 'bf16Weights', 'mixedNorm'].filter((name) => best[name])
    return [best, ...uncertain.map((name) => ({ ...best, [name]: false }))]
  }
  return Array.from({ length: 2 ** names.length }, (_, bits) =>
    Object.fromEntries(names.map((name, i) => [name, (bits & (1 << i)) !== 0])),
  )
}

/** The choices that are on, in words. */
export function describe(variant: Variant): string {
  const on = Object.keys(variant).filter((name) => variant[name])
  return on.length > 0 ? on.join('+') : 'as guided-diffusion'
}
