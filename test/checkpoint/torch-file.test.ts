import { expect } from 'chai'
import { readTensors } from '../../lib/checkpoint-file.ts'
import { CheckpointError } from '../../lib/errors.ts'
import { fixtureJson, fixturePath } from '../support/fixtures.ts'
import { rejection } from '../support/rejection.ts'

interface Expected {
  readonly tensors: Record<
    string,
    { readonly dtype: string; readonly shape: number[]; readonly values: (number | boolean)[] }
  >
}

const { files } = fixtureJson('torch-files/expected.json') as { files: Record<string, Expected> }
const READ_AS: Record<string, string> = { float16: 'float32', bfloat16: 'float32', bool: 'uint8' }

function read(name: string) {
  return readTensors(fixturePath(`torch-files/${name}`))
}

describe('readTensors of what torch.save wrote', () => {
  for (const [name, { tensors: expected }] of Object.entries(files)) {
    if (!expected) continue
    it(`finds every tensor of ${name} with its type, shape and values`, async () => {
      const { tensors } = await read(name)
      // Of a file with a `model` dict only that is read, under the names that it has there.
      const wrapped = name.startsWith('nested')
      const wanted = Object.entries(expected)
        .filter(([key]) => !wrapped || key.startsWith('model.'))
        .map(([key, tensor]) => [wrapped ? key.slice('model.'.length) : key, tensor] as const)
      expect([...tensors.keys()]).to.deep.equal(wanted.map(([key]) => key))
      for (const [key, { dtype, shape, values }] of wanted) {
        const found = tensors.get(key)!
        expect(found.dtype, key).to.equal(READ_AS[dtype] ?? dtype)
        expect(found.shape, key).to.deep.equal(shape)
        expect(Array.from(found.data as ArrayLike<number | bigint>, Number), key).to.deep.equal(
          values.map(Number),
        )
      }
    })
  }

  for (const name of ['nested.pt', 'nested-legacy.pt']) {
    it(`gives the plain values of ${name} as metadata, and says which dict was read and which was not`, async () => {
      const { metadata } = await read(name)
      expect(metadata).to.deep.equal({
        root: 'model',
        unread: 'ema',
        step: '5',
        lr: '1e-04',
        name: 'tiny',
        done: 'false',
        'betas.0': '0.9',
        'betas.1': '0.999',
        'list.0': '1',
        'list.1': '1099511627776',
      })
    })
  }

  it('gives the plain values of an optimizer under dotted names', async () => {
    const { metadata } = await read('optimizer.pt')
    expect(metadata).to.include({ 'param_groups.0.lr': '0.001', 'param_groups.0.params.3': '3' })
  })

  it('refuses a file that names code, by that name, and runs nothing of it', async () => {
    const path = fixturePath('torch-files/hostile.pt')
    const error = await rejection(readTensors(path))
    expect(error).to.be.instanceOf(CheckpointError)
    expect(error.message).to.equal(
      `readTorchFile("${path}"): expected only tensors and plain values ` +
        '(a file can name code to run; none was run), got the global "posix.getcwd"',
    )
    expect((error as CheckpointError).file).to.equal(path)
  })

  it('refuses what is neither a zip archive nor a pickle', async () => {
    const path = fixturePath('torch-files/expected.json')
    const error = await rejection(readTensors(path))
    expect(error.message).to.match(
      /^readTorchFile\(".*"\): expected a zip archive or pickle that torch\.save wrote, got "\{/,
    )
  })
})
