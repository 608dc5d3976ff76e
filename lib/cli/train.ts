import type { z } from 'zod'
import { describeMixes } from '../mixing/strategies.ts'
import { text } from '../options.ts'
import { type RunHooks, run } from '../training/run.ts'
import { RUN_SHAPE, type RunOptions, runConfig } from '../training/run-config.ts'
import { parseWithConfig } from './config-option.ts'
import { onInterrupt } from './interrupt.ts'
import { helpText, inOptionNames, inWordsOf } from './options.ts'
import { checkOutputFolder } from './output.ts'
import { lineAfter, streamProgress } from './progress.ts'
import { asUsage, usageOf } from './usage.ts'

const SHAPE = {
  ...RUN_SHAPE,
  config: text()
    .optional()
    .meta({ description: 'config.json of a run, whose options others override', group: 'run' }),
} satisfies Record<string, z.ZodType>

const NOTES = `The folder of a run holds config.json, stats.jsonl, plots, previews/ and checkpoints/. The same command
continues a run that was stopped or killed, bit for bit; more --steps go on further.
Ctrl-C stops after the step under way and saves (exit code 130); a second one leaves at once.

Strategies of --mix, with their numbers as they are unless others are given:
  ${describeMixes().join('\n  ')}`

/** `trislot train`. */
export async function trainCommand(argv: readonly string[]): Promise<number> {
  const call = 'trislot train'
  const { given, wantsHelp } = await asUsage(() => parseWithConfig(call, argv, SHAPE))
  if (wantsHelp) {
    console.log(helpText('Trains a network on images.', `${call} --data digits --steps 2000`, SHAPE, NOTES))
    return 0
  }
  // Without defaults, which a preset or the network of --init may fill in otherwise.
  const { config: _, ...runOptions } = given
  const config = await asUsage(() =>
    inWordsOf(call, SHAPE, () => runConfig(runOptions as unknown as RunOptions, call)),
  )
  await checkOutputFolder(call, '--run', config.run)
  const progress = streamProgress()
  const interrupts = onInterrupt(
    progress.line,
    'stopping after this step, then saving; Ctrl-C again leaves at once',
  )
  let loss: number | undefined
  let hasBegun = false
  try {
    const hooks: RunHooks = {
      signal: interrupts.signal,
      log: lineAfter(`run ${config.run}`, (line) => progress.line(inOptionNames(line, SHAPE))),
      onReport(report) {
        hasBegun = true
        if (Number.isFinite(report.loss))
          loss = loss === undefined ? report.loss : 0.95 * loss + 0.05 * report.loss
        const speed = report.imagesPerSecond.toPrecision(3)
        progress.update(
          report.done,
          report.total,
          `loss ${(loss ?? report.loss).toPrecision(4)}  ${speed} images/s`,
        )
      },
    }
    // What is wrong before the first step is wrong usage: a run that was begun with other options, for instance.
    const result = await inWordsOf(call, SHAPE, () => run(config, hooks)).catch((error: unknown) => {
      const isUsage = !hasBegun && error instanceof Error && error.message.startsWith(`${call}: expected `)
      throw isUsage ? usageOf(error) : error
    })
    progress.end()
    if (result.wasStopped)
      progress.line(`stopped at step ${result.step} of ${config.steps}; the same command goes on`)
    else progress.line(`done: ${result.step} steps; next: trislot sample --run ${result.folder}`)
    return interrupts.code() ?? 0
  } catch (error) {
    return interrupts.codeOf(error)
  } finally {
    progress.end()
    interrupts.stop()
  }
}
