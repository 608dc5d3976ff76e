import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect } from 'chai'
import { readTensors } from '../../lib/checkpoint-file.ts'
import { UNet } from '../../lib/model/unet.ts'
import { NoiseSchedule } from '../../lib/schedule/noise-schedule.ts'
import { Trainer } from '../../lib/training/trainer.ts'
import { expectClose } from '../support/close.ts'
import { fixtureJson, fixtureTensors, float32 } from '../support/fixtures.ts'
import { loadFormulaWeights } from '../support/formula-weights.ts'

describe('Ten steps of training against the reference', () => {
  const json = fixtureJson('ten-steps.json')

  for (const choose of ['min', 'mean'] as const) {
    it(`gives the losses, gradient norms, weights and averages of choice ${choose}`, async () => {
      const fixture = await fixtureTensors('ten-steps.safetensors')
      const { training } = json
      const unet = await UNet.create({
        imageChannels: 1,
        modelChannels: json.config.model_channels,
        resBlockCount: 1,
        channelMult: [1],
        attentionHeads: 1,
        normGroups: json.config.norm_groups,
      })
      await loadFormulaWeights(unet)
      const trainer = await Trainer.create(unet, NoiseSchedule.create({ name: 'linear' }), {
        seed: training.seed,
        loss: { compare: training.compare, space: training.space, choose },
        weightDecay: training.weightDecay,
        decayAll: training.decayAll,
        clipNorm: training.clipNorm,
        emaRates: training.emaRates,
        emaWarmsUp: training.emaWarmsUp,
        microBatch: training.microBatch,
      })
      const pixels = fixture('images').data as Uint8Array
      for (const [step, expected] of json.runs[choose].steps.entries()) {
        const result = await trainer.trainStep({
          images: { data: pixels.slice(step * 256, (step + 1) * 256), shape: [4, 1, 8, 8] },
          t: Int32Array.from(json.t[step]),
          weight: Float32Array.from(json.weight[step]),
          lr: training.lr,
        })
        expectClose([result.loss], [expected.loss], { relative: 1e-4, what: `loss of step ${step}` })
        expectClose([result.gradNorm], [expected.gradNorm], {
          relative: 1e-3,
          what: `gradient norm of step ${step}`,
        })
        expectClose(result.perHead, expected.perHead.flat(), {
          relative: 1e-4,
          what: `perHead of step ${step}`,
        })
        expect(Array.from(result.chosen)).to.deep.equal(expected.chosen)
      }

      const folder = await mkdtemp(join(tmpdir(), 'trislot-ten-steps-'))
      try {
        await trainer.saveTensors(folder)
        for (const [file, name] of [
          ['model', 'weights'],
          ['ema-0.9', 'ema0.9'],
          ['ema-0.999', 'ema0.999'],
        ]) {
          const { tensors } = await readTensors(join(folder, `${file}.safetensors`))
          for (const [parameter, tensor] of tensors) {
            const actual = float32(tensor).slice()
            const wanted = float32(fixture(`${choose}.${name}.${parameter}`)).slice()
            // Rows whose gradient is zero but for rounding are moved by Adam at random.
            const [begin, end] = json.excluded[parameter] ?? [0, 0]
            actual.fill(0, begin, end)
            wanted.fill(0, begin, end)
            expectClose(actual, wanted, { absolute: 1e-5, what: `${name} ${parameter}` })
          }
        }
      } finally {
        await rm(folder, { recursive: true })
      }
      trainer.dispose()
      unet.dispose()
    })
  }
})
