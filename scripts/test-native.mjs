// npm run test:native: the C++ tests and the bench's worker without Node, built against the LibTorch that `trislot setup`
// has recorded. Only what changed since the last time is compiled; the build lies in build/native-tests, that of another
// compiler (CXX=clang++) in a folder of its own. Arguments, of which the first is a program's name, go to that program
// alone.
import { spawnSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { basename } from 'node:path'
import { parallelJobs } from '../lib/setup/build.ts'
import { locateAddon } from '../lib/setup/locate.ts'
import { packageRoot } from '../lib/setup/paths.ts'
import { checkToolchain } from '../lib/setup/toolchain.ts'

const root = packageRoot()
const { CXX } = process.env
const folder = `${root}/build/native-tests${CXX ? `-${basename(CXX)}` : ''}`

/** Runs a program; its output is shown only when it fails, and then ends this one. */
function quietly(program, argv) {
  const { status, error, stdout, stderr } = spawnSync(program, argv, {
    encoding: 'utf8',
    maxBuffer: 2 ** 28,
  })
  if (status === 0) return
  console.log(`${error ?? ''}${stdout ?? ''}${stderr ?? ''}`)
  fail(`expected ${program} ${argv[0]} to succeed, got ${status ?? 'no exit code'}`)
}

function fail(message) {
  console.log(`test:native: ${message}`)
  process.exit(1)
}

const { cxx, compiler } = await checkToolchain().catch((error) => fail(error.message))
let libtorch
try {
  libtorch = locateAddon().libtorchRoot
} catch (error) {
  fail(error.message)
}
quietly('cmake', [
  ...['-S', root, '-B', folder, '-DTRISLOT_TESTS=ON', '-DTRISLOT_BENCH=ON', `-DTRISLOT_LIBTORCH=${libtorch}`],
  ...(cxx === undefined ? [] : [`-DCMAKE_CXX_COMPILER=${cxx}`]),
])
console.log(`test:native: ${compiler}`)
const jobs = String(Math.min(2, parallelJobs()))
const [only, ...argv] = process.argv.slice(2)
const programs = only === undefined ? ['checkpoint_test', 'kernels_test', 'bench_worker'] : [only]
quietly('cmake', ['--build', folder, '--target', ...programs, '--parallel', jobs])
for (const program of programs) {
  if (program === 'bench_worker') {
    checkBenchWorker(argv)
    continue
  }
  const { status, signal } = spawnSync(`${folder}/${program}`, argv, { stdio: 'inherit' })
  if (signal) fail(`expected ${program} to end by itself, got ${signal}`)
  if (status !== 0) process.exit(status ?? 1)
}

/** Asks the worker what bench/native/run.py asks it, for a training step and a DDIM step of the smallest network. */
function checkBenchWorker(argv) {
  const { common, networks } = JSON.parse(readFileSync(`${root}/bench/networks.json`, 'utf8'))
  const [{ options, size }] = networks
  const questions = ['train', 'ddim'].flatMap((work) => [
    {
      command: 'build',
      work,
      network: { ...common, ...options },
      size,
      batch: 2,
      precision: 'fp32',
      variant: {},
    },
    { command: 'time', steps: 2 },
  ])
  const input = [...questions, { command: 'close' }]
    .map((question) => `${JSON.stringify(question)}\n`)
    .join('')
  const { status, stdout, stderr } = spawnSync(`${folder}/bench_worker`, argv, { encoding: 'utf8', input })
  const answers = stdout
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line))
  const wrong = questions.findIndex(({ command }, i) =>
    command === 'build'
      ? !(answers[i]?.parameterCount > 0)
      : !(answers[i]?.ms?.length === 2 && Number.isFinite(answers[i].loss)),
  )
  if (status !== 0 || wrong !== -1) {
    fail(
      `expected bench_worker to answer ${JSON.stringify(questions[wrong])}, got ${stdout}${stderr} and exit ${status}`,
    )
  }
  console.log('bench_worker: a training step and a DDIM step timed')
}
