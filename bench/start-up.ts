// How long it takes from nothing to the end of the first training step, in fresh processes: node with trislot against
// Python with torch, in turns. The 28x28 network, batch 8, float32.
// Usage: npx tsx bench/start-up.ts [--rounds N] [--threads N] [--python PATH] [--json FILE]
import { writeFileSync } from 'node:fs'
import { availableParallelism } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { packageRoot } from '../lib/setup/paths.ts'
import { NETWORKS } from './networks.ts'
import { type Job, Worker, type WorkerCommand } from './protocol.ts'
import { benchPython } from './python.ts'
import { compare } from './statistics.ts'

const { values } = parseArgs({
  options: {
    rounds: { type: 'string', default: '5' },
    threads: { type: 'string', default: String(availableParallelism()) },
    python: { type: 'string' },
    json: { type: 'string' },
  },
})
const root = packageRoot()
const python = benchPython(values.python)
const env = { OMP_NUM_THREADS: values.threads, MKL_NUM_THREADS: values.threads }
const common = ['--threads', values.threads]
const sides: WorkerCommand[] = [
  {
    label: 'trislot',
    program: process.execPath,
    argv: ['--import', 'tsx', join(root, 'bench', 'worker.ts'), ...common],
    env,
  },
  {
    label: 'PyTorch',
    program: python,
    argv: [join(root, 'bench', 'reference', 'bench_worker.py'), ...common],
    env,
  },
]
const { config, size } = NETWORKS[0] as (typeof NETWORKS)[number]
const job: Job = { work: 'train', network: config, size, batch: 8, precision: 'fp32', variant: {} }

const results: [number[], number[]] = [[], []]
for (let round = -1; round < Number(values.rounds); round++) {
  for (const [i, side] of sides.entries()) {
    const begin = performance.now()
    const worker = new Worker(side)
    await worker.build(job)
    await worker.time(1)
    const ms = performance.now() - begin
    await worker.close()
    if (round >= 0) results[i as 0 | 1].push(ms) // the first round fills the file cache
  }
}
const { ours, theirs, ratio, spread, rounds } = compare(...results)
console.log(
  `start to end of the first step: trislot ${(ours / 1000).toFixed(2)} s, PyTorch ${(theirs / 1000).toFixed(2)} s ` +
    `= ${ratio.toFixed(2)}x (${spread.map((value) => value.toFixed(2)).join(' to ')})`,
)
const row = {
  work: 'start and first step 28x28 batch 8',
  precision: 'fp32',
  metric: 'start-up-ms',
  rival: 'reference',
}
const result = {
  command: ['npx tsx bench/start-up.ts', ...process.argv.slice(2)].join(' '),
  rows: [{ ...row, ours, theirs, ratio, spread, rounds }],
}
if (values.json) writeFileSync(values.json, `${JSON.stringify(result, undefined, 1)}\n`)
