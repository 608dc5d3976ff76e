// How far a 10 ms timer slips while a network trains: the event loop must stay free. Prints one JSON line.
// Usage: npx tsx bench/event-loop.ts [seconds]
import { NoiseSchedule, Trainer, UNet } from '../lib/index.ts'

const seconds = Number(process.argv[2] ?? 20)
const unet = await UNet.create({ imageChannels: 3, modelChannels: 64, attentionResolutions: [2, 4] })
const trainer = await Trainer.create(unet, NoiseSchedule.create())
const shape = [8, 3, 32, 32] as const
const images = { data: new Uint8Array(8 * 3 * 32 * 32).map((_, i) => i % 256), shape }
const t = Int32Array.from({ length: 8 }, (_, i) => i * 120)

await trainer.trainStep({ images, t, lr: 1e-4 })
const slips: number[] = []
let expected = performance.now() + 10
const timer = setInterval(() => {
  const now = performance.now()
  slips.push(Math.max(0, now - expected))
  expected = now + 10
}, 10)
const end = performance.now() + seconds * 1000
let steps = 0
while (performance.now() < end) {
  await trainer.trainStep({ images, t, lr: 1e-4 })
  steps++
}
clearInterval(timer)
slips.sort((a, b) => a - b)
const at = (share: number) => Number((slips[Math.floor(share * (slips.length - 1))] as number).toFixed(1))
console.log(
  JSON.stringify({ steps, ticks: slips.length, slipMs: { median: at(0.5), p99: at(0.99), max: at(1) } }),
)
