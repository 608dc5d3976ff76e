// How much memory does loading a large file of weights take besides the network?
//
//   npx tsx bench/load-memory.ts            a .pt file of 351 MiB (92 million weights), made in a temporary folder
//   npx tsx bench/load-memory.ts FILE.pt    a published file
import { readFileSync } from 'node:fs'
import { mkdtemp, rm, stat } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { convertWeights, describeModel, memoryCount, resetPeakMemory, UNet } from '../lib/index.ts'

const MIB = 2 ** 20

/** The default network of guided-diffusion for 64x64. */
const NETWORK = {
  modelChannels: 128,
  channelMult: [1, 2, 3, 4],
  attentionResolutions: [4, 8],
  heads: ['eps'],
} as const

const folder = await mkdtemp(join(tmpdir(), 'trislot-load-'))
try {
  const [given] = process.argv.slice(2)
  const file = given ?? (await make())
  const { network } = given ? await describeModel(file) : { network: NETWORK }
  const unet = await UNet.create(network)
  const before = memoryCount().liveBytes
  await resetPeakMemory()
  const began = performance.now()
  await unet.loadWeights(file)
  const seconds = (performance.now() - began) / 1000
  const { peakBytes } = memoryCount()
  const status = readFileSync('/proc/self/status', 'utf8')
  const most = Number(/VmHWM:\s+(\d+) kB/.exec(status)?.[1]) / 1024
  console.log(
    `file ${((await stat(file)).size / MIB).toFixed(0)} MiB, network ${(before / MIB).toFixed(0)} MiB`,
  )
  console.log(
    `loading took ${((peakBytes - before) / MIB).toFixed(1)} MiB more at its peak, and ${seconds.toFixed(1)} s`,
  )
  console.log(`the process never had more than ${most.toFixed(0)} MiB resident`)
  unet.dispose()
} finally {
  await rm(folder, { recursive: true })
}
process.exit(0)

async function make(): Promise<string> {
  const [safe, file] = [join(folder, 'w.safetensors'), join(folder, 'w.pt')]
  const unet = await UNet.create(NETWORK)
  await unet.saveWeights(safe)
  unet.dispose()
  await convertWeights(safe, file)
  return file
}
