import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect } from 'chai'
import { readTensors, writeTensors } from '../../lib/checkpoint-file.ts'
import { CheckpointError } from '../../lib/errors.ts'
import { UNet } from '../../lib/model/unet.ts'
import { elementCount, type HostTensor } from '../../lib/tensor.ts'
import { fixturePath } from '../support/fixtures.ts'
import { formulaWeights } from '../support/formula-weights.ts'
import { rejection } from '../support/rejection.ts'
import { TINY } from '../support/tiny.ts'
import { parseSafetensors, safetensors, torchFile } from './by-hand.ts'

describe('UNet weights in files', () => {
  let folder: string
  let unet: UNet
  let saved: string

  before(async () => {
    folder = await mkdtemp(join(tmpdir(), 'trislot-weights-'))
    unet = await UNet.create(TINY, { seed: 3 })
    saved = join(folder, 'saved.safetensors')
    await unet.saveWeights(saved)
  })
  after(async () => {
    unet.dispose()
    await rm(folder, { recursive: true })
  })

  async function tensorsOf(network: UNet): Promise<Map<string, HostTensor>> {
    const path = join(folder, 'now.safetensors')
    await network.saveWeights(path)
    return (await readTensors(path)).tensors
  }

  /** The error of loading into the network, which must be as it was. */
  async function failedLoad(path: string): Promise<CheckpointError> {
    const error = await rejection(unet.loadWeights(path))
    expect(error).to.be.instanceOf(CheckpointError)
    const after = join(folder, 'after.safetensors')
    await unet.saveWeights(after)
    expect((await readFile(after)).equals(await readFile(saved)), 'weights unchanged').to.equal(true)
    return error as CheckpointError
  }

  it('are saved as float32 under the names of the parameters, in their order', async () => {
    const { tensors, metadata } = parseSafetensors(await readFile(saved))
    expect([...tensors].map(([name, { shape }]) => ({ name, shape }))).to.deep.equal(unet.parameters())
    expect([...tensors.values()].every(({ dtype }) => dtype === 'F32')).to.equal(true)
    expect(metadata).to.deep.equal({ format: 'trislot' })
  })

  it('are saved under no name by which they could not be read', async () => {
    for (const name of ['w.pt', 'w', 'w.SAFETENSORS']) {
      const { message } = await rejection(unet.saveWeights(name))
      expect(message).to.equal(
        `unet.saveWeights: expected path to be a file name that ends in .safetensors, got "${name}"`,
      )
    }
  })

  it('come back bit for bit in another network, in whatever order the file has them', async () => {
    const other = await UNet.create(TINY, { seed: 4 })
    const path = join(folder, 'turned.safetensors')
    const { tensors } = await readTensors(saved)
    await writeTensors(path, new Map([...tensors].reverse()))
    await other.loadWeights(path)
    expect(await tensorsOf(other)).to.deep.equal(tensors)
    other.dispose()
  })

  it('may be float16 in the file and are float32 in the network', async () => {
    const halves = [0x3c00, 0xc000, 0x3800, 0x0001] // 1, -2, 0.5, 2^-24
    const values = [1, -2, 0.5, 2 ** -24]
    const entries: Record<string, object> = {}
    let count = 0
    for (const { name, shape } of unet.parameters()) {
      const end = count + elementCount(shape)
      entries[name] = { dtype: 'F16', shape, data_offsets: [2 * count, 2 * end] }
      count = end
    }
    const path = join(folder, 'half.safetensors')
    const data = Uint16Array.from({ length: count }, (_, i) => halves[i % 4]!)
    await writeFile(path, safetensors(entries, new Uint8Array(data.buffer)))
    const other = await UNet.create(TINY)
    await other.loadWeights(path)
    const loaded = [...(await tensorsOf(other)).values()]
    expect(loaded.every(({ dtype }) => dtype === 'float32')).to.equal(true)
    expect(loaded.flatMap((tensor) => Array.from(tensor.data, Number))).to.deep.equal(
      Array.from({ length: count }, (_, i) => values[i % 4]),
    )
    other.dispose()
  })

  for (const prefix of ['', 'module.']) {
    it(`load from what torch.save wrote${prefix && `, without the prefix ${prefix}`}`, async () => {
      const weights = formulaWeights(unet.parameters())
      const path = join(folder, 'weights.pt')
      const list = [...weights].map(([name, { data, shape }]) => ({
        name: prefix + name,
        shape,
        data: data as Float32Array,
      }))
      await writeFile(path, torchFile(list))
      const other = await UNet.create(TINY)
      await other.loadWeights(path)
      for (const [name, { data, shape }] of await tensorsOf(other)) {
        expect({ data, shape }, name).to.deep.equal(weights.get(name))
      }
      other.dispose()
    })
  }

  it('are refused with everything that is missing, unexpected or misshapen, and stay as they were', async () => {
    const path = join(folder, 'other "(1").safetensors')
    const { tensors } = await readTensors(saved)
    const weights = new Map<string, HostTensor>([...tensors].map(([name, tensor]) => [name, { ...tensor }]))
    for (const { data } of weights.values()) (data as Float32Array).fill(7)
    weights.delete('time_embed.0.bias')
    weights.delete('out.2.weight')
    weights.set('extra', { dtype: 'float32', shape: [1], data: Float32Array.of(1) })
    weights.set('time_embed.2.bias', { dtype: 'float32', shape: [4, 8], data: new Float32Array(32) })
    weights.set('out.0.bias', { dtype: 'int64', shape: [8], data: new BigInt64Array(8) })
    await writeTensors(path, weights)

    const error = await failedLoad(path)
    const misshapen = [
      'time_embed.2.bias: file [4, 8], model [32]',
      'out.0.bias: file int64 [8], model float32 [8]',
    ]
    expect(error.message).to.equal(
      `loadWeights("${path}"): expected the names and shapes of the model, ` +
        `got 2 missing (time_embed.0.bias, out.2.weight), 1 unexpected (extra), 2 misshapen (${misshapen.join(', ')})`,
    )
    expect(error.file).to.equal(path)
    expect(error.missing).to.deep.equal(['time_embed.0.bias', 'out.2.weight'])
    expect(error.unexpected).to.deep.equal(['extra'])
    expect(error.misshapen).to.deep.equal(misshapen)
    expect(error.stack).to.include('weights.test.ts')
  })

  it('are counted in the message and listed whole in the error when another network is in the file', async () => {
    const path = fixturePath('torch-files/module.pt')
    const error = await failedLoad(path)
    const names = unet.parameters().map(({ name }) => name)
    expect(error.message).to.equal(
      `loadWeights("${path}"): expected the names and shapes of the model, ` +
        `got ${names.length} missing (${names.slice(0, 8).join(', ')}, … ${names.length} in all), ` +
        '4 unexpected (0.weight, 0.bias, 1.weight, 1.bias)',
    )
    expect(error.missing).to.deep.equal(names)
    expect(error.unexpected).to.deep.equal(['0.weight', '0.bias', '1.weight', '1.bias'])
    expect(error.misshapen).to.deep.equal([])
  })

  it('stay as they were when the file is damaged, is hostile or is not there', async () => {
    const cut = join(folder, 'cut.safetensors')
    const whole = await readFile(saved)
    await writeFile(cut, whole.subarray(0, whole.length - 1))
    expect((await failedLoad(cut)).message).to.match(
      /^readSafetensors\(".*cut\.safetensors"\): expected data_offsets of "out\.2\.bias" to lie in the \d+ bytes of data, got /,
    )
    expect((await failedLoad(fixturePath('torch-files/hostile.pt'))).message).to.include('"posix.getcwd"')
    const none = join(folder, 'none.pt')
    const error = await failedLoad(none)
    expect(error.message).to.equal(
      `readTorchFile("${none}"): expected a readable file, got No such file or directory`,
    )
    expect([error.file, error.missing, error.unexpected, error.misshapen]).to.deep.equal([none, [], [], []])
  })

  it('name the file when they cannot be saved', async () => {
    const below = join(saved, 'x.safetensors')
    const error = await rejection(unet.saveWeights(below))
    expect(error).to.be.instanceOf(CheckpointError)
    expect((error as CheckpointError).file).to.equal(below)
    expect(error.message).to.match(/^writeSafetensors\(".*"\): expected to create ".*", got Not a directory$/)
  })
})
