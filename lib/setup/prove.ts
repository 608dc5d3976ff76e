// Loads the addon in a child process first, so that a crash or a missing symbol becomes a sentence.
import { SetupError } from '../errors.ts'
import { run, tail } from './run.ts'

const program = `
const { constants } = require('node:os')
const module_ = { exports: {} }
process.dlopen(module_, process.argv[1], constants.dlopen?.RTLD_NOW)
process.stdout.write('trislot-version ' + module_.exports.version() + '\\n')
`

/** Loads `file` in a child process and returns the LibTorch version it runs with. Throws a SetupError with what the child said. */
export async function proveAddon(file: string, env: NodeJS.ProcessEnv = process.env): Promise<string> {
  const finished = await run(process.execPath, ['-e', program, file], {
    env: { ...env, NODE_OPTIONS: '' },
    timeoutMs: 120_000,
  })
  const version = finished?.stdout.match(/^trislot-version (.+)$/m)?.[1]
  if (finished?.code === 0 && version !== undefined) return version
  const how = finished?.signal ? `was ended by ${finished.signal}` : `failed with exit code ${finished?.code}`
  const said = finished?.stderr
    .split('\n')
    .filter((line) => !/^\s+at |^node:|^Node\.js|^\s*\^|^$/.test(line))
    .join('\n')
  throw new SetupError(`trislot setup: loading ${file} in a child process ${how}\n${tail(said ?? '', 8)}`)
}
