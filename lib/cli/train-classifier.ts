import {
  CLASSIFIER_SHAPE,
  type ClassifierRunOptions,
  classifierRunConfig,
} from '../training/classifier-config.ts'
import { type ClassifierHooks, runClassifier } from '../training/classifier-run.ts'
import { onInterrupt } from './interrupt.ts'
import { helpText, inWordsOf, parseOptions } from './options.ts'
import { checkOutputFolder } from './output.ts'
import { lineAfter, streamProgress } from './progress.ts'
import { asUsage } from './usage.ts'

const NOTES = `The classifier must be trained with the noise schedule of the network that it is to guide.
The folder of a run holds config.json, stats.jsonl and checkpoints/. The same command continues a run that was stopped
or killed, bit for bit; more --steps go on further.
Ctrl-C stops after the step under way and saves (exit code 130); a second one leaves at once.`

/** `trislot train-classifier`. */
export async function trainClassifierCommand(argv: readonly string[]): Promise<number> {
  const call = 'trislot train-classifier'
  const { options, wantsHelp } = parseOptions(call, argv, CLASSIFIER_SHAPE)
  if (wantsHelp) {
    const usage = `${call} --data digits --steps 1000 --model-channels 32 --head-channels 32`
    console.log(
      helpText('Trains a classifier of noised images, for guidance.', usage, CLASSIFIER_SHAPE, NOTES),
    )
    return 0
  }
  const config = await asUsage(() =>
    inWordsOf(call, CLASSIFIER_SHAPE, () => classifierRunConfig(options as ClassifierRunOptions, call)),
  )
  await checkOutputFolder(call, '--run', config.run)
  const progress = streamProgress()
  const interrupts = onInterrupt(
    progress.line,
    'stopping after this step, then saving; Ctrl-C again leaves at once',
  )
  let smooth: { loss: number; accuracy: number } | undefined
  try {
    const hooks: ClassifierHooks = {
      signal: interrupts.signal,
      log: lineAfter(`run ${config.run}`, progress.line),
      onReport({ step, total, loss, accuracy1, imagesPerSecond, validation }) {
        smooth = smooth
          ? { loss: 0.95 * smooth.loss + 0.05 * loss, accuracy: 0.95 * smooth.accuracy + 0.05 * accuracy1 }
          : { loss, accuracy: accuracy1 }
        const percent = (share: number): string => `${(100 * share).toFixed(0)} %`
        const parts = [
          `loss ${smooth.loss.toPrecision(3)}`,
          `accuracy ${percent(smooth.accuracy)}`,
          ...(validation ? [`validation ${percent(validation.accuracy1)}`] : []),
          `${imagesPerSecond.toPrecision(3)} images/s`,
        ]
        progress.update(step, total, parts.join('  '))
      },
    }
    const result = await inWordsOf(call, CLASSIFIER_SHAPE, () => runClassifier(config, hooks))
    progress.end()
    if (result.wasStopped)
      progress.line(`stopped at step ${result.step} of ${config.steps}; the same command goes on`)
    else
      progress.line(
        `done: ${result.step} steps; next: trislot sample --classifier ${result.folder} --run RUN --classifier-scale 1`,
      )
    return interrupts.code() ?? 0
  } catch (error) {
    return interrupts.codeOf(error)
  } finally {
    progress.end()
    interrupts.stop()
  }
}
