import type { z } from 'zod'
import { flag, integer, numbers, oneOf, positive, text } from '../options.ts'
import { SWEEP_HALF_LIVES, SWEEP_SPACES, sweepStudy } from '../study/sweep.ts'
import { RUN_SHAPE } from '../training/run-config.ts'
import { helpText, parseOptions } from './options.ts'
import { studyOf } from './study.ts'
import { asUsage } from './usage.ts'

const about = <T extends z.ZodType>(description: string, schema: T): T => schema.meta({ description }) as T
const words = (description: string) => about(description, text().optional())

/** Of every arm's run. */
const SHARED = {
  data: RUN_SHAPE.data,
  size: RUN_SHAPE.size,
  classes: RUN_SHAPE.classes,
  preset: RUN_SHAPE.preset,
  modelChannels: RUN_SHAPE.modelChannels,
  channelMult: RUN_SHAPE.channelMult,
  resBlockCount: RUN_SHAPE.resBlockCount,
  attentionResolutions: RUN_SHAPE.attentionResolutions,
  normGroups: RUN_SHAPE.normGroups,
  schedule: RUN_SHAPE.schedule,
  precision: RUN_SHAPE.precision,
  device: RUN_SHAPE.device,
}

const SHAPE = {
  ...SHARED,
  lr: about('learning rate of every arm', positive().default(2e-4)),
  images: about('images that every arm sees', integer(1).default(24_000)),
  batchSizes: about('batch sizes', numbers('a list of batch sizes').default([4, 8, 16, 32, 64])),
  samplers: words('samplers of timesteps; uniform,systematic by default'),
  spaces: words(`of the loss, among ${SWEEP_SPACES.join(', ')} (v is predicted for F); all by default`),
  halfLives: words(`of average and beta2, among ${SWEEP_HALF_LIVES.join(', ')}; all by default`),
  emaHalfLife: about('of the average in images; a twentieth of the images by default', positive().optional()),
  beta2HalfLife: about('of beta2 in images', positive().default(20_000)),
  seeds: about('seeds', numbers('a list of seeds').default([0, 1, 2, 3, 4])),
  heldOut: about('held-out images that are measured', integer(1).default(512)),
  samples: about('images that are drawn of every cell and compared; 0 draws none', integer(0).default(512)),
  sampleSteps: about('steps of their sampler', numbers('a list of step counts').default([10])),
  out: about('folder of the sweep', text().default('studies/sweep')),
  jobs: about('cells that are trained at a time; as many as there are cores by default', integer(1, 1024).optional()),
  onlyReport: about('train nothing: statistics and plots of what is there', flag().default(false)),
} satisfies Record<string, z.ZodType> // biome-ignore format: one option a line

const NOTES = `Every combination is an arm of a study (docs/studies.md), compared with the first at equal images. The same command
goes on where it was stopped or killed.`

/** `trislot sweep`. */
export async function sweepCommand(argv: readonly string[]): Promise<number> {
  const call = 'trislot sweep'
  const { options, given, wantsHelp } = await asUsage(() => parseOptions(call, argv, SHAPE))
  if (wantsHelp) {
    const title = 'Trains batch sizes, samplers, loss spaces and half-lives at equal images.'
    console.log(helpText(title, `${call} --data digits --preset digits --batch-sizes 4,64`, SHAPE, NOTES))
    return 0
  }
  const { images, batchSizes, samplers, spaces, halfLives, emaHalfLife, beta2HalfLife, seeds, out } = options
  const { heldOut, samples, sampleSteps, jobs, onlyReport } = options
  const list = <W extends string>(name: string, value: string | undefined, known: readonly [W, ...W[]]) =>
    value?.split(',').map((word) => {
      const parsed = oneOf(known).safeParse(word)
      if (parsed.success) return parsed.data as W
      throw new RangeError(`${call}: expected --${name} to be among ${known.join(', ')}, got ${word}`)
    })
  const base = Object.fromEntries(
    Object.keys(SHARED).flatMap((key) => (given[key] === undefined ? [] : [[key, given[key]]])),
  )
  const study = await asUsage(() =>
    sweepStudy({
      ...{ images, batchSizes, seeds, out, beta2HalfLife, base: { ...base, lr: options.lr } },
      ...(samplers && { samplers: samplers.split(',') }),
      ...(spaces && { spaces: list('spaces', spaces, SWEEP_SPACES as never) ?? [] }),
      ...(halfLives && { halfLives: list('half-lives', halfLives, SWEEP_HALF_LIVES as never) ?? [] }),
      ...(emaHalfLife !== undefined && { emaHalfLife }),
      evaluate: {
        images: heldOut,
        ...(samples > 0 && { samples: { count: samples, steps: sampleSteps } }),
      },
    }),
  )
  const metrics = [...(study.compare?.metrics ?? [])]
  if (samples > 0) {
    for (const steps of sampleSteps)
      metrics.push(`slicedWasserstein@${steps}`, `frechet@${steps}`, `kid@${steps}`)
  }
  const run = { jobs, onlyReport, arms: undefined, seeds: undefined }
  return studyOf(call, { ...study, compare: { metrics } }, run)
}
