// A Python with the PyTorch of bench/reference/requirements.txt: the one that is named, or one made for the bench.
import { spawnSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { cacheHome, packageRoot } from '../lib/setup/paths.ts'

const CHECK = 'import numpy, torch; print(torch.__version__)'

/** Its PyTorch's version; undefined where Python or PyTorch is missing. */
function torchVersion(python: string): string | undefined {
  const { status, stdout } = spawnSync(python, ['-c', CHECK], { encoding: 'utf8' })
  return status === 0 ? stdout.trim() : undefined
}

/**
 * The Python to bench with: `named` (or TRISLOT_BENCH_PYTHON), else a virtual environment in trislot's cache, into which
 * PyTorch is installed at the first time (about 0.6 GB, through pip).
 *
 * @throws Error that says what is missing
 */
export function benchPython(
  named: string | undefined = process.env.TRISLOT_BENCH_PYTHON,
  say: (line: string) => void = console.error,
): string {
  if (named !== undefined) {
    if (torchVersion(named)) return named
    throw new Error(
      `bench: expected --python (or TRISLOT_BENCH_PYTHON) to be a Python with torch and numpy, got ${JSON.stringify(named)}; ` +
        `run: ${named} -m pip install -r bench/reference/requirements.txt`,
    )
  }
  const folder = join(cacheHome(), 'bench-venv')
  const python = join(folder, 'bin', 'python')
  if (existsSync(python) && torchVersion(python)) return python
  say(`making a Python environment with PyTorch in ${folder}`)
  const requirements = join(packageRoot(), 'bench', 'reference', 'requirements.txt')
  const steps: [string, string[]][] = [
    ['python3', ['-m', 'venv', folder]],
    [python, ['-m', 'pip', 'install', '--quiet', '--disable-pip-version-check', '-r', requirements]],
  ]
  for (const [program, argv] of steps) {
    const { status, error } = spawnSync(program, argv, { stdio: ['ignore', 2, 2] })
    if (status === 0) continue
    throw new Error(
      `bench: expected \`${program} ${argv.join(' ')}\` to succeed, got ${error?.message ?? `exit ${status}`}; ` +
        'or name a Python that has torch and numpy: --python PATH or TRISLOT_BENCH_PYTHON',
    )
  }
  return python
}
