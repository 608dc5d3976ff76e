import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { readTensors } from '../../lib/checkpoint-file.ts'
import { UNet } from '../../lib/model/unet.ts'
import { NoiseSchedule } from '../../lib/schedule/noise-schedule.ts'
import type { HostTensor } from '../../lib/tensor.ts'
import { Trainer } from '../../lib/training/trainer.ts'
import { expectClose } from '../support/close.ts'
import { loadSineWeights } from '../support/sine-weights.ts'

const sum = (tensors: Iterable<HostTensor>, of: (value: number) => number): number => {
  let total = 0
  for (const { data } of tensors) for (const value of data as Float32Array) total += of(value)
  return total
}
const norm = (tensors: Iterable<HostTensor>): number => Math.sqrt(sum(tensors, (value) => value * value))

describe('One step of training against the original', () => {
  it('has its losses, gradients, AdamW update and average without warm-up', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'trislot-original-step-'))
    try {
      const unet = await UNet.create({
        heads: ['eps'],
        learnsVariance: true,
        modelChannels: 32,
        channelMult: [1, 2],
        resBlockCount: 1,
        attentionResolutions: [2],
        attentionHeads: 4,
        resBlockUpDown: true,
        classCount: 10,
      })
      await loadSineWeights(unet)
      const trainer = await Trainer.create(unet, NoiseSchedule.create({ name: 'linear' }).respace(''), {
        weightDecay: 0.01,
        decayAll: true,
        clipNorm: 0,
        emaRates: [0.999],
        emaWarmsUp: false,
      })

      const count = 2 * 3 * 32 * 32
      const result = await trainer.trainStep({
        images: {
          data: Float32Array.from({ length: count }, (_, i) => Math.sin(0.013 * i + 0.2)),
          shape: [2, 3, 32, 32],
          labels: Int32Array.of(1, 7),
        },
        t: Int32Array.of(0, 500),
        noise: Float32Array.from({ length: count }, (_, i) => 1.3 * Math.sin(1.7 * i + 0.5)),
        lr: 1e-3,
      })
      const tolerance = { relative: 1e-4 }
      expectClose(result.bound as Float32Array, [2.2715008, 0.0069120331], { ...tolerance, what: 'bound' })
      expectClose(result.perHead, [0.87648982, 0.86918229], { ...tolerance, what: 'mse' })
      expectClose(result.exampleLoss, [3.1479907, 0.87609434], { ...tolerance, what: 'loss' })
      expectClose([result.gradNorm], [8.2035788], { relative: 1e-3, what: 'gradient norm' })

      await trainer.saveTensors(folder)
      const read = async (name: string) => (await readTensors(join(folder, `${name}.safetensors`))).tensors
      const optimizer = await read('optimizer')
      for (const [name, total, length] of [
        ['input_blocks.0.0.weight', -0.208578, 6.64533],
        ['out.2.weight', 7.01573, 0.684952],
        ['label_emb.weight', -0.0249287, 0.0242838],
        ['input_blocks.3.1.qkv.weight', -0.00156419, 0.00900776],
      ] as const) {
        // After one step the first moment is a tenth of the gradient.
        const gradient = [optimizer.get(`exp_avg.${name}`) as HostTensor]
        expectClose([10 * norm(gradient)], [length], { relative: 1e-3, what: `norm of ${name}` })
        const rounding = 1e-4 * length // of a sum whose terms cancel
        expectClose([10 * sum(gradient, (v) => v)], [total], {
          absolute: rounding,
          relative: 1e-3,
          what: `sum of ${name}`,
        })
      }
      const model = (await read('model')).values()
      const after = [...model]
      expectClose([norm(after)], [64.264332], { relative: 1e-6, what: 'norm of the weights' })
      // Adam moves the 300 to 700 weights whose gradients are zero but for rounding by 0.001, up or down at random: the sum is
      // known to about 0.025.
      expectClose([sum(after, (v) => v)], [1475.80874], { absolute: 0.1, what: 'sum of the weights' })
      const average = [...(await read('ema-0.999')).values()]
      expectClose([sum(average, (v) => v)], [1469.4229], { absolute: 1e-3, what: 'sum of the average' })
    } finally {
      await rm(folder, { recursive: true })
    }
  })
})
