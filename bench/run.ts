// npm run bench: trislot against PyTorch in one run, turn and turn about. docs/performance.md explains what is measured.
import { spawnSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { availableParallelism, cpus, loadavg, tmpdir, totalmem } from 'node:os'
import { dirname, join } from 'node:path'
import { setTimeout } from 'node:timers/promises'
import { type ParseArgsConfig, parseArgs } from 'node:util'
import { argumentError, checkInteger } from '../lib/check.ts'
import { PRECISIONS, type Precision } from '../lib/index.ts'
import { forwardFlops, parameterCount } from '../lib/model/layers.ts'
import { cacheHome, packageRoot, packageVersion } from '../lib/setup/paths.ts'
import { type BenchNetwork, NETWORKS } from './networks.ts'
import { type Job, type Work, Worker, type WorkerCommand, WorkerTimeout } from './protocol.ts'
import { benchPython } from './python.ts'
import { candidates, describe, REFERENCE, type Variant } from './rivals.ts'
import { type Comparison, compare, median } from './statistics.ts'

const HELP = `npm run bench -- [options]: trislot against PyTorch on the same work, in one run

  --quick           the 28x28 and 32x32 networks at batch 8, in under 10 minutes
  --json FILE       where the rows go; default bench/results/DATE.json (quick: quick-DATE.json)
  --python PATH     a Python with torch and numpy (or TRISLOT_BENCH_PYTHON); else one is made
  --threads N       threads of either side; default all cores
  --networks LIST   of ${NETWORKS.map(({ name }) => name).join(', ')}
  --batches LIST    instead of each network's own
  --precisions LIST of fp32, bf16
  --works LIST      of train, ddim
  --rounds N        turns of each side; default 15 (quick: 9)
  --kernels WORD    trislot's kernels: fast or plain (TRISLOT_KERNELS)
  --no-compile      leave out torch.compile
  --no-memory       leave out peak memory
  --device NAME     cpu or cuda, for both sides`

const TABLE = {
  quick: { type: 'boolean', default: false },
  json: { type: 'string' },
  python: { type: 'string' },
  threads: { type: 'string', default: String(availableParallelism()) },
  networks: { type: 'string' },
  batches: { type: 'string' },
  precisions: { type: 'string', default: 'fp32,bf16' },
  works: { type: 'string', default: 'train,ddim' },
  rounds: { type: 'string' },
  kernels: { type: 'string' },
  'no-compile': { type: 'boolean', default: false },
  'no-memory': { type: 'boolean', default: false },
  device: { type: 'string', default: 'cpu' },
  help: { type: 'boolean', default: false },
} as const satisfies NonNullable<ParseArgsConfig['options']>

/** One line of the result. */
interface Row {
  readonly work: string
  readonly precision: Precision
  readonly metric: string
  readonly rival?: string
  readonly ours: number
  readonly theirs?: number
  readonly ratio?: number
  readonly [detail: string]: unknown
}

/** What is timed together: one network at one batch in one precision. */
interface Case {
  readonly network: BenchNetwork
  readonly batch: number
  readonly work: Work
  readonly precision: Precision
}

const BUDGET_MS = 9.5 * 60_000 // of a quick run
/** One turn of a worker takes at least so long, so that small networks make several steps in it. */
const TURN_MS = 250

/** Of steps that take longer, as bf16 without instructions for it does, a quick run makes few. */
const SLOW_MS = 3000
const SLOW_ROUNDS = 3

/** Between two turns, for the threads of the side before to go to sleep. */
const SETTLE_MS = 20
/** What the turns after a warm-up are expected to take, and the least that a quick run begins a warm-up with. */
const TURNS_MS = 20_000
const LEAST_COMPILE_MS = 60_000

const started = performance.now()
/** Processor time that waiting workers used while another was timed. */
const idle = { cpuMs: 0, wallMs: 0 }
const options = readOptions()
const rows: Row[] = []
const skipped: string[] = []
const say = (line: string): void => console.log(line)

async function main(): Promise<void> {
  const python = benchPython(options.python)
  const threads = String(options.threads)
  // OMP_WAIT_POLICY=passive would slow both sides; threads of GNU OpenMP go to sleep a few milliseconds after their work.
  const env = {
    OMP_NUM_THREADS: threads,
    MKL_NUM_THREADS: threads,
    ...(options.kernels && { TRISLOT_KERNELS: options.kernels }),
  }
  const common = ['--threads', threads, '--device', options.device]
  const root = packageRoot()
  const ours: WorkerCommand = {
    label: 'trislot',
    program: process.execPath,
    argv: ['--import', 'tsx', join(root, 'bench', 'worker.ts'), ...common],
    env,
  }
  const theirs = (label: string): WorkerCommand => ({
    label,
    program: python,
    argv: [join(root, 'bench', 'reference', 'bench_worker.py'), ...common],
    env,
  })

  // A full run compiles anew, so that its warm-up is the first time's; a quick one keeps what earlier ones compiled.
  const compiled = options.quick
    ? join(cacheHome(), 'bench-inductor')
    : mkdtempSync(join(tmpdir(), 'trislot-bench-'))

  const workers = {
    ours: new Worker(ours),
    reference: new Worker(theirs('PyTorch as guided-diffusion')),
    best: new Worker(theirs('PyTorch at its best')),
  }
  const [ourInfo, theirInfo] = [await workers.ours.info(), await workers.reference.info()]
  const machine = describeMachine()
  const measuredCommit = commit()
  say(
    `${machine.cpu}, ${machine.cores} cores, ${machine.memoryGiB} GiB; ${threads} threads; ${options.device}`,
  )
  say(`trislot ${packageVersion()} ${words(ourInfo.versions)}; PyTorch ${words(theirInfo.versions)}`)
  if (loadavg()[0]! > 0.7)
    say(`note: load average ${loadavg()[0]!.toFixed(1)}: other programs disturb timings`)

  const ceilings = new Map<Precision, number>()
  for (const precision of options.precisions) {
    const { convolution, matrix } = await workers.reference.ask<{ convolution: number; matrix: number }>({
      command: 'ceiling',
      precision,
    })
    ceilings.set(precision, Math.max(convolution, matrix))
    say(`ceiling ${precision}: convolution ${convolution.toFixed(0)}, matrix ${matrix.toFixed(0)} GFLOP/s`)
    for (const [metric, value] of [
      ['ceiling-convolution', convolution],
      ['ceiling-matrix', matrix],
    ] as const)
      rows.push({ work: 'ceiling', precision, metric, ours: value, unit: 'GFLOP/s' })
  }

  const variants = new Map<Case, Variant>()
  const cases = listCases()
  for (const item of cases) {
    variants.set(item, await timeCase(item, workers, ceilings))
    write(false)
  }
  await workers.reference.close()
  await workers.best.close()
  for (const precision of options.precisions) await threeHeads(ours, precision)
  write(false)
  if (options.noMemory) skipped.push('peak memory (--no-memory)')
  else {
    for (const [item, variant] of variants) {
      if (item.work === 'train') await memoryCase(item, variant, ours, theirs('PyTorch at its best'))
    }
    write(false)
  }
  if (options.noCompile) skipped.push('torch.compile (--no-compile)')
  else
    await compileCases(cases, variants, workers.ours, theirs('torch.compile'), compiled, () => write(false))
  await workers.ours.close()

  printAims()
  say(`workers that waited used ${percent(idle.cpuMs / idle.wallMs)} of a core`)
  for (const line of skipped) say(`skipped: ${line}`)
  const minutes = (performance.now() - started) / 60_000
  if (!options.quick) rmSync(compiled, { recursive: true, force: true })
  say(`${rows.length} rows in ${minutes.toFixed(1)} minutes`)
  write(true)
  say(`written: ${options.json}`)

  /** Also on the way, so that a run that is broken off leaves what it has. */
  function write(isComplete: boolean): void {
    const result = {
      command: ['npm run bench --', ...process.argv.slice(2)].join(' '),
      date: new Date().toISOString(),
      machine,
      threads: options.threads,
      device: options.device,
      versions: {
        trislot: packageVersion(),
        commit: measuredCommit,
        ours: ourInfo.versions,
        theirs: theirInfo.versions,
      },
      isComplete,
      seconds: Math.round((performance.now() - started) / 1000),
      idleCpuShare: idle.cpuMs / idle.wallMs,
      skipped,
      networks: Object.fromEntries(options.networks.map(({ name, about }) => [name, about])),
      rows,
    }
    mkdirSync(dirname(options.json), { recursive: true })
    writeFileSync(options.json, `${JSON.stringify(result, undefined, 1)}\n`)
  }
}

function listCases(): Case[] {
  return options.networks.flatMap((network) =>
    options.works.flatMap((work) =>
      (options.batches ?? network.batches).flatMap((batch) =>
        options.precisions.map((precision) => ({ network, batch, work, precision })),
      ),
    ),
  )
}

const title = ({ network, batch, work }: Omit<Case, 'precision'>): string =>
  `${work} ${network.name} batch ${batch}`

function job(item: Case, precision: Precision, variant: Variant, network: Partial<Job['network']> = {}): Job {
  const config = { ...item.network.config, ...network }
  return { work: item.work, network: config, size: item.network.size, batch: item.batch, precision, variant }
}

/** Times ours, the reference and PyTorch at its best; returns the variant that was fastest. */
async function timeCase(
  item: Case,
  { ours, reference, best }: Record<'ours' | 'reference' | 'best', Worker>,
  ceilings: ReadonlyMap<Precision, number>,
): Promise<Variant> {
  const { precision } = item
  say(`${title(item)} ${precision}`)
  const { variant, tried } = await fastestVariant(item, best)
  const parameters = [
    await ours.build(job(item, precision, {})),
    await reference.build(job(item, 'fp32', REFERENCE)), // guided-diffusion runs float32 whatever ours runs
    await best.build(job(item, precision, variant)),
  ]
  const config = item.network.config
  const expected = parameterCount(config)
  if (parameters.some((count) => count !== expected))
    throw new Error(`bench: expected ${expected} weights on every side, got ${parameters.join(', ')}`)
  const [a, b, c] = await interleave([ours, reference, best])
  addRow(item, 'step-ms', 'reference', compare(a, b), { variant: 'fp32, as guided-diffusion' })
  addRow(item, 'step-ms', 'best', compare(a, c), { variant: describe(variant), tried })

  const forward = forwardFlops(config, [item.network.size, item.network.size]) * item.batch
  const flops = item.work === 'train' ? 3 * forward : forward
  const shareOf = (ms: number): number => flops / (ms * 1e6) / (ceilings.get(precision) as number)
  const [share, rival] = [shareOf(median(a)), shareOf(median(c))]
  const row = { work: title(item), precision, metric: 'ceiling-share', ours: share }
  rows.push({ ...row, theirs: rival, gflop: flops / 1e9 })
  say(`  ceiling-share ${percent(share)}, best ${percent(rival)}; ${(flops / 1e9).toFixed(1)} GFLOP a step`)
  return variant
}

/** Tries each candidate for a few steps; a quick run takes the first where steps are slow. */
async function fastestVariant(
  item: Case,
  worker: Worker,
): Promise<{ variant: Variant; tried: Record<string, number> }> {
  const results: { variant: Variant; ms: number }[] = []
  for (const variant of candidates(item.work, item.precision, options.quick)) {
    await worker.build(job(item, item.precision, variant))
    const warmUp = (await worker.time(1))[0] as number
    if (options.quick && warmUp > SLOW_MS) {
      results.push({ variant, ms: warmUp })
      break
    }
    const first = (await worker.time(1))[0] as number
    const steps = Math.max(2, Math.min(15, Math.round(500 / first)))
    results.push({ variant, ms: median([first, ...(await worker.time(steps))]) })
  }
  const { variant } = results.reduce((best, other) => (other.ms < best.ms ? other : best))
  return {
    variant,
    tried: Object.fromEntries(results.map(({ variant, ms }) => [describe(variant), round(ms)])),
  }
}

/** Milliseconds a step of each worker, one entry a round: A B C A B C ... A slow one of a quick run drops out early. */
async function interleave<const Workers extends readonly Worker[]>(
  workers: Workers,
): Promise<{ -readonly [I in keyof Workers]: number[] }> {
  const plans: { steps: number; rounds: number }[] = []
  for (const worker of workers) {
    const first = (await worker.time(1))[0] as number
    const isSlow = options.quick && first > SLOW_MS
    const ms = isSlow ? first : ((await worker.time(2))[1] as number)
    plans.push({
      steps: Math.max(1, Math.min(50, Math.round(TURN_MS / ms))),
      rounds: isSlow ? Math.min(SLOW_ROUNDS, options.rounds) : options.rounds,
    })
  }
  const results: number[][] = workers.map(() => [])
  for (let turn = 0; turn < options.rounds; turn++) {
    for (const [i, worker] of workers.entries()) {
      const { steps, rounds } = plans[i] as { steps: number; rounds: number }
      if (turn >= rounds) continue
      await setTimeout(SETTLE_MS)
      const others = workers.filter((other) => other !== worker)
      const before = others.map((other) => other.cpuMs())
      const begin = performance.now()
      results[i]!.push(median(await worker.time(steps)))
      idle.wallMs += performance.now() - begin
      idle.cpuMs += Math.max(...others.map((other, j) => other.cpuMs() - before[j]!))
    }
  }
  return results as { -readonly [I in keyof Workers]: number[] }
}

/** What three heads cost over one, both ours, and, where there is time, the strategy that costs most. */
async function threeHeads(ours: WorkerCommand, precision: Precision): Promise<void> {
  if (!options.works.includes('train')) return
  const small = options.networks.filter(({ name }) => ['28x28', '32x32'].includes(name))
  for (const network of small.length > 0 ? small : options.networks.slice(0, 1)) {
    const item = { network, batch: options.batches?.[0] ?? 8, work: 'train', precision } as const
    const one = job(item, precision, {}, { heads: ['v'] })
    await againstOneHead(item, 'three-heads', [job(item, precision, {}), one], ours)
    const consensus = { ...job(item, precision, {}), mix: 'consensus' }
    if (!options.quick) await againstOneHead(item, 'consensus', [consensus, one], ours)
  }
}

async function againstOneHead(
  item: Case,
  what: 'three-heads' | 'consensus',
  jobs: readonly [Job, Job],
  ours: WorkerCommand,
): Promise<void> {
  const workers = [new Worker(ours), new Worker(ours)] as const
  for (const [i, worker] of workers.entries()) await worker.build(jobs[i] as Job)
  say(`${title(item)} ${item.precision}, ${what} against one head`)
  const [several, one] = await interleave(workers)
  addRow(item, `${what}-time`, 'one-head', compare(several, one))
  const [more, less] = [await workers[0].peakBytes(), await workers[1].peakBytes()]
  addRow(item, `${what}-memory`, 'one-head', only(more, less))
  for (const worker of workers) await worker.close()
}

/** Peak memory of a training step in fresh processes: ours, ours with recompute, PyTorch at its best. */
async function memoryCase(
  item: Case,
  variant: Variant,
  ours: WorkerCommand,
  theirs: WorkerCommand,
): Promise<void> {
  const { precision } = item
  const peak = async (command: WorkerCommand, what: Job): Promise<number> => {
    const worker = new Worker(command)
    await worker.build(what)
    await worker.time(3)
    const bytes = await worker.peakBytes()
    await worker.close()
    return bytes
  }
  say(`${title(item)} ${precision}, memory`)
  const rival = await peak(theirs, job(item, precision, variant))
  const plain = await peak(ours, job(item, precision, {}))
  const recomputed = await peak(ours, job(item, precision, {}, { recompute: true }))
  addRow(item, 'peak-memory', 'best', only(plain, rival), { variant: describe(variant), unit: 'bytes' })
  addRow(item, 'peak-memory-recompute', 'best', only(recomputed, rival), {
    variant: describe(variant),
    unit: 'bytes',
  })
}

/** torch.compile of PyTorch at its best against ours, in order of interest, as long as the time allows. */
async function compileCases(
  cases: readonly Case[],
  variants: ReadonlyMap<Case, Variant>,
  ours: Worker,
  command: WorkerCommand,
  cache: string,
  onRow: () => void,
): Promise<void> {
  const interest = ({ network, work, precision }: Case): number =>
    (network.name === '28x28' ? 4 : 0) + (work === 'ddim' ? 2 : 0) + (precision === 'fp32' ? 1 : 0)
  for (const item of [...cases].sort((a, b) => interest(a) - interest(b))) {
    const name = `torch.compile of ${title(item)} ${item.precision}`
    const left = BUDGET_MS - (performance.now() - started) - TURNS_MS
    if (options.quick && left < LEAST_COMPILE_MS) {
      skipped.push(`${name}: ${Math.max(0, left / 1000).toFixed(0)} s were left`)
      continue
    }
    // A folder for each case: a compilation that is broken off leaves half-written libraries behind.
    const folder = join(cache, name.replaceAll(/\W+/g, '-'))
    const worker = new Worker({ ...command, env: { ...command.env, TORCHINDUCTOR_CACHE_DIR: folder } })
    try {
      const variant = { ...variants.get(item), compile: true }
      await worker.build(job(item, item.precision, variant))
      const begin = performance.now()
      await worker.time(2, options.quick ? left : undefined)
      const warmUp = (performance.now() - begin) / 1000
      say(`${name}: warm-up ${warmUp.toFixed(0)} s`)
      await ours.build(job(item, item.precision, {}))
      const [a, b] = await interleave([ours, worker])
      const detail = {
        variant: describe(variant),
        warmUpSeconds: round(warmUp),
        cacheMayBeWarm: options.quick,
      }
      addRow(item, 'step-ms', 'compile', compare(a, b), detail)
      onRow()
    } catch (error) {
      const isLate = error instanceof WorkerTimeout
      const seconds = (left / 1000).toFixed(0)
      skipped.push(`${name}: ${isLate ? `not warmed up within ${seconds} s` : (error as Error).message}`)
      await worker.close()
      rmSync(folder, { recursive: true, force: true })
    } finally {
      await worker.close()
    }
  }
}

/** A comparison of single values. */
function only(ours: number, theirs: number): Comparison {
  return { ours, theirs, ratio: theirs / ours, spread: [theirs / ours, theirs / ours], rounds: 1 }
}

function addRow(item: Case, metric: string, rival: string, result: Comparison, detail: object = {}): void {
  const { ours, theirs, ratio, spread, rounds } = result
  const row = {
    work: title(item),
    precision: item.precision,
    metric,
    rival,
    ours,
    theirs,
    ratio,
    spread,
    rounds,
  }
  rows.push({ ...row, network: item.network.name, batch: item.batch, ...detail })
  const isBytes = metric.includes('memory')
  const show = (value: number): string =>
    isBytes ? `${(value / 2 ** 20).toFixed(0)} MiB` : `${value.toFixed(1)} ms`
  const range = rounds > 1 ? ` (${spread[0].toFixed(2)} to ${spread[1].toFixed(2)})` : ''
  const note = 'variant' in detail ? `  ${detail.variant}` : ''
  say(
    `  ${metric} against ${rival.padEnd(9)} ${show(ours).padStart(9)} : ${show(theirs).padStart(9)} = ${ratio.toFixed(2)}x${range}${note}`,
  )
}

/** The aims of docs/performance.md beside what was measured. */
function printAims(): void {
  const find = (
    network: string,
    work: Work,
    precision: Precision,
    metric: string,
    rivals: readonly string[],
  ): number[] =>
    options.networks
      .filter(({ name }) => name === network)
      .flatMap(({ name, batches }) =>
        (options.batches ?? (name === '64x64' ? batches : [8])).map((batch) => ({ name, batch })),
      )
      .flatMap(({ name, batch }) => {
        const found = rows.filter(
          (row) =>
            row.work === `${work} ${name} batch ${batch}` &&
            row.precision === precision &&
            row.metric === metric &&
            (rivals.length === 0 || rivals.includes(row.rival as string)),
        )
        // Against the best of several rivals: the smallest of the ratios.
        return found.length === 0 ? [] : [Math.min(...found.map(({ ratio, ours }) => ratio ?? ours))]
      })
  const lines: string[] = []
  for (const precision of options.precisions) {
    const isHalf = precision === 'bf16'
    const aims: [string, Work, string, readonly string[], readonly string[], number][] = [
      ['step against the reference', 'train', 'step-ms', ['reference'], ['32x32', '64x64'], isHalf ? 3 : 1.5],
      [
        'step against the best of best and compile',
        'train',
        'step-ms',
        ['best', 'compile'],
        ['32x32', '64x64'],
        isHalf ? 1.4 : 1.25,
      ],
      ['share of the ceiling', 'train', 'ceiling-share', [], ['32x32'], 0.68],
      ['share of the ceiling', 'train', 'ceiling-share', [], ['64x64'], isHalf ? 0.7 : 0.8],
      [
        'DDIM step against the best of best and compile',
        'ddim',
        'step-ms',
        ['best', 'compile'],
        ['28x28', '32x32', '64x64'],
        isHalf ? 1.5 : 1.25,
      ],
      ['peak memory against best', 'train', 'peak-memory', ['best'], ['28x28', '32x32', '64x64'], 1 / 0.8],
      [
        'peak memory with recompute against best',
        'train',
        'peak-memory-recompute',
        ['best'],
        ['28x28', '32x32', '64x64'],
        1 / 0.45,
      ],
      ['step against best', 'train', 'step-ms', ['best'], ['28x28'], 1.6],
    ]
    for (const [what, work, metric, rivals, networks, least] of aims) {
      for (const network of networks) {
        for (const value of find(network, work, precision, metric, rivals)) {
          const verdict = value >= least ? 'met' : 'not met'
          lines.push(
            `  ${network} ${precision.padEnd(5)}${what.padEnd(48)}${value.toFixed(2).padStart(6)}  aim ${least.toFixed(2)}  ${verdict}`,
          )
        }
      }
    }
  }
  if (lines.length > 0) say(`aims\n${lines.join('\n')}`)
}

const percent = (share: number): string => `${(100 * share).toFixed(1)} %`
const round = (value: number): number => Number(value.toPrecision(5))
const words = (versions: Readonly<Record<string, string>>): string =>
  `(${Object.entries(versions)
    .map(([name, value]) => `${name} ${value}`)
    .join(', ')})`

function describeMachine(): { cpu: string; cores: number; memoryGiB: number; load: number } {
  const memoryGiB = Math.round(totalmem() / 2 ** 30)
  return {
    cpu: cpus()[0]?.model ?? 'unknown',
    cores: availableParallelism(),
    memoryGiB,
    load: loadavg()[0] as number,
  }
}

function commit(): string {
  const git = (...argv: string[]): string =>
    spawnSync('git', argv, { cwd: packageRoot(), encoding: 'utf8' }).stdout?.trim() ?? ''
  return `${git('rev-parse', '--short', 'HEAD')}${git('status', '--porcelain') ? ' with changes' : ''}`
}

function readOptions() {
  const { values } = parseArgs({ options: TABLE })
  if (values.help) {
    console.log(HELP)
    process.exit(0)
  }
  const among = <T extends string>(name: string, text: string, known: readonly T[]): T[] =>
    text.split(',').map((word) => {
      const found = known.find((other) => other === word)
      if (found === undefined) throw argumentError('bench', `--${name}`, `among ${known.join(', ')}`, word)
      return found
    })
  const whole = (name: string, text: string): number => {
    const number = Number(text)
    checkInteger('bench', `--${name}`, number, 1)
    return number
  }
  const names = NETWORKS.map(({ name }) => name)
  const wanted = among(
    'networks',
    values.networks ?? (values.quick ? names.slice(0, 2) : names).join(),
    names,
  )
  const batches = values.batches ?? (values.quick ? '8' : undefined)
  const day = new Date().toISOString().slice(0, 10)
  return {
    quick: values.quick,
    json:
      values.json ?? join(packageRoot(), 'bench', 'results', `${values.quick ? 'quick-' : ''}${day}.json`),
    python: values.python,
    threads: whole('threads', values.threads),
    networks: NETWORKS.filter(({ name }) => wanted.includes(name)),
    batches: batches?.split(',').map((text) => whole('batches', text)),
    precisions: among<Precision>(
      'precisions',
      values.precisions,
      PRECISIONS.filter((name) => name !== 'fp16'),
    ),
    works: among<Work>('works', values.works, ['train', 'ddim']),
    rounds: whole('rounds', values.rounds ?? (values.quick ? '9' : '15')),
    kernels:
      values.kernels === undefined ? undefined : among('kernels', values.kernels, ['fast', 'plain'])[0],
    noCompile: values['no-compile'],
    noMemory: values['no-memory'],
    device: values.device,
  }
}

await main()
