// How far estimateMemory is from what a training step takes: tensors (memoryCount) and the growth of the process, each
// measured in a fresh process. Prints a table, one JSON object with --json FILE.
// Usage: npx tsx bench/memory-estimate.ts [--networks 28x28,32x32] [--batches 1,8] [--threads N] [--json FILE]
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { estimateMemory, type Precision } from '../lib/index.ts'
import { packageRoot } from '../lib/setup/paths.ts'
import { NETWORKS } from './networks.ts'
import { Worker } from './protocol.ts'

const { values } = parseArgs({
  options: {
    networks: { type: 'string', default: '28x28,32x32,64x64,256x256' },
    batches: { type: 'string', default: '1,4,16' },
    precisions: { type: 'string', default: 'fp32,bf16' },
    threads: { type: 'string', default: '2' },
    json: { type: 'string' },
  },
})

const mebibytes = (bytes: number): string => (bytes / 2 ** 20).toFixed(1).padStart(8)
const percent = (ratio: number): string => `${((ratio - 1) * 100).toFixed(1)} %`.padStart(9)

console.log('network  batch prec.  recompute  estimate  tensors    off    process    off   (MiB)')
const rows: object[] = []
let worst = 0
for (const { name, config, size } of NETWORKS) {
  if (!values.networks.split(',').includes(name)) continue
  // The largest network at batch 16 would take minutes.
  for (const batch of values.batches.split(',').map(Number)) {
    if (size >= 256 && batch > 4) continue
    for (const precision of values.precisions.split(',') as Precision[]) {
      for (const recompute of [false, true]) {
        const network = { ...config, recompute }
        const { totalBytes, ...parts } = estimateMemory(network, { size: [size, size], batch, precision })
        const measured = await measure({ network, size, batch, precision })
        const { tensorBytes, peakBytes } = measured
        worst = Math.max(worst, Math.abs(totalBytes / tensorBytes - 1))
        rows.push({
          network: name,
          batch,
          precision,
          recompute,
          estimate: { ...parts, totalBytes },
          ...measured,
        })
        console.log(
          `${name.padEnd(9)}${String(batch).padEnd(6)}${precision.padEnd(7)}${String(recompute).padEnd(9)}` +
            `${mebibytes(totalBytes)} ${mebibytes(tensorBytes)}${percent(totalBytes / tensorBytes)}` +
            ` ${mebibytes(peakBytes)}${percent(totalBytes / peakBytes)}`,
        )
      }
    }
  }
}
console.log(`furthest from the tensors: ${(100 * worst).toFixed(1)} %`)
if (values.json)
  writeFileSync(
    values.json,
    `${JSON.stringify({ command: ['npx tsx bench/memory-estimate.ts', ...process.argv.slice(2)].join(' '), rows }, undefined, 1)}\n`,
  )

async function measure(job: {
  network: (typeof NETWORKS)[number]['config']
  size: number
  batch: number
  precision: Precision
}): Promise<{ tensorBytes: number; peakBytes: number }> {
  const worker = new Worker({
    label: 'trislot',
    program: process.execPath,
    argv: ['--import', 'tsx', join(packageRoot(), 'bench', 'worker.ts'), '--threads', values.threads],
    env: { OMP_NUM_THREADS: values.threads },
  })
  try {
    await worker.build({ work: 'train', ...job, variant: {} })
    await worker.time(2)
    return await worker.ask<{ tensorBytes: number; peakBytes: number }>({ command: 'memory' })
  } finally {
    await worker.close()
  }
}
