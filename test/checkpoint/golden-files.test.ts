import { expect } from 'chai'
import { readTensors } from '../../lib/checkpoint-file.ts'
import { UNet } from '../../lib/model/unet.ts'
import { expectClose, expectCloseToMax } from '../support/close.ts'
import { fixtureJson, fixturePath, fixtureTensors, float32, int32 } from '../support/fixtures.ts'
import { formulaWeights } from '../support/formula-weights.ts'

const NAME = 'unet-updown-scaleshift'
const path = (file: string) => fixturePath(`torch-files/${file}`)

async function network() {
  const json = fixtureJson(`${NAME}.json`)
  return UNet.fromGuidedDiffusion(json.config)
}

describe('A network of the original as torch.save wrote it', () => {
  for (const file of [`${NAME}.pt`, `${NAME}-legacy.pt`]) {
    it(`has the weights of the formula in ${file}, and computes the original's output`, async () => {
      const { tensors } = await readTensors(path(file))
      const unet = await network()
      const formula = formulaWeights(unet.parameters())
      expect([...tensors.keys()]).to.deep.equal([...formula.keys()])
      for (const [name, { data }] of formula) expect(tensors.get(name)?.data, name).to.deep.equal(data)

      await unet.loadWeights(path(file))
      const tensor = await fixtureTensors(`${NAME}.safetensors`)
      const t = int32(tensor('t'))
      const input = { x: tensor('x'), t: { data: t, shape: [t.length] } }
      const { num_classes } = fixtureJson(`${NAME}.json`).config
      const out = await unet.forward(num_classes ? { ...input, y: tensor('y') } : input)
      expectCloseToMax(float32(out), float32(tensor('out')), 1e-4, 'out')
      unet.dispose()
    })
  }

  it(`has the weights of the formula in ${NAME}-fp16.pt, those of the torso rounded to half precision`, async () => {
    const { tensors } = await readTensors(path(`${NAME}-fp16.pt`))
    const unet = await network()
    let rounded = 0
    for (const [name, { data }] of formulaWeights(unet.parameters())) {
      const found = float32(tensors.get(name) as NonNullable<ReturnType<typeof tensors.get>>)
      // Half a unit in the last of eleven digits; 2^-25 below the smallest normal number.
      expectClose(found, data as Float32Array, { relative: 2 ** -11, absolute: 2 ** -25, what: name })
      if (found.some((value, i) => value !== data[i])) rounded++
    }
    expect(rounded).to.be.greaterThan(0)
    expect(rounded).to.be.lessThan(tensors.size)
    unet.dispose()
  })
})
