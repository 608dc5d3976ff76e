// npm run test:native: the C++ tests, built against the LibTorch that `trislot setup` has recorded. Only what changed
// since the last time is compiled; the build lies in build/native-tests. Arguments, of which the first is a program's name,
// go to that program alone.
import { spawnSync } from 'node:child_process'
import { parallelJobs } from '../lib/setup/build.ts'
import { locateAddon } from '../lib/setup/locate.ts'
import { packageRoot } from '../lib/setup/paths.ts'
import { checkToolchain } from '../lib/setup/toolchain.ts'

const root = packageRoot()
const folder = `${root}/build/native-tests`

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

const { cxx } = await checkToolchain().catch((error) => fail(error.message))
let libtorch
try {
  libtorch = locateAddon().libtorchRoot
} catch (error) {
  fail(error.message)
}
quietly('cmake', [
  ...['-S', root, '-B', folder, '-DTRISLOT_TESTS=ON', `-DTRISLOT_LIBTORCH=${libtorch}`],
  ...(cxx === undefined ? [] : [`-DCMAKE_CXX_COMPILER=${cxx}`]),
])
const jobs = String(Math.min(2, parallelJobs()))
const [only, ...argv] = process.argv.slice(2)
const programs = only === undefined ? ['checkpoint_test', 'kernels_test'] : [only]
quietly('cmake', ['--build', folder, '--target', ...programs, '--parallel', jobs])
for (const program of programs) {
  const { status, signal } = spawnSync(`${folder}/${program}`, argv, { stdio: 'inherit' })
  if (signal) fail(`expected ${program} to end by itself, got ${signal}`)
  if (status !== 0) process.exit(status ?? 1)
}
