import { expect } from 'chai'
import { UNet } from '../../lib/model/unet.ts'
import type { Choose, Space } from '../../lib/native.ts'
import { NoiseSchedule } from '../../lib/schedule/noise-schedule.ts'
import { Trainer } from '../../lib/training/trainer.ts'
import { expectClose } from '../support/close.ts'
import { fixtureJson, fixtureTensors, float32, int32 } from '../support/fixtures.ts'
import { loadFormulaWeights } from '../support/formula-weights.ts'

interface Case {
  compare: Space
  choose: Choose
  space: Space
  total: number
  loss: number[]
  chosen: number[]
  gradNorm: number
}

describe('The three-head loss against the reference', () => {
  const json = fixtureJson('three-head.json')

  for (const choose of ['min', 'minBatch', 'mean', 'xStart', 'v', 'eps']) {
    it(`agrees for choice ${choose} in every space of comparison and back-propagation`, async () => {
      const fixture = await fixtureTensors('three-head.safetensors')
      const schedule = NoiseSchedule.create({ name: 'linear' })
      const { noiseKey } = json
      const unet = await UNet.create({
        modelChannels: 32,
        resBlockCount: 1,
        attentionResolutions: [2],
        channelMult: [1, 2],
        headChannels: 16,
        resBlockUpDown: true,
      })
      for (const expected of (json.cases as Case[]).filter((entry) => entry.choose === choose)) {
        const what = `${expected.compare}/${expected.choose}/${expected.space}`
        await loadFormulaWeights(unet)
        const { compare, space } = expected
        const trainer = await Trainer.create(unet, schedule, {
          seed: noiseKey.seed,
          loss: { compare, space, choose: expected.choose, sigmaData: json.sigmaData },
          emaRates: [],
          clipNorm: 0,
        })
        const x = fixture('x_start')
        const images = { data: float32(x), shape: x.shape as [number, number, number, number] }
        const t = int32(fixture('t'))
        const weight = float32(fixture('weight'))
        // The noise is keyed by the step, so the trainer is brought to the fixture's step without moving any weight.
        for (let step = 0; step < noiseKey.step; step++) await trainer.trainStep({ images, t, weight, lr: 0 })

        const result = await trainer.trainStep({ images, t, weight, lr: 0 })

        expectClose(result.perHead, json.perHead.flat(), { relative: 1e-4, what: `${what} perHead` })
        expect(Array.from(result.chosen), what).to.deep.equal(expected.chosen)
        expectClose(result.exampleLoss, expected.loss, { relative: 1e-4, what: `${what} loss` })
        expectClose([result.loss], [expected.total], { relative: 1e-4, what: `${what} total` })
        expectClose([result.gradNorm], [expected.gradNorm], { relative: 1e-3, what: `${what} gradient norm` })
        trainer.dispose()
      }
      unet.dispose()
    })
  }
})
