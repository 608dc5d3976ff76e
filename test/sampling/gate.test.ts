import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect } from 'chai'
import { readTensors } from '../../lib/checkpoint-file.ts'
import { native } from '../../lib/native.ts'
import { Denoiser } from '../../lib/sampling/denoiser.ts'
import { sample } from '../../lib/sampling/sample.ts'
import { loadForSampling, saveCheckpoint } from '../../lib/training/checkpoint.ts'
import { nativeTrainerConfig, type Trainer } from '../../lib/training/trainer.ts'
import { expectClose } from '../support/close.ts'
import { rejection } from '../support/rejection.ts'
import { tinyBatch, tinyTimesteps, tinyTrainer } from '../support/tiny.ts'

const T = Int32Array.of(100, 300, 500, 700)

async function weightsOf(trainer: Trainer) {
  const run = await mkdtemp(join(tmpdir(), 'trislot-gate-'))
  try {
    await trainer.saveTensors(run)
    return (await readTensors(join(run, 'model.safetensors'))).tensors
  } finally {
    await rm(run, { recursive: true })
  }
}

const sameNumbers = (a: ArrayLike<number | bigint>, b: ArrayLike<number | bigint> | undefined) =>
  b !== undefined && Array.from(a).every((value, i) => value === b[i])

describe('The gate of heads', () => {
  it('begins as the combination by signal', async () => {
    const { unet, schedule } = await tinyTrainer({}, { gate: true, learnsVariance: true })
    const xt = await new Denoiser(unet, schedule).noise([2, 1, 8, 8], 3)
    for (const k of [0, 500, 999]) {
      const predict = async (combine: 'gate' | undefined) => {
        const denoiser = new Denoiser(unet, schedule, { clip: false, ...(combine && { combine }) })
        return (await (await denoiser.predictXStart(xt, k)).xStart.toHost()).data as Float32Array
      }
      const [gate, signal] = [await predict('gate'), await predict(undefined)]
      expectClose(gate, signal, { absolute: 1e-6, relative: 1e-5, what: `step ${k}` })
    }
  })

  it('learns which head to trust, and leaves the heads alone', async () => {
    // Only v is trained, so that a gate does better than any fixed weights that count the others.
    const { trainer } = await tinyTrainer({ loss: { choose: 'v', space: 'v' } }, { gate: true })
    const errors = async (lr: number) => {
      const { exampleLoss, perHead, errorProducts } = await trainer.trainStep({
        images: tinyBatch(),
        t: T,
        lr,
      })
      return Array.from(T, (t, i) => {
        const v = perHead[i * 3 + 1] as number
        const ab = trainer.schedule.tables.alphaBar[t] as number
        const weights = [(1 - ab) / 2, 1 / 2, ab / 2]
        const bySignal = weights.flatMap((a, h) =>
          weights.map((b, g) => a * b * (errorProducts?.[i * 9 + h * 3 + g] as number)),
        )
        return { gate: (exampleLoss[i] as number) - v, signal: bySignal.reduce((a, b) => a + b), v }
      })
    }
    for (const { gate, signal } of await errors(3e-3)) expect(gate).to.be.closeTo(signal, 1e-4 * signal)
    for (let i = 0; i < 150; i++) await errors(3e-3)
    const learned = await errors(0)
    const sum = (of: 'gate' | 'signal' | 'v') => learned.reduce((total, row) => total + row[of], 0)
    expect(sum('gate')).to.be.below(0.7 * sum('signal'))
    expect(sum('gate')).to.be.below(1.2 * sum('v'))
  })

  it('adds nothing to the gradient of the heads', async () => {
    const norms: number[] = []
    for (const gate of [false, true]) {
      const { trainer } = await tinyTrainer({ loss: { choose: 'given' } }, { gate })
      const share = new Float32Array(12)
      norms.push(
        (await trainer.trainStep({ images: tinyBatch(), t: tinyTimesteps(), share, lr: 0 })).gradNorm,
      )
    }
    expect(norms[0]).to.equal(0)
    expect(norms[1]).to.be.greaterThan(0)
    // With shares of 0 only the gate learns: its own rows of the last convolution, and nothing before them.
    const { unet, trainer } = await tinyTrainer({ loss: { choose: 'given' } }, { gate: true })
    const before = await weightsOf(trainer)
    const input = {
      x: { data: new Float32Array(64).fill(0.5), shape: [1, 1, 8, 8] },
      t: { data: Float32Array.of(300), shape: [1] },
    }
    const share = new Float32Array(12)
    for (let i = 0; i < 5; i++) await trainer.trainStep({ images: tinyBatch(), t: T, share, lr: 1e-2 })
    const after = await weightsOf(trainer)
    const moved = [...after].filter(([name, { data }]) => !sameNumbers(data, before.get(name)?.data))
    expect(moved.map(([name]) => name)).to.have.members(['out.2.weight', 'out.2.bias'])
    const out = (await unet.forward(input)).data as Float32Array
    expect(out.slice(0, 192).every((value) => value === 0)).to.equal(true)
    expect(out.slice(192).some((value) => value !== 0)).to.equal(true)
  })

  it('is kept by checkpoints and samples', async () => {
    const { trainer, schedule } = await tinyTrainer({}, { gate: true })
    for (let i = 0; i < 3; i++) await trainer.trainStep({ images: tinyBatch(), t: T, lr: 1e-2 })
    const run = await mkdtemp(join(tmpdir(), 'trislot-gate-'))
    try {
      const folder = await saveCheckpoint(trainer, run)
      const { unet } = await loadForSampling(folder, { weights: 'raw' })
      expect(unet.layout.gate).to.equal(true)
      const images = async (network: typeof unet) => {
        const denoiser = new Denoiser(network, schedule.respace('4'), { combine: 'gate' })
        return sample({ denoiser, shape: [2, 1, 8, 8], seed: 1 })
      }
      expect(await images(unet)).to.deep.equal(await images(trainer.unet))
    } finally {
      await rm(run, { recursive: true })
    }
  })

  it('is guided as the heads are, by the gate of the classes', async () => {
    const { unet, schedule } = await tinyTrainer({}, { gate: true, classCount: 2, nullClass: true })
    const options = { y: Int32Array.of(0, 1), guidanceScale: 2, combine: 'gate' } as const
    const denoiser = new Denoiser(unet, schedule.respace('4'), options)
    const images = await sample({ denoiser, shape: [2, 1, 8, 8], seed: 1 })
    expect(images.every(Number.isFinite)).to.equal(true)
  })

  it('runs on the meta device', async () => {
    const { unet, schedule, trainer } = await tinyTrainer({}, { gate: true, learnsVariance: true })
    const config = nativeTrainerConfig('test', unet, trainer.config)
    const shapes = await native().lossShapes(unet.nativeConfig, schedule.handle, config, [4, 1, 8, 8])
    expect(shapes).to.deep.equal({ loss: [4], perHead: [4, 3], gradientCount: unet.parameters().length })
  })

  it('is refused where there is none, and of one head', async () => {
    const { unet, schedule } = await tinyTrainer()
    const denoiser = new Denoiser(unet, schedule, { combine: 'gate' })
    const error = await rejection(denoiser.noise([1, 1, 8, 8], 1).then((xt) => denoiser.predictXStart(xt, 5)))
    expect(error.message).to.equal(
      'denoiser.predictXStart: expected combine to be among the network\'s heads (xStart, v, eps), got "gate"; its gate was not created',
    )
    expect((await rejection(tinyTrainer({}, { heads: ['v'], gate: true }))).message).to.equal(
      'UNet.create: expected gate to be false for a network of one head, got true',
    )
  })
})
