import { mkdtemp, readFile, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join, relative } from 'node:path'
import { expect } from 'chai'
import { readTensors, writeTensors } from '../../lib/checkpoint-file.ts'
import { elementCount } from '../../lib/tensor.ts'
import { expectCloseToMax } from '../support/close.ts'
import { command } from '../support/command.ts'
import { fixtureJson, fixturePath, fixtureTensors, float32, numbers } from '../support/fixtures.ts'
import { formulaWeights } from '../support/formula-weights.ts'

describe('trislot forward', () => {
  let folder: string
  before(async () => {
    folder = await mkdtemp(join(tmpdir(), 'trislot-forward-'))
  })
  after(() => rm(folder, { recursive: true, force: true }))

  async function weightsOf(name: string): Promise<string> {
    const parameters = fixtureJson(`${name}.json`).parameters as [string, number[]][]
    const path = join(folder, `${name}.safetensors`)
    await writeTensors(path, formulaWeights(parameters.map(([name, shape]) => ({ name, shape }))))
    return path
  }

  for (const name of ['unet-plain-classcond-legacyheads', 'superres-16-to-32', 'classifier-attention']) {
    it(`computes the original's output and gradients of ${name} from files`, async () => {
      const json = fixtureJson(`${name}.json`)
      const expected = await fixtureTensors(`${name}.safetensors`)
      const net = join(folder, 'net.json')
      await writeFile(
        net,
        JSON.stringify({ ...json.config, ...(json.constructor === 'SuperResModel' && { superres: true }) }),
      )
      const out = join(folder, 'out.safetensors')
      const files = [
        '--config',
        net,
        '--weights',
        await weightsOf(name),
        '--inputs',
        fixturePath(`${name}.safetensors`),
      ]
      const { code, err } = await command('forward', ...files, '--out', out, '--grad', '--threads', '1')
      expect(code, err).to.equal(0)

      const { tensors, metadata } = await readTensors(out)
      const tensor = (key: string) => tensors.get(key) as NonNullable<ReturnType<typeof tensors.get>>
      expect([...tensors.keys()].sort()).to.deep.equal(['grad_norms', 'grad_x', 'out'])
      expectCloseToMax(float32(tensor('out')), float32(expected('out')), 1e-4, 'out')
      expectCloseToMax(float32(tensor('grad_x')), float32(expected('grad_x')), 1e-3, 'grad_x')
      const names = JSON.parse(metadata.parameters as string) as string[]
      expect(names).to.deep.equal(json.parameters.map(([name]: [string]) => name))
      expect(tensor('grad_norms').dtype).to.equal('float64')
      const norms = names.map((name) => json.gradNorm[name] as number)
      expectCloseToMax(numbers(tensor('grad_norms')), norms, 1e-3, 'grad_norms')
    })
  }

  it('takes the wrapped configuration of the golden files, and a probe of ones by default', async () => {
    const name = 'unet-plain-classcond-legacyheads'
    const expected = await fixtureTensors(`${name}.safetensors`)
    const inputs = join(folder, 'inputs.safetensors')
    await writeTensors(inputs, { x: expected('x'), t: expected('t'), y: expected('y') })
    const out = join(folder, 'ones.safetensors')
    const files = [
      '--config',
      fixturePath(`${name}.json`),
      '--weights',
      await weightsOf(name),
      '--inputs',
      inputs,
    ]
    const { code, err } = await command('forward', ...files, '--out', out, '--grad')
    expect(code, err).to.equal(0)
    const { tensors } = await readTensors(out)
    expectCloseToMax(float32(tensors.get('out') as never), float32(expected('out')), 1e-4, 'out')
    expect(tensors.get('grad_x')?.data.length).to.equal(elementCount(expected('x').shape))
  })

  it('says which tensor is missing and what is there', async () => {
    const name = 'unet-plain-classcond-legacyheads'
    const inputs = join(folder, 'no-t.safetensors')
    await writeTensors(inputs, { x: { data: new Float32Array(1), shape: [1] } })
    const files = [
      '--config',
      fixturePath(`${name}.json`),
      '--weights',
      await weightsOf(name),
      '--inputs',
      inputs,
    ]
    expect(await command('forward', ...files, '--out', join(folder, 'none.safetensors'))).to.deep.equal({
      code: 1,
      out: '',
      err: `trislot forward: expected ${inputs} to hold t, got x`,
    })
  })

  it('writes over none of its own files, and no name that it could not read again', async () => {
    const inputs = join(folder, 'in.safetensors')
    await writeTensors(inputs, { x: { data: new Float32Array(1), shape: [1] } })
    const before = await readFile(inputs)
    const link = join(folder, 'link.safetensors')
    await symlink(inputs, link)
    const forward = (weights: string, out: string) =>
      command('forward', '--config', 'net.json', '--weights', weights, '--inputs', inputs, '--out', out)
    for (const out of [inputs, relative('.', inputs), link]) {
      expect(await forward('w.pt', out)).to.deep.equal({
        code: 2,
        out: '',
        err: `trislot forward: expected --out to be another file than --inputs, got "${out}"`,
      })
    }
    expect((await readFile(inputs)).equals(before)).to.equal(true)
    expect((await forward('w.safetensors', 'w.safetensors')).err).to.equal(
      'trislot forward: expected --out to be another file than --weights, got "w.safetensors"',
    )
    expect(await forward('w.pt', 'o.pt')).to.include({
      code: 2,
      err: 'trislot forward: expected --out to be a file name that ends in .safetensors, got "o.pt"',
    })
  })

  it('refuses constructor options that do not exist', async () => {
    const net = join(folder, 'wrong.json')
    await writeFile(net, JSON.stringify({ model_channel: 32 }))
    const inputs = fixturePath('unet-plain-classcond-legacyheads.safetensors')
    const { code, err } = await command(
      'forward',
      '--config',
      net,
      '--weights',
      'w',
      '--inputs',
      inputs,
      '--out',
      'o.safetensors',
    )
    expect(code).to.equal(1)
    expect(err).to.contain('got unknown model_channel (did you mean model_channels?)')
  })
})
