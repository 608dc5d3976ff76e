import { z } from 'zod'
import { text } from '../options.ts'
import { writeReport } from '../report/report.ts'
import { helpText, parseOptions } from './options.ts'
import { checkOutputFile } from './output.ts'
import { asUsage } from './usage.ts'

const SHAPE = {
  runs: z
    .array(text(), 'at least one folder of a run')
    .min(1, 'at least one folder of a run')
    .meta({ description: 'folders of runs or studies; the option’s name may be left out' }),
  out: text()
    .optional()
    .meta({ description: 'HTML file to write; report.html by default, in the folder if there is only one' }),
} satisfies Record<string, z.ZodType>

/** `trislot report`. */
export async function reportCommand(argv: readonly string[]): Promise<number> {
  const call = 'trislot report'
  const { options, wantsHelp } = parseOptions(call, argv, SHAPE, undefined, ['runs'])
  if (wantsHelp) {
    console.log(
      helpText(
        'Writes one HTML page about runs, which needs nothing else to be read.',
        `${call} RUN...`,
        SHAPE,
      ),
    )
    return 0
  }
  const { runs, out } = options
  if (out !== undefined) await checkOutputFile(call, '--out', out)
  console.log(await asUsage(() => writeReport(runs, { ...(out !== undefined && { out }) })))
  return 0
}
