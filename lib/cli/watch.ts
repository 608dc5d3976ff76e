import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { platform } from 'node:os'
import type { z } from 'zod'
import { flag, integer, text } from '../options.ts'
import { watchRun } from '../report/watch.ts'
import { onInterrupt } from './interrupt.ts'
import { helpText, parseOptions } from './options.ts'

const SHAPE = {
  run: text('the folder of a run or a study').meta({
    description: 'folder of a run or a study, which may not exist yet; the option’s name may be left out',
  }),
  port: integer(0, 65535).default(8720).meta({ description: 'port of 127.0.0.1; a free one if it is taken' }),
  open: flag().default(false).meta({ description: 'open the page in a browser' }),
} satisfies Record<string, z.ZodType>

/** `trislot watch`; ends at Ctrl-C. */
export async function watchCommand(argv: readonly string[]): Promise<number> {
  const call = 'trislot watch'
  const { options, wantsHelp } = parseOptions(call, argv, SHAPE, undefined, ['run'])
  if (wantsHelp) {
    console.log(
      helpText(
        'Shows the page of a run or a study live, on this machine only, while it trains.',
        `${call} RUN`,
        SHAPE,
      ),
    )
    return 0
  }
  const watch = await watchRun(options.run, { port: options.port })
  const interrupts = onInterrupt(() => {}, '')
  console.log(`${options.run}: ${watch.url} (Ctrl-C ends)`)
  if (options.open) openBrowser(watch.url)
  if (!interrupts.signal.aborted) await once(interrupts.signal, 'abort')
  await watch.close()
  interrupts.stop()
  return 0
}

function openBrowser(url: string): void {
  const [command, ...words] =
    platform() === 'darwin' ? ['open'] : platform() === 'win32' ? ['cmd', '/c', 'start', ''] : ['xdg-open']
  const child = spawn(command!, [...words, url], { stdio: 'ignore', detached: true })
  child.on('error', () => console.error(`trislot watch: no ${command} here; open ${url}`))
  child.unref()
}
