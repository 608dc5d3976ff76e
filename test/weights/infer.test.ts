import { expect } from 'chai'
import { RECIPES, type Recipe } from '../../lib/model/recipes.ts'
import { type UNetOptions, unetConfig } from '../../lib/model/unet.ts'
import { parametersOf } from '../../lib/weights/describe.ts'
import { inferNetwork } from '../../lib/weights/infer.ts'
import { TINY } from '../support/tiny.ts'

/** Options that shapes can tell, among all. */
const TOLD = [
  'modelChannels', 'channelMult', 'resBlockCount', 'attentionResolutions', 'dims', 'classCount', 'scaleShiftNorm',
  'resBlockUpDown', 'imageChannels', 'lowRes',
] as const // biome-ignore format: one list

async function expectTold(options: UNetOptions): Promise<void> {
  const inferred = inferNetwork(await parametersOf(options))
  const config = unetConfig(options)
  expect(inferred.kind).to.equal('unet')
  // Where there is one level nothing resizes, and no shape tells how it would.
  const told = TOLD.filter((key) => key !== 'resBlockUpDown' || config.channelMult.length > 1)
  for (const key of told) expect(inferred.options[key], key).to.deep.equal(config[key])
  const parts = config.heads.length + (config.learnsVariance ? 1 : 0)
  expect(inferred.outChannels).to.equal(config.imageChannels * parts)
}

describe('inferNetwork', () => {
  for (const [name, recipe] of Object.entries<Recipe>(RECIPES)) {
    it(`reads the architecture of ${name} off its shapes`, () => expectTold(recipe.network))
  }

  const variants: [string, Partial<UNetOptions>][] = [
    ['residual blocks that resize', { resBlockUpDown: true }],
    ['average pools', { convResample: false }],
    ['one level', { channelMult: [1], attentionResolutions: [] }],
    [
      'three levels of three blocks',
      { channelMult: [1, 2, 2], resBlockCount: 3, attentionResolutions: [1, 4] },
    ],
    ['a fractional width', { modelChannels: 24, channelMult: [0.5, 1, 2.5] }],
    ['classes, and timesteps that are added', { classCount: 7, scaleShiftNorm: false }],
    ['three dimensions', { dims: 3 }],
  ]
  for (const [what, options] of variants) {
    it(`tells ${what}`, () => expectTold({ ...TINY, ...options }))
  }

  it('tells convolutions from average pools', async () => {
    for (const convResample of [true, false]) {
      const { options } = inferNetwork(await parametersOf({ ...TINY, convResample }))
      expect(options.convResample).to.equal(convResample)
    }
  })

  it('says nothing of what no shape tells', async () => {
    const { options } = inferNetwork(await parametersOf(TINY))
    expect(options).to.not.have.any.keys(
      ...['attentionHeads', 'headChannels', 'newAttentionOrder', 'heads', 'dropout', 'normGroups'],
    )
  })

  it('leaves open whether two channels are an image or an image and its condition', async () => {
    const shapes = await parametersOf({ ...TINY, lowRes: true })
    expect(shapes).to.deep.equal(await parametersOf({ ...TINY, lowRes: true, imageChannels: 1 }))
    const { options, inChannels } = inferNetwork(shapes)
    expect(inChannels).to.equal(2)
    expect(options).to.not.have.any.keys('lowRes', 'imageChannels')
  })

  it('knows that four times the channels are three heads and a variance, and once is a head alone', async () => {
    const four = inferNetwork(await parametersOf({ ...TINY, learnsVariance: true })).options
    expect(four).to.deep.include({ learnsVariance: true, heads: ['xStart', 'v', 'eps'] })
    const one = inferNetwork(await parametersOf({ ...TINY, heads: ['v'] })).options
    expect(one.learnsVariance).to.equal(false)
    expect(one).to.not.have.property('heads')
  })

  const heads: [string, [string, number[]][], number][] = [
    [
      'attention',
      [
        ['out.2.positional_embedding', [16, 65]],
        ['out.2.c_proj.weight', [10, 16, 1]],
      ],
      10,
    ],
    [
      'adaptive',
      [
        ['out.0.weight', [16]],
        ['out.3.weight', [10, 16, 1, 1]],
      ],
      10,
    ],
    [
      'spatial',
      [
        ['out.0.weight', [2048, 40]],
        ['out.2.weight', [10, 2048]],
      ],
      10,
    ],
    [
      'spatial_v2',
      [
        ['out.1.weight', [2048]],
        ['out.3.weight', [10, 2048]],
      ],
      10,
    ],
  ]
  for (const [pool, out, classes] of heads) {
    it(`knows a classifier whose head is ${pool}`, async () => {
      const trunk = (await parametersOf(TINY)).filter(({ name }) => !/^out/.test(name))
      const tensors = [...trunk, ...out.map(([name, shape]) => ({ name, shape }))]
      const { kind, pool: found, outChannels } = inferNetwork(tensors)
      expect({ kind, pool: found, outChannels }).to.deep.equal({
        kind: 'encoder',
        pool,
        outChannels: classes,
      })
    })
  }

  it('takes any number of tensors', async () => {
    const network = await parametersOf(TINY)
    const others = Array.from({ length: 200_000 }, (_, i) => ({ name: `other.${i}`, shape: [1] }))
    expect(inferNetwork([...others, ...network])).to.deep.equal(inferNetwork(network))
  })

  it('takes other tensors for what they are', () => {
    expect(inferNetwork([{ name: 'layer.weight', shape: [2, 3] }]).kind).to.equal('other')
  })
})
