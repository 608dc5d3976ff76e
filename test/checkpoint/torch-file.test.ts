import { expect } from 'chai'
import { readTensors } from '../../lib/checkpoint-file.ts'
import { CheckpointError } from '../../lib/errors.ts'
import { elementCount, type HostTensor } from '../../lib/tensor.ts'
import { inspectWeights } from '../../lib/weights/inspect.ts'
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
      // Of a file with an `ema` dict only that is read, under the names that it has there.
      const wrapped = name.startsWith('nested')
      const wanted = Object.entries(expected)
        .filter(([key]) => !wrapped || key.startsWith('ema.'))
        .map(([key, tensor]) => [wrapped ? key.slice('ema.'.length) : key, tensor] as const)
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
        root: 'ema',
        unread: 'model',
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

  for (const version of ['1.13.1', '2.2.2', '2.5.1', '2.15.0']) {
    // start, start + 1/8, …, as bench/reference/make_version_files.py has it
    const ramp = (start: number, count: number) => Array.from({ length: count }, (_, i) => start + i / 8)
    const shapes = { 'stem.weight': [4, 2, 3, 3], 'stem.bias': [4], 'head.weight': [3, 4] }

    for (const name of [`torch-${version}.pt`, `torch-${version}-legacy.pt`]) {
      it(`reads average, weights and plain values of ${name}`, async () => {
        for (const [part, sign] of [
          ['', -1],
          ['ema', -1],
          ['model', 1],
        ] as const) {
          const { tensors, metadata } = await readTensors(fixturePath(`torch-files/${name}`), { part })
          expect([...tensors.keys()]).to.deep.equal(Object.keys(shapes))
          for (const [i, [key, shape]] of Object.entries(shapes).entries()) {
            const { data, dtype, shape: found } = tensors.get(key) as HostTensor
            expect({ dtype, shape: found }, key).to.deep.equal({ dtype: 'float32', shape })
            expect(Array.from(data as Float32Array), key).to.deep.equal(ramp(sign * i, elementCount(shape)))
          }
          const root = part || 'ema'
          expect(metadata).to.deep.equal({
            ...{ root, unread: root === 'ema' ? 'model' : 'ema' },
            ...{ step: '7', lr: '0.5', name: 'tiny', 'betas.0': '0.5', 'betas.1': '0.75' },
          })
        }
        const { tensors } = await inspectWeights(fixturePath(`torch-files/${name}`))
        expect(tensors.map(({ dtype }) => dtype)).to.deep.equal(['float16', 'float16', 'float16'])
      })
    }

    it(`reads the optimizer of torch-${version}-optimizer.pt`, async () => {
      const { tensors, metadata } = await read(`torch-${version}-optimizer.pt`)
      const values = (key: string) => Array.from(tensors.get(`state.0.${key}`)?.data as Float32Array)
      expect(values('step')).to.deep.equal([1])
      expect(values('exp_avg')).to.deep.equal(Array(6).fill(0.5))
      expect(values('exp_avg_sq')).to.deep.equal(Array(6).fill(0.25))
      expect(metadata).to.include({ 'param_groups.0.lr': '0.5', 'param_groups.0.params.0': '0' })
    })
  }

  it('says which dicts there are when one is asked for that is not there', async () => {
    const path = fixturePath('torch-files/torch-2.15.0.pt')
    const error = await rejection(readTensors(path, { part: 'optimizer' }))
    expect(error.message).to.equal(
      `readTorchFile("${path}"): expected part to name a dict of the file (model, ema), got "optimizer"`,
    )
  })

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
