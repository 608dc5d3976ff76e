// --head-statistics of the commands that measure a network: what `sample --combine table=FILE` and `blue=FILE` read.
import type { z } from 'zod'
import { type MeasureHeadStatisticsOptions, measureHeadStatistics } from '../analysis/head-statistics.ts'
import { argumentError } from '../check.ts'
import { LEAST_COUNT } from '../mixing/head-statistics.ts'
import { writeHeadStatistics } from '../mixing/head-statistics-file.ts'
import { text } from '../options.ts'
import { fewImagesWarning } from '../sampling/combine.ts'
import type { SamplingNetwork } from './network-for-sampling.ts'
import { asUsage, UsageError } from './usage.ts'

export const HEAD_STATISTICS_SHAPE = {
  headStatistics: text().optional().meta({
    description:
      'JSON file for statistics of several heads, which sample --combine table=FILE and blue=FILE read',
  }),
} satisfies Record<string, z.ZodType>

/** Refused before anything is measured. */
export function checkSeveralHeads(call: string, file: string | undefined, { unet }: SamplingNetwork): void {
  const { heads } = unet.layout
  if (file === undefined || heads.length > 1) return
  const what = `absent for a network of one head (${heads[0]})`
  throw new UsageError(argumentError(call, '--head-statistics', what, file).message)
}

/** Measures the network's heads and writes the file; does nothing without one. */
export async function writeMeasuredHeads(
  file: string | undefined,
  { unet, schedule, path, identity }: SamplingNetwork,
  options: MeasureHeadStatisticsOptions,
  line: (text: string) => void,
): Promise<void> {
  if (file === undefined) return
  const statistics = await asUsage(() => measureHeadStatistics(unet, schedule, options))
  const few = fewImagesWarning(file, statistics)
  const [count = 0] = options.images.shape
  if (few) line(few)
  else if (count < LEAST_COUNT) {
    line(
      `warning: ${file} is of ${count} images, each at several timesteps of a noise level; measure with a larger --count`,
    )
  }
  await writeHeadStatistics(file, statistics, { path, identity: await identity() })
}
