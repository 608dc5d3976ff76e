import { checkInteger } from '../check.ts'
import { memoryCount, resetPeakMemory } from '../device.ts'
import { uniformSampler } from '../timesteps/uniform.ts'
import { equalShares } from './head-inputs.ts'
import type { Trainer } from './trainer.ts'

/** What `measureSpeed` times. */
export interface SpeedOptions {
  /** Images a step. */
  readonly batchSize: number
  /** Height and width of the images. */
  readonly size: readonly [height: number, width: number]
  /** Steps that are timed, after two that are not; 10 by default. */
  readonly stepCount?: number
  /** Stops between two steps by throwing the signal's reason. */
  readonly signal?: AbortSignal
  /** Called after each step. */
  readonly onStep?: (done: number, total: number) => void
}

/** How fast a trainer is, and how much memory it takes. */
export interface TrainingSpeed {
  /** Median over the steps. */
  readonly stepMs: number
  /** Fastest and slowest step. */
  readonly stepMsRange: readonly [number, number]
  readonly imagesPerSecond: number
  /** The most bytes of tensors that were alive at once, network and optimizer included (host memory). */
  readonly peakTensorBytes: number
  /** The most memory that this process has taken since it began. */
  readonly peakProcessBytes: number
}

const WARM_UP_STEPS = 2

/**
 * Times training steps on made-up images of a given size. They are real steps: the trainer is of no use afterwards.
 *
 * @example
 * const { imagesPerSecond } = await measureSpeed(trainer, { batchSize: 16, size: [28, 28] })
 */
export async function measureSpeed(trainer: Trainer, options: SpeedOptions): Promise<TrainingSpeed> {
  const call = 'measureSpeed'
  const { batchSize, size, stepCount = 10, signal, onStep } = options
  checkInteger(call, 'batchSize', batchSize, 1)
  checkInteger(call, 'stepCount', stepCount, 1)
  const { imageChannels } = trainer.unet.layout
  const { classCount, lowRes } = trainer.unet.nativeConfig
  const shape = [batchSize, imageChannels, ...size] as const
  const data = new Uint8Array(batchSize * imageChannels * size[0] * size[1]).map((_, i) => (i * 37) % 256)
  const labels = new Int32Array(batchSize).map((_, i) => i % Math.max(1, classCount))
  const channels = batchSize * imageChannels
  const condition = { data: data.slice(0, channels), shape: [batchSize, imageChannels, 1, 1] as const } // enlarged first
  const images = {
    ...{ data, shape },
    ...(classCount > 0 && { labels }),
    ...(lowRes && { lowRes: condition }),
  }
  const sampler = uniformSampler({ timestepCount: trainer.schedule.timestepCount })
  const shares = equalShares(trainer, batchSize)

  await resetPeakMemory()
  const times: number[] = []
  const total = WARM_UP_STEPS + stepCount
  for (let i = 0; i < total; i++) {
    signal?.throwIfAborted()
    const { t } = sampler.draw(batchSize, i)
    const begin = performance.now()
    await trainer.trainStep({ images, t, lr: 1e-4, ...shares })
    if (i >= WARM_UP_STEPS) times.push(performance.now() - begin)
    onStep?.(i + 1, total)
  }
  times.sort((a, b) => a - b)
  const middle = (times.length - 1) / 2
  const stepMs = ((times[Math.floor(middle)] as number) + (times[Math.ceil(middle)] as number)) / 2
  return {
    stepMs,
    stepMsRange: [times[0] as number, times.at(-1) as number],
    imagesPerSecond: (1000 * batchSize) / stepMs,
    peakTensorBytes: memoryCount().peakBytes,
    peakProcessBytes: process.resourceUsage().maxRSS * 1024,
  }
}
