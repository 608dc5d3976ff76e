// The command line. Commands are loaded when they are asked for: help, setup and doctor must run without the addon.
import { nearest } from '../check.ts'
import { packageVersion } from '../setup/paths.ts'
import { UsageError } from './usage.ts'

type Command = (argv: string[]) => Promise<number>

const COMMANDS: Record<string, { readonly about: string; readonly load: () => Promise<Command> }> = {
  quickstart: {
    about: 'measure, cut slots, train on digits, sample: a few minutes',
    load: async () => (await import('./quickstart.ts')).quickstartCommand,
  },
  train: { about: 'train a network on images', load: async () => (await import('./train.ts')).trainCommand },
  'train-classifier': {
    about: 'train a classifier of noised images, for guidance',
    load: async () => (await import('./train-classifier.ts')).trainClassifierCommand,
  },
  sample: { about: 'draw images', load: async () => (await import('./sample.ts')).sampleCommand },
  evaluate: {
    about: 'compare samples with a reference: FID and other metrics',
    load: async () => (await import('./evaluate.ts')).evaluateCommand,
  },
  measure: {
    about: 'measure the loss over the timesteps',
    load: async () => (await import('./measure.ts')).measureCommand,
  },
  probe: {
    about: 'held-out loss over the timesteps in every space, and the slots it suggests',
    load: async () => (await import('./probe.ts')).probeCommand,
  },
  interference: {
    about: 'what training on one slot of timesteps does to the others, and their gradients',
    load: async () => (await import('./interference.ts')).interferenceCommand,
  },
  replace: {
    about: 'truth in place of the prediction in windows of sampling: where it matters',
    load: async () => (await import('./replace.ts')).replaceCommand,
  },
  nll: {
    about: 'bits per dimension of images under a trained network',
    load: async () => (await import('./nll.ts')).nllCommand,
  },
  study: {
    about: 'train a declared grid of runs and compare them',
    load: async () => (await import('./study.ts')).studyCommand,
  },
  sweep: {
    about: 'compare batch sizes, samplers, loss spaces and half-lives',
    load: async () => (await import('./sweep.ts')).sweepCommand,
  },
  report: {
    about: 'write a page about runs: curves, timesteps, heads, samples',
    load: async () => (await import('./report.ts')).reportCommand,
  },
  watch: {
    about: 'show that page live while a run trains',
    load: async () => (await import('./watch.ts')).watchCommand,
  },
  bench: {
    about: 'time training, and estimate what fits into memory',
    load: async () => (await import('./bench.ts')).benchCommand,
  },
  forward: {
    about: 'run a network on tensors',
    load: async () => (await import('./forward.ts')).forwardCommand,
  },
  inspect: {
    about: 'say what is in a file of weights or a checkpoint',
    load: async () => (await import('./inspect.ts')).inspectCommand,
  },
  convert: {
    about: 'convert weights between .pt and .safetensors',
    load: async () => (await import('./convert.ts')).convertCommand,
  },
  setup: {
    about: 'find LibTorch and build the native addon',
    load: async () => (await import('../setup/commands.ts')).runSetup,
  },
  doctor: {
    about: 'say what works and what is missing',
    load: async () => (await import('../setup/commands.ts')).runDoctor,
  },
}

function help(): string {
  const lines = Object.entries(COMMANDS).map(([name, { about }]) => `  ${name.padEnd(18)}${about}`)
  return `trislot ${packageVersion()}: trains and samples image diffusion models with timestep slots and three prediction types

Usage: trislot COMMAND [options]

${lines.join('\n')}
  help              this text; trislot COMMAND --help explains a command

  --version         the version
  --debug           show the stack of an error (or set TRISLOT_DEBUG)`
}

/**
 * Runs a command line.
 *
 * @returns the exit code: 0 done, 1 failed, 2 wrong usage, 130 stopped by Ctrl-C
 */
export async function main(argv: string[]): Promise<number> {
  const isDebug = argv.includes('--debug') || Boolean(process.env.TRISLOT_DEBUG)
  const [word, ...rest] = argv.filter((argument) => argument !== '--debug')
  try {
    if (word === undefined) {
      console.error(help())
      return 2
    }
    if (word === '--version' || word === '-v' || word === 'version') {
      console.log(packageVersion())
      return 0
    }
    const isHelp = word === 'help' || word === '--help' || word === '-h'
    if (isHelp && rest[0] === undefined) {
      console.log(help())
      return 0
    }
    const name = isHelp ? (rest[0] as string) : word
    const command = Object.hasOwn(COMMANDS, name) ? COMMANDS[name] : undefined
    if (!command) {
      const known = [...Object.keys(COMMANDS), 'help']
      const guess = nearest(name, known)
      throw new UsageError(
        `trislot: expected a command among ${known.join(', ')}, got ${JSON.stringify(name)}${guess ? ` (did you mean ${guess}?)` : ''}`,
      )
    }
    return await (await command.load())(isHelp ? ['--help'] : rest)
  } catch (error) {
    console.error(isDebug || !(error instanceof Error) ? error : error.message)
    // By name, because loaders may give a module loaded with import() classes of its own.
    return error instanceof Error && error.name === 'UsageError' ? 2 : 1
  }
}

// `npx tsx lib/cli/main.ts`; the package's own command is bin/trislot.js.
if (/[\\/]cli[\\/]main\.[jt]s$/.test(process.argv[1] ?? '')) {
  main(process.argv.slice(2)).then((code) => {
    process.exitCode = code
  })
}
