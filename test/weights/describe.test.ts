import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect } from 'chai'
import { CheckpointError, DataError } from '../../lib/errors.ts'
import { RECIPES } from '../../lib/model/recipes.ts'
import { UNet, type UNetOptions, unetConfig } from '../../lib/model/unet.ts'
import { saveCheckpoint } from '../../lib/training/checkpoint.ts'
import { readConfigFile } from '../../lib/weights/config-file.ts'
import { describeModel, parametersOf, publishedNetwork } from '../../lib/weights/describe.ts'
import { inspectWeights } from '../../lib/weights/inspect.ts'
import { fixturePath } from '../support/fixtures.ts'
import { rejection } from '../support/rejection.ts'
import { sparseFile } from '../support/sparse-file.ts'
import { tinyTrainer } from '../support/tiny.ts'

const CIFAR10 = 'cifar10_uncond_50M_500K'
const SMALL: UNetOptions = { modelChannels: 32, channelMult: [1], resBlockCount: 1, heads: ['eps'] }
/** Everything that shapes do not tell of SMALL. */
const GIVEN = {
  network: { heads: ['eps'], attentionHeads: 2, newAttentionOrder: true },
  schedule: 'cosine',
  timestepCount: 1000,
} as const

describe('describeModel', () => {
  let folder: string
  let small: string
  before(async () => {
    folder = await mkdtemp(join(tmpdir(), 'trislot-describe-'))
    small = join(folder, 'small.safetensors')
    await sparseFile(small, await parametersOf(SMALL))
    await sparseFile(join(folder, `${CIFAR10}.safetensors`), await parametersOf(RECIPES[CIFAR10].network))
  })
  after(() => rm(folder, { recursive: true }))

  it('knows a published file by its name and shapes', async () => {
    const model = await describeModel(join(folder, `${CIFAR10}.safetensors`))
    expect(model.recipe).to.equal(CIFAR10)
    expect(model.source).to.equal(`the published network ${CIFAR10}`)
    expect(model.network).to.deep.equal(unetConfig(RECIPES[CIFAR10].network))
    expect(model).to.deep.include({
      schedule: { name: 'cosine', timestepCount: 4000 },
      variance: 'learnedRange',
      rescalesTimesteps: true,
      imageSize: 32,
    })
  })

  it('knows how many times a published upsampler enlarges', async () => {
    const upsampler = join(folder, '64_256_upsampler.safetensors')
    await sparseFile(upsampler, await parametersOf(RECIPES['64_256_upsampler'].network))
    expect(await describeModel(upsampler)).to.include({ imageSize: 256, lowResFactor: 4 })
  })

  it('takes neither the name nor the shapes alone for a published file', async () => {
    const named = join(folder, 'lsun_cat.safetensors')
    await sparseFile(named, await parametersOf(SMALL))
    expect(await publishedNetwork(named, await inspectWeights(named))).to.equal(undefined)
    expect((await rejection(describeModel(named))).message).to.match(
      /^describeModel: expected what the shapes /,
    )

    const renamed = join(folder, 'renamed.safetensors')
    await sparseFile(renamed, await parametersOf(RECIPES[CIFAR10].network))
    const { message } = await rejection(describeModel(renamed))
    expect(message).to.match(
      /or all of it in a JSON file by config; its shapes are those of cifar10_uncond_50M_500K, cifar10_uncond_vlb_50M_500K: config cifar10_uncond_50M_500K takes the rest from there, if it is that network$/,
    )
    expect((await describeModel(renamed, { config: CIFAR10 })).schedule.timestepCount).to.equal(4000)
  })

  it('names everything that is not known, and how to give it', async () => {
    const error = await rejection(describeModel(small))
    expect(error).to.be.instanceOf(RangeError)
    expect(error.message).to.equal(
      `${[
        `describeModel: expected what the shapes in ${small} do not tell to be given, got no`,
        'predictions, in the order of the output channels (heads eps, as a rule)',
        'number or width of attention heads (attentionHeads N or headChannels N)',
        'channel order of attention (newAttentionOrder: true, or false for the legacy order)',
        'noise schedule (schedule linear or cosine)',
        'diffusion timesteps (timestepCount N)',
        'whether the network sees t x 1000 / T (rescalesTimesteps: true, or false)',
      ].join('\n  ')}\nor all of it in a JSON file by config`,
    )
    const nearly = { ...GIVEN, timestepCount: 4000 }
    expect((await rejection(describeModel(small, { given: nearly }))).message).to.contain(
      'got no\n  whether the network sees t x 1000 / T (rescalesTimesteps: true, or false)\nor',
    )
  })

  it('takes what is given, and the rest from the shapes', async () => {
    const { network, schedule, rescalesTimesteps } = await describeModel(small, { given: GIVEN })
    expect(network).to.deep.include({
      ...{ modelChannels: 32, channelMult: [1], resBlockCount: 1, heads: ['eps'], learnsVariance: false },
      ...{ attentionHeads: 2, newAttentionOrder: true, normGroups: 32 },
    })
    expect({ schedule, rescalesTimesteps }).to.deep.equal({
      schedule: { name: 'cosine', timestepCount: 1000 },
      rescalesTimesteps: false,
    })
  })

  it('refuses what the shapes contradict, also where not everything is known', async () => {
    const three = join(folder, 'three.safetensors')
    await sparseFile(three, await parametersOf({ ...SMALL, imageChannels: 1, heads: ['xStart', 'v', 'eps'] }))
    const of = async (path: string, network: Partial<UNetOptions>) =>
      rejection(describeModel(path, { given: { network } }))
    const heads = await of(three, { heads: ['eps'] })
    expect(heads).to.be.instanceOf(RangeError)
    expect(heads.message).to.equal(
      `describeModel: expected heads to fit the tensors of ${three}, got eps, against out.2.weight [3, 32, 3, 3] instead of [1, 32, 3, 3], out.2.bias [3] instead of [1]`,
    )
    expect((await of(three, { heads: ['v', 'eps'] })).message).to.match(/^describeModel: expected what the /)
    expect((await of(small, { imageChannels: 1 })).message).to.match(
      /^describeModel: expected imageChannels to fit the tensors of .*, got 1, against input_blocks\.0\.0\.weight \[32, 3, 3, 3\] instead of \[32, 1, 3, 3\]$/,
    )
    expect((await of(small, { lowRes: true, heads: ['eps'] })).message).to.match(
      /^describeModel: expected lowRes and heads to fit .*, got true and eps, against input_blocks\.0\.0\.weight /,
    )
    expect((await of(small, { normGroups: 5 })).message).to.contain('to be divisible by the 5 norm groups')
  })

  it('needs no order of attention where there is one head', async () => {
    const given = { ...GIVEN, network: { heads: ['eps'], attentionHeads: 1 } } as const
    expect((await describeModel(small, { given })).network.attentionHeads).to.equal(1)
  })

  it('asks whether two channels are one that is made larger', async () => {
    const path = join(folder, 'two.safetensors')
    await sparseFile(path, await parametersOf({ ...SMALL, imageChannels: 2 }))
    const { message } = await rejection(describeModel(path, { given: GIVEN }))
    expect(message).to.contain(
      'got no\n  channels of the images, and whether they are made larger (imageChannels N, and lowRes: true, or false)\n',
    )
    const network = { ...GIVEN.network, imageChannels: 2, lowRes: false }
    expect((await describeModel(path, { given: { ...GIVEN, network } })).network.learnsVariance).to.equal(
      false,
    )
  })

  it('asks for the meaning of a learned variance', async () => {
    const path = join(folder, 'variance.safetensors')
    await sparseFile(path, await parametersOf({ ...SMALL, learnsVariance: true }))
    const { message } = await rejection(describeModel(path, { given: GIVEN }))
    expect(message).to.contain(
      'got no\n  meaning of the learned variance, if it has one (variance learnedRange, as a rule, or learned)\nor',
    )
    const { network, variance } = await describeModel(path, { given: { ...GIVEN, variance: 'learned' } })
    expect([network.learnsVariance, variance]).to.deep.equal([true, 'learned'])
  })

  it('reads guided-diffusion’s constructor options, in which what the output means may be added', async () => {
    const config = join(folder, 'net.json')
    const raw = {
      ...{
        model_channels: 32,
        out_channels: 3,
        num_res_blocks: 1,
        attention_resolutions: [],
        channel_mult: [1],
      },
      ...{ num_heads: 4, use_scale_shift_norm: true, image_size: 16 },
    }
    await writeFile(config, JSON.stringify({ config: raw, constructor: 'UNetModel' }))
    const { message } = await rejection(describeModel(small, { config }))
    expect(message).to.match(
      /got no\n {2}predictions, .*\n {2}noise schedule .*\n {2}diffusion timesteps .*\n/,
    )
    const whole = { predict_xstart: false, noise_schedule: 'linear', diffusion_steps: 1000 }
    await writeFile(config, JSON.stringify({ ...raw, ...whole }))
    const { network, schedule, imageSize } = await describeModel(small, { config })
    expect(network).to.include({ attentionHeads: 4, newAttentionOrder: false, learnsVariance: false })
    expect([network.heads, schedule.name, imageSize]).to.deep.equal([['eps'], 'linear', 16])
    // What is given counts before the file.
    const given = { network: { headChannels: 16 }, schedule: 'cosine' } as const
    const other = await describeModel(small, { config, given })
    expect([other.network.headChannels, other.schedule.name]).to.deep.equal([16, 'cosine'])
    await writeFile(config, JSON.stringify({ ...raw, ...whole, large_size: 32, small_size: 8 }))
    expect(await describeModel(small, { config })).to.include({ imageSize: 32, lowResFactor: 4 })
    await writeFile(config, JSON.stringify({ ...raw, ...whole, large_size: 32, small_size: 9 }))
    expect((await rejection(describeModel(small, { config }))).message).to.match(
      /^readConfigFile: expected large_size \/ small_size to be an integer/,
    )
  })

  it('finds the state.json of our own checkpoints beside the weights', async () => {
    const { trainer, unet } = await tinyTrainer()
    const checkpoint = await saveCheckpoint(trainer, join(folder, 'run'))
    const { network, source, schedule } = await describeModel(join(checkpoint, 'ema-0.9.safetensors'))
    expect(network).to.deep.equal(unet.config)
    expect(source).to.equal(join(checkpoint, 'state.json'))
    expect(schedule).to.deep.equal({ name: 'linear', timestepCount: 1000, zeroTerminalSnr: false })
    trainer.dispose()
    unet.dispose()
  })

  it('assumes no number of groups for networks of this library', async () => {
    const path = join(folder, 'ours.safetensors')
    const unet = await UNet.create({ ...SMALL, normGroups: 16 })
    await unet.saveWeights(path)
    unet.dispose()
    const { message } = await rejection(describeModel(path, { given: GIVEN }))
    expect(message).to.contain('got no\n  groups of the normalisation (normGroups N)\nor')
  })

  it('refuses a configuration that is another network’s, one that does not exist, and other tensors', async () => {
    const other = await rejection(describeModel(small, { config: 'lsun_cat' }))
    expect(other).to.be.instanceOf(CheckpointError)
    expect(other.message).to.match(
      /^describeModel: expected .*small\.safetensors to hold the tensors of the network of the published network lsun_cat, got time_embed\.0\.weight \[128, 32\] instead of \[1024, 256\], /,
    )
    const unknown = await rejection(describeModel(small, { config: 'lsun_cats' }))
    expect(unknown).to.be.instanceOf(RangeError)
    expect(unknown.message).to.match(/got "lsun_cats"; did you mean lsun_cat\?$/)
    const missing = await rejection(describeModel(small, { config: join(folder, 'none.json') }))
    expect(missing).to.be.instanceOf(DataError)
    expect(missing.message).to.match(/^readConfigFile: expected .*none\.json to be readable, got ENOENT$/)
    for (const json of [{ config: null }, { network: 5 }, { network: {}, schedule: 'linear' }]) {
      const config = join(folder, 'odd.json')
      await writeFile(config, JSON.stringify(json))
      const odd = await rejection(readConfigFile(config))
      expect(odd).to.be.instanceOf(DataError)
      const [key, value] = Object.entries(json).at(-1)!
      expect(odd.message).to.equal(
        `readConfigFile: expected ${key} of ${config} to be an object, got ${JSON.stringify(value)}`,
      )
    }
    const path = fixturePath('torch-files/module.pt')
    expect((await rejection(describeModel(path))).message).to.equal(
      `describeModel: expected ${path} to hold a UNet of guided-diffusion, got other tensors`,
    )
  })
})
