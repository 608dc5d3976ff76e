import { expect } from 'chai'
import { lossGradientGram } from '../../lib/analysis/loss-gradient.ts'
import { DeviceTensor } from '../../lib/device-tensor.ts'
import { tinyBatch, tinyTimesteps, tinyTrainer } from '../support/tiny.ts'

const images = tinyBatch()
const t = tinyTimesteps()

describe('lossGradientGram', () => {
  it('has the squared norms on its diagonal that a training step reports, and changes no weight', async () => {
    const training = { loss: { space: 'F', choose: 'mean' }, clipNorm: 0 } as const
    const { unet, schedule, trainer } = await tinyTrainer(training)
    const batch = { images, t, seed: 5, step: 9 }
    const first = await lossGradientGram(unet, schedule, [batch], { training })
    const again = await lossGradientGram(unet, schedule, [batch], { training })
    expect(again.products[0]).to.equal(first.products[0])
    const noise = await DeviceTensor.noise(images.shape, {
      seed: 5,
      purpose: 'probe',
      step: 9,
      firstSample: 0,
    })
    const { data } = await noise.toHost()
    const { gradNorm, loss } = await trainer.trainStep({ images, t, noise: data as Float32Array, lr: 0 })
    expect(Math.sqrt(first.products[0]!)).to.be.closeTo(gradNorm, 1e-5 * gradNorm)
    expect(first.loss[0]).to.be.closeTo(loss, 1e-5 * loss)
  })

  it('adds up: the gradient of a batch is the sum of those of its parts', async () => {
    const { unet, schedule } = await tinyTrainer()
    const part = (weight: number[]) => ({ images, t, weight: Float32Array.from(weight), seed: 1, step: 0 })
    const { products } = await lossGradientGram(unet, schedule, [
      part([1, 1, 0, 0]),
      part([0, 0, 1, 1]),
      part([1, 1, 1, 1]),
    ])
    const at = (i: number, j: number) => products[i * 3 + j]!
    const whole = at(2, 2)
    expect(at(0, 0) + at(1, 1) + 2 * at(0, 1)).to.be.closeTo(whole, 1e-4 * whole)
    expect(at(0, 2)).to.be.closeTo(at(0, 0) + at(0, 1), 1e-4 * whole)
    expect(at(1, 0)).to.equal(at(0, 1))
  })

  it('is the same in blocks, when less memory is allowed', async () => {
    const { unet, schedule } = await tinyTrainer()
    const list = [0, 1, 2, 3, 4].map((step) => ({ images, t, seed: 2, step }))
    const whole = await lossGradientGram(unet, schedule, list)
    const blocks = await lossGradientGram(unet, schedule, list, { memoryBytes: 8 * unet.parameterCount })
    expect(Array.from(blocks.products)).to.deep.equal(Array.from(whole.products))
    expect(Array.from(blocks.loss)).to.deep.equal(Array.from(whole.loss))
  })

  it('keeps heads apart in the last convolution, where each has its own channels', async () => {
    const { unet, schedule } = await tinyTrainer()
    const list = (['xStart', 'eps'] as const).map((choose) => ({ images, t, choose, seed: 3, step: 0 }))
    const { products } = await lossGradientGram(unet, schedule, list, {
      parameters: (name) => name.startsWith('out.2.'),
    })
    expect(products[0]).to.be.above(0)
    expect(products[1]).to.equal(0)
  })

  it('refuses a head that the network has not, and parameters of no name', async () => {
    const { unet, schedule } = await tinyTrainer({}, { heads: ['eps'] })
    const batch = { images, t, seed: 3, step: 0 }
    const wrong = await lossGradientGram(unet, schedule, [{ ...batch, choose: 'v' }]).catch((e: Error) => e)
    expect(wrong).to.be.instanceOf(RangeError)
    expect((wrong as Error).message).to.contain(
      'expected loss.choose to be a head that the network has (eps), got "v"',
    )
    const none = await lossGradientGram(unet, schedule, [batch], { parameters: () => false }).catch(
      (e: Error) => e,
    )
    expect((none as Error).message).to.contain('expected parameters to be true for some parameter')
  })
})
