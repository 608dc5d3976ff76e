// Loads the addon in a child process first, so that a crash or a missing symbol becomes a sentence.
import { SetupError } from '../errors.ts'
import { run, tail } from './run.ts'

const program = `
try {
  const addon = { exports: {} }
  process.dlopen(addon, process.argv[1], require('node:os').constants.dlopen?.RTLD_NOW)
  process.stdout.write('trislot-version ' + addon.exports.version() + '\\n')
} catch (error) {
  process.stderr.write(String(error?.message ?? error))
  process.exitCode = 1
}
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
  throw new SetupError(
    `trislot setup: loading ${file} in a child process ${how}\n${tail(finished?.stderr ?? '', 8)}`,
  )
}
