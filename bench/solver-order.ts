// The order of every solver, on a Gaussian mixture whose exact score is known:
//   npx tsx bench/solver-order.ts [docs/images/solver-order]
// writes the plot as .svg and .png and prints errors, fitted slopes and the spread that few steps keep as Markdown tables.
import { writeFile } from 'node:fs/promises'
import {
  DeviceTensor,
  type GaussianMixture,
  gaussianMixtureXStart,
  keyedRandom,
  NoiseSchedule,
  ODE_SOLVERS,
  plotSvg,
  type SolveOptions,
  SPACINGS,
  type StepSpacing,
  solve,
  svgToPng,
} from '../lib/index.ts'

const MIXTURE: GaussianMixture = {
  weights: [0.3, 0.5, 0.2],
  means: [-0.8, 0.1, 0.9],
  deviations: [0.15, 0.25, 0.1],
}
const POINTS = 64
const TITLES = { euler: 'Euler, DDIM', heun: 'Heun', dpmpp2m: 'DPM-Solver++(2M)' }

/** Starting points, standard normal. */
function starts(): Float64Array {
  const stream = keyedRandom(7, 'probe').at(0)
  return Float64Array.from({ length: POINTS }, () => stream.normal())
}

/**
 * The solution of the ODE from one alphaBar to another, by the classical Runge-Kutta method in log sigma with steps so
 * small that its error is far below that of the solvers.
 */
function exactSolution(x: Float64Array, from: number, to: number, steps = 2000): Float64Array {
  // With sigma^2 = 1 / alphaBar - 1 and y = x / sqrt(alphaBar):  dy / d log sigma = y - xStart.
  const slope = (y: Float64Array, logSigma: number): Float64Array => {
    const alphaBar = 1 / (1 + Math.exp(2 * logSigma))
    const xStart = gaussianMixtureXStart(
      MIXTURE,
      y.map((value) => value * Math.sqrt(alphaBar)),
      alphaBar,
    )
    return y.map((value, i) => value - xStart[i]!)
  }
  const logSigma = (alphaBar: number): number => 0.5 * Math.log(1 / alphaBar - 1)
  const h = (logSigma(to) - logSigma(from)) / steps
  const plus = (y: Float64Array, d: Float64Array, factor: number) =>
    y.map((value, i) => value + factor * d[i]!)
  let y = x.map((value) => value / Math.sqrt(from))
  for (let i = 0; i < steps; i++) {
    const at = logSigma(from) + i * h
    const k1 = slope(y, at)
    const k2 = slope(plus(y, k1, h / 2), at + h / 2)
    const k3 = slope(plus(y, k2, h / 2), at + h / 2)
    const k4 = slope(plus(y, k3, h), at + h)
    y = y.map((value, j) => value + (h / 6) * (k1[j]! + 2 * k2[j]! + 2 * k3[j]! + k4[j]!))
  }
  return y.map((value) => value * Math.sqrt(to))
}

/**
 * Root-mean-square error of each solver at the lowest noise of the linear schedule, steps even in log snr.
 *
 * @param Numbers - the precision of images and predictions
 * @returns for each solver, one error a step count
 */
export async function solverErrors(
  stepCounts: readonly number[],
  Numbers: typeof Float64Array | typeof Float32Array = Float64Array,
): Promise<Map<string, number[]>> {
  const schedule = NoiseSchedule.create()
  const { alphaBar } = schedule.tables
  const begin = starts()
  const exact = exactSolution(begin, alphaBar.at(-1)!, alphaBar[0]!)
  const errors = new Map<string, number[]>()
  for (const name of ODE_SOLVERS) {
    const list: number[] = []
    for (const steps of stepCounts) {
      const process = schedule.respace({ spacing: 'logSnr', steps: steps + 1 })
      const start = await DeviceTensor.from({ data: Numbers.from(begin), shape: [POINTS] })
      const end = await solve({
        process,
        start,
        solver: name,
        predictXStart: exactPrediction(process),
        until: 'lowestNoise',
      })
      list.push(distance((await end.toHost()).data as Float64Array, exact))
      for (const object of [process, start, end]) object.dispose()
    }
    errors.set(name, list)
  }
  schedule.dispose()
  return errors
}

/** The same at the clean image, for every spacing, against Heun's method in 1000 steps. */
async function spacingErrors(steps: number): Promise<Map<string, number[]>> {
  const schedule = NoiseSchedule.create()
  const start = await DeviceTensor.from({ data: starts(), shape: [POINTS] })
  const draw = async (visits: StepSpacing, solver: SolveOptions['solver']): Promise<Float64Array> => {
    const process = schedule.respace(visits)
    const end = await solve({ process, start, solver, predictXStart: exactPrediction(process) })
    return (await end.toHost()).data as Float64Array
  }
  const exact = await draw({ spacing: 'logSnr', steps: 1000 }, 'heun')
  const errors = new Map<string, number[]>()
  for (const spacing of SPACINGS) {
    const list: number[] = []
    for (const solver of ['euler', 'heun', 'dpmpp2m', { name: 'dpmpp2m', lowerOrderFinal: false }] as const) {
      list.push(distance(await draw({ spacing, steps }, solver), exact))
    }
    errors.set(spacing, list)
  }
  return errors
}

/**
 * The standard deviation of what is drawn from Gaussian data by exact predictions, over that of the data. A solver's map from
 * noise to image is linear there, so that one starting point tells it.
 *
 * @returns for each spacing and solver, one share a variance
 */
export async function keptSpread(
  steps: number,
  variances: readonly number[],
): Promise<Map<string, Map<string, number[]>>> {
  const schedule = NoiseSchedule.create()
  const start = await DeviceTensor.from({ data: Float64Array.of(1), shape: [1] })
  const shares = new Map<string, Map<string, number[]>>()
  for (const spacing of SPACINGS) {
    const process = schedule.respace({ spacing, steps })
    const bySolver = new Map<string, number[]>()
    for (const [name, solver] of Object.entries(SPREAD_SOLVERS)) {
      const list: number[] = []
      for (const deviation of variances.map(Math.sqrt)) {
        const data = { weights: [1], means: [0], deviations: [deviation] }
        const end = await solve({ process, start, solver, predictXStart: exactPrediction(process, data) })
        list.push(((await end.toHost()).data[0] as number) / deviation)
        end.dispose()
      }
      bySolver.set(name, list)
    }
    shares.set(spacing, bySolver)
    process.dispose()
  }
  start.dispose()
  schedule.dispose()
  return shares
}

const SPREAD_SOLVERS = {
  ddim: 'euler', // the same steps
  dpmpp2m: 'dpmpp2m',
  'dpmpp2m --no-lower-order-final': { name: 'dpmpp2m', lowerOrderFinal: false },
} as const

/** What a perfect network says, in the precision of what it sees. */
function exactPrediction(process: NoiseSchedule, mixture = MIXTURE): SolveOptions['predictXStart'] {
  return async (xt, k) => {
    const x = (await xt.toHost()).data as Float32Array | Float64Array
    const xStart = gaussianMixtureXStart(mixture, Float64Array.from(x), process.tables.alphaBar[k]!)
    const data = x instanceof Float32Array ? Float32Array.from(xStart) : xStart
    return DeviceTensor.from({ data, shape: [data.length] })
  }
}

function distance(x: ArrayLike<number>, exact: Float64Array): number {
  return Math.sqrt(exact.reduce((sum, value, i) => sum + (value - x[i]!) ** 2, 0) / POINTS)
}

/** Least squares of log error over log steps: minus the order. */
export function fittedSlope(stepCounts: readonly number[], errors: readonly number[]): number {
  const [x, y] = [stepCounts.map(Math.log), errors.map(Math.log)]
  const mean = (list: readonly number[]): number => list.reduce((a, b) => a + b, 0) / list.length
  const [mx, my] = [mean(x), mean(y)]
  const products = x.reduce((sum, value, i) => sum + (value - mx) * (y[i]! - my), 0)
  return products / x.reduce((sum, value) => sum + (value - mx) ** 2, 0)
}

async function main(): Promise<void> {
  const base = process.argv[2] ?? 'docs/images/solver-order'
  const stepCounts = [4, 8, 16, 32, 64, 128, 256, 512]
  const errors = await solverErrors(stepCounts)
  const fitted = stepCounts.slice(3)
  console.log(
    `| solver | predictions a step | ${stepCounts.join(' | ')} | slope from ${fitted[0]} steps on |`,
  )
  console.log(`|---|---|${stepCounts.map(() => '---|').join('')}---|`)
  for (const [name, list] of errors) {
    const cells = list.map((error) => error.toExponential(1))
    const slope = fittedSlope(fitted, list.slice(3)).toFixed(2)
    console.log(`| \`${name}\` | ${name === 'heun' ? 2 : 1} | ${cells.join(' | ')} | ${slope} |`)
  }
  for (const [name, list] of await solverErrors(stepCounts, Float32Array)) {
    const cells = list.map((error) => error.toExponential(1))
    console.log(`| \`${name}\`, float32 | ${name === 'heun' ? 2 : 1} | ${cells.join(' | ')} | |`)
  }
  for (const steps of [10, 20]) {
    console.log(
      `\n| ${steps} timesteps | euler | heun | dpmpp2m | dpmpp2m, lowerOrderFinal false |\n|---|---|---|---|---|`,
    )
    for (const [spacing, list] of await spacingErrors(steps)) {
      console.log(`| \`${spacing}\` | ${list.map((error) => error.toExponential(1)).join(' | ')} |`)
    }
  }
  const variances = [0.1, 1, 10]
  for (const steps of [5, 10]) {
    const shares = await keptSpread(steps, variances)
    const solvers = Object.keys(SPREAD_SOLVERS)
    console.log(
      `\n| ${steps} steps, variances ${variances.join(', ')} | ${solvers.join(' | ')} |\n|---|${'---|'.repeat(solvers.length)}`,
    )
    for (const [spacing, bySolver] of shares) {
      const cells = [...bySolver.values()].map((list) => list.map((share) => share.toFixed(2)).join(', '))
      console.log(`| \`${spacing}\` | ${cells.join(' | ')} |`)
    }
  }
  const guide = (order: number, at: number) =>
    stepCounts.map((steps) => at * (stepCounts[0]! / steps) ** order)
  const svg = await plotSvg({
    title: 'Error of the solvers on a Gaussian mixture',
    x: { label: 'steps', scale: 'log' },
    y: { label: 'error (RMS)', scale: 'log' },
    series: [
      ...[...errors].map(([name, y]) => ({ name: TITLES[name as keyof typeof TITLES], x: stepCounts, y })),
      { name: 'order 1', x: stepCounts, y: guide(1, 0.5), color: '#999999', opacity: 0.8 },
      { name: 'order 2', x: stepCounts, y: guide(2, 0.5), color: '#555555', opacity: 0.8 },
    ],
  })
  await writeFile(`${base}.svg`, svg)
  await writeFile(`${base}.png`, await svgToPng(svg))
}

if (/solver-order\.ts$/.test(process.argv[1] ?? '')) await main()
