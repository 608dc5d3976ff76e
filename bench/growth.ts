// How the cost of a training step grows with batch, image size and width: one table, one JSON file, one plot.
// Usage: npx tsx bench/growth.ts [--json bench/results/growth.json] [--plot docs/images/growth.svg] [--threads N] [--quick]
import { mkdirSync, writeFileSync } from 'node:fs'
import { cpus } from 'node:os'
import { dirname } from 'node:path'
import { parseArgs } from 'node:util'
import {
  measureSpeed,
  NoiseSchedule,
  type Precision,
  plotSvg,
  runtimeInfo,
  type Series,
  setThreads,
  svgToPng,
  Trainer,
  UNet,
  type UNetOptions,
  unetConfig,
} from '../lib/index.ts'
import { forwardFlops } from '../lib/model/layers.ts'

const { values } = parseArgs({
  options: {
    json: { type: 'string', default: 'bench/results/growth.json' },
    plot: { type: 'string', default: 'docs/images/growth.png' },
    threads: { type: 'string' },
    quick: { type: 'boolean', default: false },
  },
})
if (values.threads) await setThreads(Number(values.threads))
const started = performance.now()

/** One point: what is varied, and the rest as in the middle. */
interface Point {
  readonly varied: 'batch' | 'size' | 'width'
  readonly batch: number
  readonly size: number
  readonly width: number
}

const MIDDLE = { batch: 4, size: 32, width: 64 }
/** A point that would take longer than this for one step is left out. */
const LONGEST_STEP_MS = 20_000
const lists = values.quick
  ? { batch: [1, 2], size: [16], width: [32] }
  : { batch: [1, 2, 4, 8, 16, 32, 64], size: [16, 32, 64, 128], width: [32, 64, 96, 128] }
const points: Point[] = Object.entries(lists).flatMap(([varied, list]) =>
  list.map((value) => ({ varied: varied as Point['varied'], ...MIDDLE, [varied]: value })),
)

interface Row extends Point {
  readonly precision: Precision
  readonly stepMs: number
  readonly imagesPerSecond: number
  readonly peakTensorBytes: number
  readonly gflop: number
}

const rows: Row[] = []
console.log('varied  batch  size  width  prec.   ms a step  images/s   MiB   GFLOP/s')
for (const precision of ['fp32', 'bf16'] as const) {
  let previous: Row | undefined
  for (const point of points) {
    if (previous?.varied !== point.varied) previous = undefined
    const options: UNetOptions = {
      modelChannels: point.width,
      channelMult: [1, 2, 2],
      resBlockCount: 2,
      attentionResolutions: [2, 4],
      resBlockUpDown: true,
    }
    const gflop = (3 * point.batch * forwardFlops(unetConfig(options), [point.size, point.size])) / 1e9
    const expectedMs = previous ? (previous.stepMs * gflop) / previous.gflop : 0
    if (expectedMs > LONGEST_STEP_MS) {
      console.log(
        `${point.varied} ${point[point.varied]} left out: about ${(expectedMs / 1000).toFixed(0)} s a step`,
      )
      continue
    }
    const unet = await UNet.create(options)
    const schedule = NoiseSchedule.create()
    const trainer = await Trainer.create(unet, schedule, { precision })
    const stepCount = Math.max(1, Math.min(10, Math.round(3000 / Math.max(expectedMs, 1))))
    const speed = await measureSpeed(trainer, {
      batchSize: point.batch,
      size: [point.size, point.size],
      stepCount: expectedMs === 0 ? 3 : stepCount,
    })
    for (const owner of [trainer, schedule, unet]) owner.dispose()
    const { stepMs, imagesPerSecond, peakTensorBytes } = speed
    previous = { ...point, precision, stepMs, imagesPerSecond, peakTensorBytes, gflop }
    rows.push(previous)
    console.log(
      `${point.varied.padEnd(8)}${String(point.batch).padEnd(7)}${String(point.size).padEnd(6)}${String(point.width).padEnd(7)}` +
        `${precision}  ${stepMs.toFixed(1).padStart(10)}${imagesPerSecond.toFixed(1).padStart(10)}` +
        `${(peakTensorBytes / 2 ** 20).toFixed(0).padStart(7)}${((1000 * gflop) / stepMs).toFixed(0).padStart(9)}`,
    )
  }
}

// Each line against the multiple of its first point, so that all three fit one plot: a slope of 1 is proportional growth.
const series: Series[] = (['batch', 'size', 'width'] as const).map((varied) => {
  const line = rows.filter((row) => row.varied === varied && row.precision === 'fp32')
  const [first] = line
  return {
    name: varied === 'batch' ? 'batch' : varied === 'size' ? 'pixels (size squared)' : 'width squared',
    kind: 'line',
    x: line.map((row) => (row[varied] / (first as Row)[varied]) ** (varied === 'batch' ? 1 : 2)),
    y: line.map((row) => row.stepMs / (first as Row).stepMs),
  }
})
const svg = await plotSvg({
  title: 'How the time of a training step grows',
  subtitle: `float32, from batch ${rows[0]?.batch}, size ${lists.size[0]}, width ${lists.width[0]}; others at batch ${MIDDLE.batch}, size ${MIDDLE.size}, width ${MIDDLE.width}`,
  x: { label: 'times as many images, pixels, or channels squared', scale: 'log' },
  y: { label: 'times as long', scale: 'log' },
  series,
})
for (const file of [values.json, values.plot]) mkdirSync(dirname(file), { recursive: true })
writeFileSync(values.plot, values.plot.endsWith('.svg') ? svg : await svgToPng(svg))
const { libtorch, threads, cpuCapability } = await runtimeInfo()
const result = {
  command: ['npx tsx bench/growth.ts', ...process.argv.slice(2)].join(' '),
  date: new Date().toISOString(),
  machine: { cpu: cpus()[0]?.model, threads, cpuCapability, libtorch, node: process.versions.node },
  network:
    'channel multiples 1,2,2, 2 blocks, attention at factors 2 and 4, residual up and down; three heads',
  rows,
}
writeFileSync(values.json, `${JSON.stringify(result, undefined, 1)}\n`)
console.log(
  `${values.json} and ${values.plot} in ${((performance.now() - started) / 60_000).toFixed(1)} minutes`,
)
