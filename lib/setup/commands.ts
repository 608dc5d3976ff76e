// The two commands that work before anything is built: setup and doctor.
import { type ParseArgsConfig, parseArgs } from 'node:util'
import { argumentError, nearest } from '../check.ts'
import { SetupError } from '../errors.ts'
import { doctor, formatReport } from './doctor.ts'
import { streamReporter } from './report.ts'
import { defaultSurroundings, type SetupOptions, setup } from './setup.ts'

type OptionTable = NonNullable<ParseArgsConfig['options']>

const setupTable = {
  libtorch: { type: 'string' },
  cuda: { type: 'boolean' },
  wheel: { type: 'string' },
  mirror: { type: 'string' },
  sha256: { type: 'string' },
  force: { type: 'boolean' },
  'keep-build': { type: 'boolean' },
  jobs: { type: 'string' },
  help: { type: 'boolean' },
} as const satisfies OptionTable

const setupHelp = `trislot setup: finds LibTorch, builds the native addon, loads it once, and remembers it

  --libtorch DIR  use this LibTorch (a folder with lib/ and include/); else LIBTORCH, the
                  cache, the torch of the active Python, and last a download are tried
  --cuda          a LibTorch with CUDA; fetches the whole set (2.7 GB) when none is found
  --wheel FILE    when fetching: take this wheel, with the NVIDIA wheels beside it (offline)
  --mirror URL    when fetching: take the wheels, or the LibTorch archive, from this server
  --sha256 HEX    hash of a wheel or archive that is not the pinned one
  --force         search and build again although everything is there
  --keep-build    leave the build folder: the next build compiles only what has changed
  --jobs N        compilers at once (as many as cores and memory allow)

The cache is TRISLOT_HOME, else XDG_CACHE_HOME/trislot, else the platform's cache folder.`

/** Runs `trislot setup`; returns the exit code: 0 done, 1 failed, 2 wrong options. */
export async function runSetup(argv: string[]): Promise<number> {
  return await guarded(async () => {
    const values = parse('trislot setup', argv, setupTable)
    if (values.help) {
      console.log(setupHelp)
      return 0
    }
    const { 'keep-build': keepBuild, jobs, help: _, ...rest } = values
    const options: SetupOptions = {
      ...rest,
      keepBuild,
      jobs: jobs === undefined ? undefined : wholeNumber(jobs),
    }
    await setup(options, defaultSurroundings(streamReporter()))
    return 0
  })
}

const doctorTable = { json: { type: 'boolean' }, help: { type: 'boolean' } } as const satisfies OptionTable

/** Runs `trislot doctor`; returns the exit code: 0 all works, 1 something is broken, 2 wrong options. */
export async function runDoctor(argv: string[]): Promise<number> {
  return await guarded(async () => {
    const values = parse('trislot doctor', argv, doctorTable)
    if (values.help) {
      console.log(
        'trislot doctor [--json]: examines Node, LibTorch, the addon, CUDA and memory; ends with 1 when something is broken',
      )
      return 0
    }
    const report = await doctor()
    console.log(values.json ? JSON.stringify(report, undefined, 2) : formatReport(report))
    return report.ok ? 0 : 1
  })
}

async function guarded(work: () => Promise<number>): Promise<number> {
  try {
    return await work()
  } catch (error) {
    if (error instanceof TypeError || error instanceof RangeError) {
      console.error(error.message)
      return 2
    }
    // A full disk or a folder that cannot be written is no fault of the program, so it gets a sentence and no stack.
    const isSystemError = error instanceof Error && 'syscall' in error
    if (!(error instanceof SetupError) && !isSystemError) throw error
    console.error(isSystemError ? `trislot: ${error.message}` : error.message)
    return 1
  }
}

function wholeNumber(text: string): number {
  if (!/^\d+$/.test(text)) throw argumentError('trislot setup', '--jobs', 'a whole number', text)
  return Number(text)
}

/** Parses options strictly; an unknown one is refused with the nearest name. */
function parse<T extends OptionTable>(
  call: string,
  argv: string[],
  options: T,
): ReturnType<typeof parseArgs<{ options: T; args: string[]; strict: true }>>['values'] {
  try {
    return parseArgs({ args: argv, options, strict: true }).values
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException
    const names = Object.keys(options).map((name) => `--${name}`)
    const unknown = code === 'ERR_PARSE_ARGS_UNKNOWN_OPTION' ? /'(-[^']*)'/.exec(message)?.[1] : undefined
    if (unknown === undefined) throw new TypeError(`${call}: ${message.split('. ')[0]}`)
    const guess = nearest(unknown, names)
    throw new TypeError(
      `${call}: expected options to be among ${names.join(', ')}, got unknown ${unknown}${guess ? ` (did you mean ${guess}?)` : ''}`,
    )
  }
}
