import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect } from 'chai'
import { readTensors } from '../../lib/checkpoint-file.ts'
import { UNet } from '../../lib/model/unet.ts'
import { NoiseSchedule } from '../../lib/schedule/noise-schedule.ts'
import { lossSecondMomentSampler } from '../../lib/timesteps/loss-second-moment.ts'
import { learningRate } from '../../lib/training/learning-rate.ts'
import { train } from '../../lib/training/loop.ts'
import { Trainer } from '../../lib/training/trainer.ts'
import { expectClose } from '../support/close.ts'
import { fixtureJson, fixtureTensors, float32 } from '../support/fixtures.ts'
import { loadFormulaWeights } from '../support/formula-weights.ts'

describe("Ten steps with guided-diffusion's own settings against the reference", () => {
  it('draws the same timesteps and gives the losses, gradient norms, weights and averages', async () => {
    const json = fixtureJson('original-steps.json')
    const fixture = await fixtureTensors('original-steps.safetensors')
    const { training, config } = json
    const unet = await UNet.create({
      imageChannels: 1,
      heads: ['eps'],
      learnsVariance: true,
      modelChannels: config.model_channels,
      resBlockCount: 1,
      channelMult: [1],
      attentionHeads: 1,
      normGroups: config.norm_groups,
    })
    await loadFormulaWeights(unet)
    const schedule = NoiseSchedule.create({ name: json.schedule, timestepCount: json.timestepCount }).respace(
      json.respacing,
    )
    const trainer = await Trainer.create(unet, schedule, {
      seed: training.seed,
      loss: { kind: 'rescaledMse' },
      rescalesTimesteps: true,
      weightDecay: training.weight_decay,
      decayAll: true,
      clipNorm: 0,
      emaRates: training.ema_rates,
      emaWarmsUp: false,
      microBatch: training.micro_batch,
      sumsMicroBatches: true,
    })
    const pixels = fixture('images').data as Uint8Array
    const size = 8 * 64
    const batches = json.steps.map((_: unknown, step: number) => ({
      data: pixels.slice(step * size, (step + 1) * size),
      shape: [8, 1, 8, 8],
    }))
    const sampler = lossSecondMomentSampler({ timestepCount: schedule.timestepCount, seed: training.seed })
    const lr = learningRate({
      kind: 'guidedDiffusionAnneal',
      base: training.lr,
      totalSteps: training.anneal_steps,
    })
    for await (const report of train({ trainer, sampler, batches, lr })) {
      const expected = json.steps[report.step]
      const what = (name: string) => `${name} of step ${report.step}`
      expect(Array.from(report.t), what('t')).to.deep.equal(expected.t)
      expectClose(report.weight, expected.weight, { relative: 1e-4, what: what('weight') })
      expectClose([report.lr], [expected.lr], { relative: 1e-12, what: what('lr') })
      expectClose([report.loss], [expected.loss], { relative: 1e-4, what: what('loss') })
      expectClose([report.gradNorm], [expected.gradNorm], { relative: 1e-3, what: what('gradient norm') })
      expectClose(report.perHead, expected.mse, { relative: 1e-4, what: what('mse') })
      const rescaled = (report.bound as Float32Array).map((bits) => (bits * schedule.timestepCount) / 1000)
      expectClose(rescaled, expected.vb, { relative: 1e-3, absolute: 1e-5, what: what('bound') })
    }
    expect(trainer.step).to.equal(10)

    const folder = await mkdtemp(join(tmpdir(), 'trislot-original-steps-'))
    try {
      await trainer.saveTensors(folder)
      for (const [file, name] of [
        ['model', 'weights'],
        ['ema-0.9', 'ema0.9'],
        ['ema-0.9999', 'ema0.9999'],
      ]) {
        const { tensors } = await readTensors(join(folder, `${file}.safetensors`))
        for (const [parameter, tensor] of tensors) {
          const actual = float32(tensor).slice()
          const wanted = float32(fixture(`${name}.${parameter}`)).slice()
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
  })
})
