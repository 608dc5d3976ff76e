import { expect } from 'chai'
import { setKernels } from '../../lib/device.ts'
import { UNet, type UNetInput } from '../../lib/model/unet.ts'
import { expectCloseToMax } from '../support/close.ts'
import { fixtureJson, fixtureTensors, float32, int32 } from '../support/fixtures.ts'
import { loadFormulaWeights } from '../support/formula-weights.ts'

const NETWORKS = [
  'unet-updown-scaleshift',
  'unet-newattention-noconvresample',
  'unet-plain-classcond-legacyheads',
  'superres-16-to-32',
]

async function golden(name: string, options: { recompute?: boolean } = {}) {
  const json = fixtureJson(`${name}.json`)
  const tensor = await fixtureTensors(`${name}.safetensors`)
  const unet = await UNet.fromGuidedDiffusion({
    ...json.config,
    superres: json.constructor === 'SuperResModel',
    use_checkpoint: options.recompute ?? false,
  })
  await loadFormulaWeights(unet)
  const t = int32(tensor('t'))
  const input: UNetInput = {
    x: tensor('x'),
    t: { data: t, shape: [t.length] },
    ...(json.config.num_classes ? { y: tensor('y') } : {}),
    ...(json.constructor === 'SuperResModel' ? { lowRes: tensor('low_res') } : {}),
  }
  return { json, tensor, unet, input }
}

function expectGradNorms(
  norms: Float64Array,
  names: readonly string[],
  expected: Record<string, number>,
): void {
  const largest = Math.max(...Object.values(expected))
  for (const [i, name] of names.entries()) {
    const wanted = expected[name] as number
    // A gradient that is zero but for rounding (a bias before a norm) must only be that small.
    const tolerance = Math.max(1e-3 * wanted, 1e-6 * largest)
    expect(Math.abs((norms[i] as number) - wanted), `gradient norm of ${name}`).to.be.at.most(tolerance)
  }
}

describe('UNet against the original', () => {
  for (const name of NETWORKS) {
    it(`names every parameter of ${name} as the original does, in its order and shape`, async () => {
      const { json, unet } = await golden(name)
      const found = unet.parameters().map((parameter) => [parameter.name, parameter.shape])
      expect(found).to.deep.equal(json.parameters)
      unet.dispose()
    })

    it(`computes the output and every gradient of ${name}`, async () => {
      const { json, tensor, unet, input } = await golden(name)
      const result = await unet.forwardGrad(input, tensor('probe'))
      expectCloseToMax(float32(result.out), float32(tensor('out')), 1e-4, 'out')
      expectCloseToMax(float32(result.gradX), float32(tensor('grad_x')), 1e-3, 'grad_x')
      expectGradNorms(
        result.gradNorms,
        unet.parameters().map((parameter) => parameter.name),
        json.gradNorm,
      )
      unet.dispose()
    })

    it(`gives ${name} the same gradients when activations are recomputed`, async () => {
      const { tensor, unet, input } = await golden(name)
      const again = await golden(name, { recompute: true })
      const kept = await unet.forwardGrad(input, tensor('probe'))
      const recomputed = await again.unet.forwardGrad(input, tensor('probe'))
      expect(recomputed.out.data).to.deep.equal(kept.out.data)
      expectCloseToMax(recomputed.gradNorms, kept.gradNorms, 1e-6, 'gradient norms')
      expectCloseToMax(float32(recomputed.gradX), float32(kept.gradX), 1e-6, 'grad_x')
      unet.dispose()
      again.unet.dispose()
    })
  }

  it('computes convolutions in bfloat16 as the original does in half precision, with plain kernels', async () => {
    await setKernels('plain')
    try {
      const { tensor, unet, input } = await golden('unet-updown-scaleshift')
      const json = fixtureJson('bf16.json')
      const bf16 = await fixtureTensors('bf16.safetensors')
      const out = await unet.forward(input, 'bf16')
      const reference = float32(bf16('out'))
      // Both are that far from the float32 output, so they may differ from each other by as much.
      expectCloseToMax(float32(out), reference, json.maxAbsDifference / json.maxAbsOut, 'out')
      expect(float32(out)).to.not.deep.equal(float32(tensor('out')))
      unet.dispose()
    } finally {
      await setKernels('fast')
    }
  })

  it('is no farther from float32 with fast kernels in bfloat16 than the original in half precision', async () => {
    const { tensor, unet, input } = await golden('unet-updown-scaleshift')
    const exact = float32(tensor('out'))
    const out = float32(await unet.forward(input, 'bf16'))
    const squares = (values: ArrayLike<number>) => Array.from(values).reduce((sum, x) => sum + x * x, 0)
    const error = Math.sqrt(squares(out.map((x, i) => x - (exact[i] as number))) / squares(exact))
    expect(error).to.be.greaterThan(0)
    expect(error).to.be.at.most(fixtureJson('bf16.json').relativeRms)
    unet.dispose()
  })
})
