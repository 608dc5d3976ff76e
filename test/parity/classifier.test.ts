import { expect } from 'chai'
import { KERNELS, setKernels } from '../../lib/device.ts'
import { CLASSIFIER_PRESETS, Classifier, type RawClassifierOptions } from '../../lib/model/classifier.ts'
import { CLASSIFIER_RECIPES } from '../../lib/model/recipes.ts'
import { expectCloseToMax } from '../support/close.ts'
import { fixtureJson, fixtureTensors, float32, int32 } from '../support/fixtures.ts'
import { loadFormulaWeights } from '../support/formula-weights.ts'
import { expectGradNorms } from '../support/grad-norms.ts'

const POOLS = ['adaptive', 'attention', 'spatial', 'spatial_v2']

async function golden(pool: string, options: { recompute?: boolean } = {}) {
  const json = fixtureJson(`classifier-${pool}.json`)
  const tensor = await fixtureTensors(`classifier-${pool}.safetensors`)
  const classifier = await Classifier.fromGuidedDiffusion({
    ...json.config,
    use_checkpoint: options.recompute ?? false,
  })
  await loadFormulaWeights(classifier)
  const t = int32(tensor('t'))
  return { json, tensor, classifier, input: { x: tensor('x'), t: { data: t, shape: [t.length] } } }
}

describe('Classifier against the original', () => {
  afterEach(() => setKernels('fast'))

  for (const pool of POOLS) {
    it(`names every parameter of the pool ${pool} as the original does, in its order and shape`, async () => {
      const { json, classifier } = await golden(pool)
      const found = classifier.parameters().map((parameter) => [parameter.name, parameter.shape])
      expect(found).to.deep.equal(json.parameters)
      classifier.dispose()
    })

    for (const kernels of KERNELS) {
      it(`computes logits and every gradient of the pool ${pool} with ${kernels} kernels`, async () => {
        await setKernels(kernels)
        const { json, tensor, classifier, input } = await golden(pool)
        const result = await classifier.forwardGrad(input, tensor('probe'))
        expectCloseToMax(float32(result.out), float32(tensor('out')), 1e-4, 'out')
        expectCloseToMax(float32(result.gradX), float32(tensor('grad_x')), 1e-3, 'grad_x')
        const names = classifier.parameters().map((parameter) => parameter.name)
        expectGradNorms(result.gradNorms, names, json.gradNorm)
        const forward = await classifier.forward(input)
        // What is prepared of weights at rest rounds in its own way.
        expectCloseToMax(float32(forward), float32(result.out), 1e-5, 'out without gradients')
        classifier.dispose()
      })
    }
  }

  it('has the same gradients when activations are recomputed', async () => {
    const { tensor, classifier, input } = await golden('attention')
    const again = await golden('attention', { recompute: true })
    const kept = await classifier.forwardGrad(input, tensor('probe'))
    const recomputed = await again.classifier.forwardGrad(input, tensor('probe'))
    expect(recomputed.out.data).to.deep.equal(kept.out.data)
    expectCloseToMax(recomputed.gradNorms, kept.gradNorms, 1e-6, 'gradient norms')
    expectCloseToMax(float32(recomputed.gradX), float32(kept.gradX), 1e-6, 'grad_x')
    classifier.dispose()
    again.classifier.dispose()
  })

  it('has as many weights and tensors as the published files', async () => {
    const published = {
      imagenet64: [65_438_568, 307],
      imagenet128: [42_568_040, 221],
      imagenet256: [54_096_360, 249],
      imagenet512: [54_448_360, 281],
    }
    const recipes = Object.values(CLASSIFIER_RECIPES)
    for (const [i, [name, [weights, tensors]]] of Object.entries(published).entries()) {
      const preset = CLASSIFIER_PRESETS[name as keyof typeof CLASSIFIER_PRESETS]
      const classifier = await Classifier.create(preset, { device: 'meta' as 'cpu' })
      expect(classifier.parameterCount, name).to.equal(weights)
      expect(classifier.parameters(), name).to.have.length(tensors as number)
      const network = recipes[i]?.network as RawClassifierOptions
      const same = await Classifier.fromGuidedDiffusion(network, { device: 'meta' as 'cpu' })
      expect(same.config, name).to.deep.equal(classifier.config)
      same.dispose()
      classifier.dispose()
    }
  })
})
