import { argumentError, checkInteger, checkKnownOptions, checkNumber } from '../check.ts'
import { checkSlots, type Slot } from '../curriculum/slot.ts'
import { batches } from '../data/batches.ts'
import type { ImageDataset } from '../data/dataset.ts'
import type { HeadDecider } from '../mixing/policy.ts'
import type { Head } from '../prediction/heads.ts'
import { keyedRandom } from '../random.ts'
import { type MeanInterval, meanInterval } from '../statistics/paired.ts'
import type { ImageBatch } from '../tensor.ts'
import { equalShares } from '../training/head-inputs.ts'
import type { Trainer } from '../training/trainer.ts'
import { type ErrorSpace, errorFactors } from './error-space.ts'
import { measureTimestepLoss } from './timestep-loss.ts'

/** The spaces in which interference is told. */
export const INTERFERENCE_SPACES = ['eps', 'F'] as const satisfies readonly ErrorSpace[]

/** Options of `interference`. */
export interface InterferenceOptions {
  /** Ascending slots of timesteps. */
  readonly slots: readonly Slot[]
  /** A new copy of the network with its optimizer each time; it is trained and disposed of. `seed` keys its noise. */
  readonly copy: (seed: number) => Promise<Trainer>
  /** Images to train the copies on. */
  readonly train: ImageDataset
  /** Images to measure on, that training has not seen. */
  readonly heldOut: ImageBatch
  /** One repetition each, no two the same; the interval is over them. 1, 2, 3 by default. */
  readonly seeds?: readonly number[]
  /** Steps on a slot; 60 by default. */
  readonly steps?: number
  readonly lr: number
  /** 16 by default. */
  readonly batchSize?: number
  /** Timesteps measured in each slot; 4 by default. */
  readonly timestepsPerSlot?: number
  /** Deviation of the pixels for F; 0.5 by default. */
  readonly sigmaData?: number
  /** What the training's strategy of several heads says at these timesteps; by default nothing. It learns nothing from the copies. */
  readonly decide?: HeadDecider | undefined
  readonly signal?: AbortSignal
  /** Called after each copy. */
  readonly onProgress?: (done: number, total: number) => void
}

/** Change of held-out loss, slot trained x slot measured, for one head in one space. */
export interface InterferenceMatrix {
  readonly head: Head
  readonly space: (typeof INTERFERENCE_SPACES)[number]
  /** Mean loss of each slot before, [slots]. */
  readonly before: number[]
  /** [slots + 1][slots] loss after minus before; the last row is training on all timesteps. */
  readonly absolute: MeanInterval[][]
  /** The same over the loss before. */
  readonly relative: MeanInterval[][]
  /** Mean relative change of the slot itself, of its neighbours, of the others, of all but itself; null where there are none. */
  readonly own: MeanInterval
  readonly near: MeanInterval | null
  readonly far: MeanInterval | null
  readonly others: MeanInterval | null
  /** Mean relative change over the slots by training on all timesteps. */
  readonly control: MeanInterval
}

/** What training on one slot does to the others. */
export interface Interference {
  readonly slots: readonly Slot[]
  readonly seeds: readonly number[]
  readonly steps: number
  readonly lr: number
  readonly batchSize: number
  /** Measured timesteps of each slot. */
  readonly timesteps: number[][]
  readonly matrices: readonly InterferenceMatrix[]
}

const KNOWN = [
  'slots', 'copy', 'train', 'heldOut', 'seeds', 'steps', 'lr', 'batchSize', 'timestepsPerSlot', 'sigmaData', 'decide', 'signal',
  'onProgress',
] as const // biome-ignore format: one list

/**
 * Trains a copy of a network on each slot, and one on all timesteps, and measures what that does to the held-out loss of every slot
 * (math.md, eq. 116). Within a seed all copies see the same images, and uniforms that become their timesteps.
 */
export async function interference(options: InterferenceOptions): Promise<Interference> {
  const call = 'interference'
  checkKnownOptions(call, options, KNOWN)
  const { slots, copy, train, heldOut, seeds = [1, 2, 3], steps = 60, lr, batchSize = 16 } = options
  const { timestepsPerSlot = 4, sigmaData = 0.5, decide, signal, onProgress } = options
  checkSlots(call, slots)
  checkInteger(call, 'seeds.length', seeds.length, 1)
  for (const [i, seed] of seeds.entries()) {
    // Twice the same seed is twice the same numbers, and an interval over them says nothing.
    if (!Number.isSafeInteger(seed) || seed < 0 || seeds.indexOf(seed) !== i)
      throw argumentError(call, `seeds[${i}]`, 'a whole number that is not there twice', seed)
  }
  checkInteger(call, 'steps', steps, 1)
  checkNumber(call, 'lr', lr, 0)
  checkInteger(call, 'timestepsPerSlot', timestepsPerSlot, 1)
  const timesteps = slots.map((slot) => middles(slot, timestepsPerSlot))

  const first = await copy(seeds[0]!)
  const { schedule } = first
  const { heads } = first.unet.layout
  checkSlots(call, slots, schedule.timestepCount)
  const factors = heads.map((head) =>
    INTERFERENCE_SPACES.map((space) => errorFactors(schedule, head, space, sigmaData)),
  )
  /** Mean loss [heads][spaces][slots]. */
  const measure = async ({ unet, config }: Trainer): Promise<number[][][]> => {
    const t = Int32Array.from(timesteps.flat())
    const { perHead } = await measureTimestepLoss(unet, schedule, {
      ...{ images: heldOut, timesteps: t, seed: 0, training: config },
      ...(signal && { signal }),
    })
    return factors.map((ofHead, h) =>
      ofHead.map((factor) => {
        let row = 0
        return timesteps.map((ofSlot) => {
          return mean(ofSlot.map((s) => perHead[row++ * heads.length + h]! * factor[s]!))
        })
      }),
    )
  }
  const before = await measure(first)
  release(first)

  const everything = { begin: slots[0]!.begin, end: slots.at(-1)!.end }
  const rows = [...slots, everything]
  const after: number[][][][][] = [] // [seeds][rows][heads][spaces][slots]
  for (const seed of seeds) {
    const ofSeed: number[][][][] = []
    for (const row of rows) {
      const trainer = await copy(seed)
      try {
        await trainOn(row, trainer, {
          train,
          seed,
          steps,
          lr,
          batchSize,
          decide,
          signal,
          withLabels: !!heldOut.labels,
        })
        ofSeed.push(await measure(trainer))
      } finally {
        release(trainer)
      }
      onProgress?.(after.length * rows.length + ofSeed.length, seeds.length * rows.length)
    }
    after.push(ofSeed)
  }

  const matrices = heads.flatMap((head, h) =>
    INTERFERENCE_SPACES.map((space, s): InterferenceMatrix => {
      const start = before[h]![s]!
      const change = (seed: number, i: number, j: number): number => after[seed]![i]![h]![s]![j]! - start[j]!
      const share = (seed: number, i: number, j: number): number => change(seed, i, j) / start[j]!
      const matrix = (of: (seed: number, i: number, j: number) => number): MeanInterval[][] =>
        rows.map((_, i) => slots.map((_, j) => meanInterval(seeds.map((_, seed) => of(seed, i, j)))))
      const bySeed = (of: (seed: number) => number): MeanInterval =>
        meanInterval(seeds.map((_, seed) => of(seed)))
      const over = (wanted: (distance: number) => boolean): MeanInterval | null => {
        const cells = slots.flatMap((_, i) =>
          slots.flatMap((_, j) => (wanted(Math.abs(i - j)) ? [[i, j] as const] : [])),
        )
        return cells.length === 0 ? null : bySeed((seed) => mean(cells.map(([i, j]) => share(seed, i, j))))
      }
      return {
        ...{ head, space, before: start, absolute: matrix(change), relative: matrix(share) },
        own: bySeed((seed) => mean(slots.map((_, j) => share(seed, j, j)))),
        near: over((distance) => distance === 1),
        far: over((distance) => distance > 1),
        others: over((distance) => distance > 0),
        control: bySeed((seed) => mean(slots.map((_, j) => share(seed, slots.length, j)))),
      }
    }),
  )
  return { slots, seeds, steps, lr, batchSize, timesteps, matrices }
}

/** Timesteps in the middle of equal parts of a slot; fewer where it is short. */
function middles({ begin, end }: Slot, count: number): number[] {
  const parts = Math.min(count, end - begin)
  return Array.from({ length: parts }, (_, i) => begin + Math.floor(((i + 0.5) * (end - begin)) / parts))
}

async function trainOn(
  { begin, end }: Slot,
  trainer: Trainer,
  options: {
    readonly train: ImageDataset
    readonly seed: number
    readonly steps: number
    readonly lr: number
    readonly batchSize: number
    readonly withLabels: boolean
    readonly decide: HeadDecider | undefined
    readonly signal: AbortSignal | undefined
  },
): Promise<void> {
  const { train, seed, steps, lr, batchSize, withLabels, decide, signal } = options
  const source = batches(train, { batchSize, seed, withLabels, prefetch: 1 })
  const random = keyedRandom(seed, 'timesteps')
  const shares = equalShares(trainer, batchSize)
  try {
    for (let step = 0; step < steps; step++) {
      signal?.throwIfAborted()
      const { value: images } = await source.next()
      const stream = random.at(step)
      const t = Int32Array.from(
        { length: batchSize },
        () => begin + Math.floor(stream.uniform() * (end - begin)),
      )
      await trainer.trainStep({ images, t, lr, ...(decide?.(t) ?? shares) })
    }
  } finally {
    await source.return?.()
  }
}

function mean(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length
}

function release(trainer: Trainer): void {
  trainer.dispose()
  trainer.unet.dispose()
}
