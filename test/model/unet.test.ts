import { expect } from 'chai'
import { UNet, type UNetOptions } from '../../lib/model/unet.ts'
import { loadFormulaWeights } from '../support/formula-weights.ts'
import { rejection } from '../support/rejection.ts'
import { TINY } from '../support/tiny.ts'

/** Runs a network with formula weights on made-up pixels of a shape. */
async function output(options: Partial<UNetOptions>, shape: number[]) {
  const unet = await UNet.create({ ...TINY, imageChannels: shape[1] as number, ...options })
  await loadFormulaWeights(unet)
  const data = Float32Array.from({ length: shape.reduce((a, b) => a * b, 1) }, (_, i) => Math.sin(0.3 * i))
  const t = {
    data: Float32Array.from({ length: shape[0] as number }, (_, i) => 100 * i + 0.5),
    shape: [shape[0] as number],
  }
  const out = await unet.forward({ x: { data, shape }, t })
  unet.dispose()
  return out
}

describe('UNet', () => {
  it('takes images of one to four channels that are not square', async () => {
    for (const channels of [1, 2, 3, 4]) {
      const out = await output({}, [2, channels, 8, 12])
      expect(out.shape).to.deep.equal([2, 3 * channels, 8, 12])
      expect((out.data as Float32Array).every(Number.isFinite)).to.equal(true)
    }
  })

  it('has channels for each head and for a learned variance', async () => {
    for (const heads of [['v'], ['xStart', 'eps'], ['xStart', 'v', 'eps']] as const) {
      const out = await output({ heads, learnsVariance: true }, [1, 2, 8, 8])
      expect(out.shape).to.deep.equal([1, 2 * (heads.length + 1), 8, 8])
    }
  })

  it('has one, two or three spatial dimensions, the outermost of three kept in size', async () => {
    for (const [dims, size] of [
      [1, [8]],
      [2, [8, 8]],
      [3, [3, 8, 8]],
    ] as const) {
      for (const convResample of [true, false]) {
        const out = await output({ dims, convResample }, [2, 1, ...size])
        expect(out.shape).to.deep.equal([2, 3, ...size])
      }
    }
  })

  it('begins with the same weights for the same seed, and with an output of zero', async () => {
    const weights = async (seed: number) => {
      const unet = await UNet.create(TINY, { seed })
      const x = { data: new Float32Array(64).fill(0.5), shape: [1, 1, 8, 8] }
      const { out, gradX, gradNorms } = await unet.forwardGrad(
        { x, t: { data: Float32Array.of(3), shape: [1] } },
        { data: new Float32Array(192).fill(1), shape: [1, 3, 8, 8] },
      )
      expect((out.data as Float32Array).every((value) => value === 0)).to.equal(true)
      expect((gradX.data as Float32Array).every((value) => value === 0)).to.equal(true)
      return Array.from(gradNorms)
    }
    expect(await weights(1)).to.deep.equal(await weights(1))
    expect(await weights(1)).to.not.deep.equal(await weights(2))
  })

  it('counts the weights of the default network of guided-diffusion for 64x64', async () => {
    const unet = await UNet.fromGuidedDiffusion({
      model_channels: 128,
      out_channels: 3,
      num_res_blocks: 2,
      attention_resolutions: [4, 8],
      channel_mult: [1, 2, 3, 4],
      num_heads: 4,
      use_scale_shift_norm: true,
    })
    expect(unet.parameterCount).to.equal(92_025_731)
    expect(unet.parameters().length).to.equal(338)
    unet.dispose()
  }).timeout(120_000)

  const wrong: [string, Partial<UNetOptions>, string][] = [
    [
      'a width that the norm groups do not divide',
      { modelChannels: 48, normGroups: 32 },
      'UNet.create: expected modelChannels x 1 (48) to be divisible by the 32 norm groups, got 48; use a width of 32, 64, 96, … or other normGroups',
    ],
    [
      'a head that does not exist',
      { heads: ['x0' as 'v'] },
      'UNet.create: expected heads to be some of xStart, v, eps, each once, or xPrev or F alone, got ["x0"]',
    ],
    [
      'no head at all',
      { heads: [] },
      'UNet.create: expected heads to be some of xStart, v, eps, each once, or xPrev or F alone, got []',
    ],
    [
      'attention where there is no level',
      { attentionResolutions: [8] },
      'UNet.create: expected attentionResolutions to be among the down-sampling factors 1, 2, got 8',
    ],
    [
      'heads of attention that do not divide the width',
      { attentionHeads: 3 },
      'UNet.create: expected attentionHeads to be a divisor of the width 16 at level 1, got 3',
    ],
    [
      'no heads of attention on the way up',
      { attentionHeadsUp: 0 },
      'UNet.create: expected attentionHeadsUp to be an integer >= 1, got 0',
    ],
    [
      'heads of attention on the way up that do not divide the width',
      { attentionHeadsUp: 3 },
      'UNet.create: expected attentionHeadsUp to be a divisor of the width 16 at level 1, got 3',
    ],
    [
      'five image channels',
      { imageChannels: 5 },
      'UNet.create: expected imageChannels to be an integer in [1, 4], got 5',
    ],
    [
      'dropout of everything',
      { dropout: 1 },
      'UNet.create: expected dropout to be a number in [0, 0.99], got 1',
    ],
  ]
  for (const [what, options, message] of wrong) {
    it(`refuses ${what}`, async () => {
      expect((await rejection(UNet.create({ ...TINY, ...options }))).message).to.equal(message)
    })
  }

  it('refuses inputs, formats and devices that mean nothing', async () => {
    const device = 'xpu' as 'cpu'
    expect((await rejection(UNet.create(TINY, { device }))).message).to.equal(
      'UNet.create: expected device to be cpu, cuda or cuda:N, got "xpu"',
    )
    const unet = await UNet.create(TINY)
    const x = { data: new Float32Array(64), shape: [1, 1, 8, 8] }
    const t = { data: Float32Array.of(5), shape: [1] }
    const message = async (work: Promise<unknown>) => (await rejection(work)).message
    expect(await message(unet.forward({ x, t }, 'fp64' as 'fp32'))).to.equal(
      'unet.forward: expected precision to be one of fp32, bf16, fp16, got "fp64"',
    )
    for (const wild of [Number.NaN, -5, Number.POSITIVE_INFINITY]) {
      expect(await message(unet.forward({ x, t: { ...t, data: Float32Array.of(wild) } }))).to.equal(
        `unet.forward: expected t[0] to be a timestep >= 0, got ${wild}`,
      )
    }
    const spoiled = { ...x, data: x.data.with(3, Number.NaN) }
    expect(await message(unet.forward({ x: spoiled, t }))).to.equal(
      'unet.forward: expected x.data[3] to be finite, got NaN',
    )
    expect(await message(unet.loadWeights(undefined as unknown as string))).to.equal(
      'unet.loadWeights: expected path to be a text that is not empty, got undefined',
    )
  })

  it('refuses options that do not exist, with the nearest name', async () => {
    const error = await rejection(UNet.create({ ...TINY, modelChanels: 8 } as UNetOptions))
    expect(error).to.be.instanceOf(TypeError)
    expect(error.message).to.match(/got unknown modelChanels \(did you mean modelChannels\?\)$/)
  })
})
