import { expect } from 'chai'
import { DeviceTensor } from '../../lib/device-tensor.ts'
import { UNet } from '../../lib/model/unet.ts'
import type { Space } from '../../lib/native.ts'
import { Denoiser } from '../../lib/sampling/denoiser.ts'
import { NoiseSchedule } from '../../lib/schedule/noise-schedule.ts'
import { Trainer } from '../../lib/training/trainer.ts'
import { expectClose } from '../support/close.ts'
import { fixtureJson, fixtureTensors, float32, int32 } from '../support/fixtures.ts'
import { loadFormulaWeights } from '../support/formula-weights.ts'

interface Case {
  space: Space
  total: number
  loss: number[]
  gradNorm: number
}

describe("The head F against EDM's formulas", () => {
  const json = fixtureJson('f-head.json')
  const network = {
    ...{ modelChannels: 32, resBlockCount: 1, attentionResolutions: [2], channelMult: [1, 2] },
    ...{ headChannels: 16, resBlockUpDown: true, heads: ['F'] as const },
  }
  const schedule = NoiseSchedule.create({ name: 'linear' })
  let unet: UNet
  before(async () => {
    unet = await UNet.create(network)
    await loadFormulaWeights(unet)
  })
  after(() => {
    unet.dispose()
    schedule.dispose()
  })

  for (const expected of json.cases as Case[]) {
    it(`agrees in the space ${expected.space}, whose deviation of the pixels is not the head's`, async () => {
      const fixture = await fixtureTensors('three-head.safetensors')
      const { noiseKey } = fixtureJson('three-head.json')
      const { space } = expected
      const loss = { compare: 'own', choose: 'mean', space, sigmaData: json.sigmaData } as const
      const trainer = await Trainer.create(unet, schedule, {
        ...{ seed: noiseKey.seed, loss, emaRates: [], clipNorm: 0 },
      })
      const x = fixture('x_start')
      const images = { data: float32(x), shape: x.shape as [number, number, number, number] }
      const batch = { images, t: int32(fixture('t')), weight: float32(fixture('weight')), lr: 0 }
      for (let step = 0; step < noiseKey.step; step++) await trainer.trainStep(batch)

      const result = await trainer.trainStep(batch)

      expectClose(result.perHead, json.perHead, { relative: 1e-4, what: 'perHead' })
      expectClose(result.exampleLoss, expected.loss, { relative: 1e-4, what: 'loss' })
      expectClose([result.loss], [expected.total], { relative: 1e-4, what: 'total' })
      expectClose([result.gradNorm], [expected.gradNorm], { relative: 1e-3, what: 'gradient norm' })
      trainer.dispose()
    })
  }

  it('is read as the same xStart', async () => {
    const fixture = await fixtureTensors('three-head.safetensors')
    const xt = fixture('x_t')
    const t = int32(fixture('t'))
    const denoiser = new Denoiser(unet, schedule, { clip: false })
    for (const [i, row] of (json.xStart as number[][]).entries()) {
      const one = { data: float32(xt).slice(i * 768, (i + 1) * 768), shape: [1, 3, 16, 16] }
      const input = await DeviceTensor.from(one)
      const { xStart } = await denoiser.predictXStart(input, t[i] as number)
      const data = (await xStart.toHost()).data as Float32Array
      expectClose(
        [0, 1, 2].map((c) => data[c * 256 + 3 * 16 + 5] as number),
        row,
        { absolute: 1e-4, what: `xStart of ${t[i]}` },
      )
      for (const tensor of [input, xStart]) tensor.dispose()
    }
    expect(json.xStart).to.have.length(4)
  })
})
