// trislot's side of the bench: builds and steps what it is asked to, as a run does. See bench/protocol.ts.
// Usage: tsx bench/worker.ts [--threads N] [--device cpu]
import { readFileSync, writeFileSync } from 'node:fs'
import { createInterface } from 'node:readline'
import { parseArgs } from 'node:util'
import {
  Denoiser,
  type Device,
  type DeviceTensor,
  memoryCount,
  NoiseSchedule,
  parseMix,
  resetPeakMemory,
  runtimeInfo,
  setThreads,
  Trainer,
  UNet,
  uniformSampler,
} from '../lib/index.ts'
import { runMixing } from '../lib/training/mixing-options.ts'
import type { Job } from './protocol.ts'

const TIMESTEPS = 1000
const SAMPLING_STEPS = 50

/** Something that can be stepped; the answer is the loss, null without one. */
interface Stepper {
  readonly parameterCount: number
  step(): Promise<number | null>
  dispose(): void
}

const { values } = parseArgs({ options: { threads: { type: 'string' }, device: { type: 'string' } } })
const device = (values.device ?? 'cpu') as Device
if (values.threads) await setThreads(Number(values.threads))

async function trainer(job: Job): Promise<Stepper> {
  const unet = await UNet.create(job.network, { device })
  const schedule = NoiseSchedule.create({ timestepCount: TIMESTEPS })
  const mix = job.mix === undefined ? undefined : parseMix(job.mix)
  const trainer = await Trainer.create(unet, schedule, {
    precision: job.precision,
    ...(mix && { loss: mix.loss }),
  })
  const shape = [job.batch, job.network.imageChannels, job.size, job.size] as const
  const data = new Uint8Array(shape.reduce((a, b) => a * b, 1)).map((_, i) => (i * 37) % 256)
  const sampler = uniformSampler({ timestepCount: TIMESTEPS })
  const { heads } = unet.layout
  // The statistics that every run of several heads keeps, and what decides by them.
  const mixing = runMixing({ mix: job.mix, steps: TIMESTEPS, sigmaData: 0.5 }, heads, schedule)?.policy
  return {
    parameterCount: unet.parameterCount,
    async step() {
      const { t } = sampler.draw(job.batch, trainer.step)
      const decision = mixing?.decide(t, trainer.step)
      const result = await trainer.trainStep({ images: { data, shape }, t, ...decision, lr: 1e-4 })
      mixing?.observe?.({ ...result, t, loss: result.exampleLoss, heads })
      return result.loss
    },
    dispose() {
      for (const owner of [trainer, schedule, unet]) owner.dispose()
    },
  }
}

/** DDIM (eta 0) with v alone, over and over from the same noise. */
async function sampler(job: Job): Promise<Stepper> {
  const unet = await UNet.create(job.network, { device })
  const schedule = NoiseSchedule.create({ timestepCount: TIMESTEPS })
  const process = schedule.respace(String(SAMPLING_STEPS))
  const denoiser = new Denoiser(unet, process, { precision: job.precision, combine: 'v' })
  const start = await denoiser.noise([job.batch, job.network.imageChannels, job.size, job.size], 0)
  let xt: DeviceTensor = start
  let k = SAMPLING_STEPS - 1
  return {
    parameterCount: unet.parameterCount,
    async step() {
      const { xStart } = await denoiser.predictXStart(xt, k)
      const next = await denoiser.reverseStep({ xt, xStart, k, eta: 0, seed: 0 })
      xStart.dispose()
      if (xt !== start) xt.dispose()
      k = k === 0 ? SAMPLING_STEPS - 1 : k - 1
      xt = k === SAMPLING_STEPS - 1 ? start : next
      if (xt !== next) next.dispose()
      return null
    },
    dispose() {
      if (xt !== start) xt.dispose()
      for (const owner of [start, process, schedule, unet]) owner.dispose()
    },
  }
}

/** A field of /proc/self/status in bytes: VmRSS (now) or VmHWM (most since the last reset). */
function statusBytes(field: 'VmRSS' | 'VmHWM'): number {
  const text = readFileSync('/proc/self/status', 'utf8')
  return Number(new RegExp(`^${field}:\\s+(\\d+) kB$`, 'm').exec(text)?.[1]) * 1024
}

let stepper: Stepper | undefined
let residentBefore = 0
let liveBefore = 0

const COMMANDS: Record<string, (question: Job & { steps: number }) => Promise<object>> = {
  async info() {
    const { libtorch, cpuCapability, threads, parallel, onednn, mkl } = await runtimeInfo()
    const versions = { node: process.versions.node, libtorch, cpuCapability, onednn, mkl }
    return { name: 'trislot', versions, threads: Number(threads), device, parallel }
  },
  async build(job) {
    stepper?.dispose()
    stepper = undefined
    writeFileSync('/proc/self/clear_refs', '5') // the peak counts from here
    residentBefore = statusBytes('VmRSS')
    liveBefore = memoryCount().liveBytes
    await resetPeakMemory()
    stepper = await (job.work === 'train' ? trainer : sampler)(job)
    return { parameterCount: stepper.parameterCount }
  },
  async time({ steps }) {
    if (!stepper) throw new Error('expected build before time, got none')
    const ms: number[] = []
    let loss: number | null = null
    for (let i = 0; i < steps; i++) {
      const begin = performance.now()
      loss = await stepper.step()
      ms.push(performance.now() - begin)
    }
    return { ms, loss }
  },
  async memory() {
    const tensorBytes = memoryCount().peakBytes - liveBefore
    return { peakBytes: statusBytes('VmHWM') - residentBefore, tensorBytes }
  },
  async close() {
    stepper?.dispose()
    return {}
  },
}
COMMANDS.warm = COMMANDS.time as (typeof COMMANDS)[string]

for await (const line of createInterface({ input: process.stdin })) {
  const question = JSON.parse(line) as Job & { command: string; steps: number }
  const command = COMMANDS[question.command]
  const answer = command
    ? await command(question).catch((error: Error) => ({ error: error.message }))
    : { error: `expected a command, got ${question.command}` }
  process.stdout.write(`${JSON.stringify(answer)}\n`)
  if (question.command === 'close') break
}
process.exit(0)
