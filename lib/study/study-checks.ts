// What can only be wrong of a study's settings together: found before anything is trained.
import { argumentError, checkInteger } from '../check.ts'
import type { ImageDataset } from '../data/dataset.ts'
import { ALL_HEADS, HEADS, type Head } from '../prediction/heads.ts'
import { checkCombine } from '../sampling/combine.ts'
import { openImages, splitImages } from '../training/run.ts'
import { datasetOptions, type RunConfig, type RunOptions, runConfig } from '../training/run-config.ts'
import { runSchedule, trainedTimestepCount } from '../training/timestep-options.ts'
import { parseMetric } from './metric.ts'
import type { EvaluationSettings, SampleSettings, StudyArm } from './study-file.ts'

/**
 * Checks that networks which are trained with these options can be evaluated so.
 *
 * @throws RangeError that names the setting
 */
export async function checkEvaluation(
  call: string,
  config: RunConfig,
  evaluate: EvaluationSettings,
): Promise<void> {
  const trained: readonly Head[] = config.heads ?? HEADS
  const heads = ALL_HEADS.filter((head) => trained.includes(head))
  if (heads.includes('xPrev')) {
    throw argumentError(call, 'heads', `among ${HEADS.join(', ')}, F, whose errors are comparable`, heads)
  }
  const { timesteps, alsoAt, samples, bitsPerDim, combinations = [] } = evaluate
  const timestepCount = trainedTimestepCount(config)
  if (typeof timesteps === 'number') checkInteger(call, 'evaluate.timesteps', timesteps, 2, timestepCount)
  else checkInteger(call, 'evaluate.timesteps.length', timesteps.length, 1)
  for (const [name, list] of Object.entries({ timesteps, alsoAt })) {
    for (const [i, t] of Array.isArray(list) ? list.entries() : [])
      checkInteger(call, `evaluate.${name}[${i}]`, t, 0, timestepCount - 1)
  }
  if (samples) checkSamples(call, config, evaluate.images, timestepCount, samples)
  if (bitsPerDim) checkInteger(call, 'evaluate.bitsPerDim.steps', bitsPerDim.steps, 2, timestepCount)

  const [name, own] =
    evaluate.combine === undefined ? ['combine', config.combine] : ['evaluate.combine', evaluate.combine]
  const words = [[name, own], ...combinations.map((word, i) => [`evaluate.combinations[${i}]`, word])]
  for (const [where, word] of heads.length > 1 ? words : words.slice(0, 1)) {
    await checkCombine(word as string, heads, config.gate ?? false).catch((error: Error) => {
      const what = `a way to combine the arm's heads (${heads.join(', ')})`
      throw argumentError(call, where as string, what, word, { hint: error.message })
    })
  }
}

function checkSamples(
  call: string,
  config: RunConfig,
  images: number,
  timestepCount: number,
  { steps, spacing, count, solver = 'ddim', lowerOrderFinal }: SampleSettings,
): void {
  if (lowerOrderFinal !== undefined && solver !== 'dpmpp2m') {
    const what = `absent, which belongs to dpmpp2m (evaluate.samples.solver is ${solver})`
    throw argumentError(call, 'evaluate.samples.lowerOrderFinal', what, lowerOrderFinal)
  }
  checkInteger(call, 'evaluate.samples.steps.length', steps.length, 1)
  for (const [i, stepCount] of steps.entries()) {
    // A single step of guided-diffusion's spacing is at the cleanest timestep, where noise says nothing.
    checkInteger(call, `evaluate.samples.steps[${i}]`, stepCount, 2, timestepCount)
  }
  if (spacing !== undefined) {
    const schedule = runSchedule(config)
    try {
      for (const stepCount of steps) schedule.respace({ spacing, steps: stepCount }).dispose()
    } catch (error) {
      const hint = (error as Error).message
      throw argumentError(call, 'evaluate.samples.spacing', "one of the arm's schedule", spacing, { hint })
    } finally {
      schedule.dispose()
    }
  }
  if (config.superResolution !== undefined && count > images) {
    const what = `at most the ${images} held-out images of the evaluation, which super-resolution makes larger`
    throw argumentError(call, 'evaluate.samples.count', what, count)
  }
}

/**
 * Checks that metrics have a name that is known, and are measured of some arm.
 *
 * @throws RangeError that names the metric
 */
export function checkMetrics(call: string, names: readonly string[], arms: readonly StudyArm[]): void {
  const drawn = new Set(arms.flatMap(({ evaluate }) => evaluate.samples?.steps ?? []))
  const combined = new Set(
    arms.flatMap(({ combine, evaluate }) => [combine, ...(evaluate.combinations ?? [])]),
  )
  for (const name of names) {
    const { kind, steps, combination, weights, sample } = parseMetric(call, name)
    const refuse = (what: string): never => {
      throw argumentError(call, 'compare.metrics', what, name)
    }
    if (kind === 'heldOut') {
      if (weights && !arms.some((arm) => measuresWeights(arm, weights)))
        refuse('of weights that evaluate measures; bothWeights is false')
      continue
    }
    if (steps !== undefined && !drawn.has(steps))
      refuse(`of samples that evaluate.samples draws (steps ${[...drawn].join(', ') || 'none'})`)
    if (sample === 'mse' && !arms.some(({ config }) => config.superResolution !== undefined))
      refuse('another, because no arm is of super-resolution')
    if (kind === 'bits' && !arms.some(({ evaluate }) => evaluate.bitsPerDim))
      refuse('without bitsPerDim, which evaluate does not measure')
    if (combination !== undefined && !combined.has(combination))
      refuse(`with a combination of some arm or of evaluate.combinations (${[...combined].join(', ')})`)
  }
}

/**
 * Opens each source of images once, and sets aside what each arm holds out, so that no cell begins whose images are missing.
 *
 * @throws the error of the source, which names the arm
 */
export async function checkSources(call: string, arms: readonly StudyArm[]): Promise<void> {
  const opened = new Map<string, ImageDataset>()
  for (const { name, options } of arms) {
    const where = `${call} arms.${name}`
    try {
      const config = await runConfig(options as RunOptions)
      const { data, classes, superResolution } = config
      const source = JSON.stringify([data, classes, superResolution, datasetOptions(config)])
      const dataset = opened.get(source) ?? (await openImages(config))
      opened.set(source, dataset)
      splitImages(dataset, config)
    } catch (error) {
      if (error instanceof Error) error.message = `${where}: ${error.message.replace(/^run: /, '')}`
      throw error
    }
  }
}

/** Whether held-out errors of these weights are measured of an arm; without an average those themselves are both. */
export function measuresWeights({ evaluate, options }: StudyArm, weights: 'ema' | 'raw'): boolean {
  return evaluate.bothWeights || evaluate.weights === weights || options.emaRates?.length === 0
}
