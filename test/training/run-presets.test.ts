import { expect } from 'chai'
import { RECIPES } from '../../lib/model/recipes.ts'
import { networkOptions, runConfig } from '../../lib/training/run-config.ts'
import { RUN_PRESETS } from '../../lib/training/run-presets.ts'
import { rejection } from '../support/rejection.ts'

describe('Presets of a run', () => {
  it('fill in the whole recipe of a published network, and what is given counts before it', async () => {
    const config = await runConfig({ data: 'x', steps: 1, preset: '64x64_diffusion' })
    const { imageChannels: _, classCount, ...network } = networkOptions(config, 3, 1000)
    expect({ ...network, classCount }).to.deep.equal(RECIPES['64x64_diffusion'].network)
    expect(config).to.deep.include({
      ...{ schedule: 'cosine', timestepCount: 1000, batchSize: 2048, lr: 3e-4, emaRates: [0.9999] },
      ...{ weightDecay: 0, sampler: 'uniform' },
    })
    const given = { batchSize: 8, schedule: 'linear', dropout: 0, attentionHeads: 4 } as const
    const other = await runConfig({ data: 'x', steps: 1, preset: '64x64_diffusion', ...given })
    expect(other).to.deep.include({ ...given, headChannels: -1, lr: 3e-4 })
  })

  it('leave schedule and batch size to the defaults where they are of a network only', async () => {
    const config = await runConfig({ data: 'x', steps: 1, preset: 'imagenet64' })
    expect(config).to.include({ schedule: 'linear', batchSize: 32, modelChannels: 192 })
  })

  it('are there for every published network', () => {
    expect(RUN_PRESETS).to.include.members(['tiny', 'lsun256', ...Object.keys(RECIPES)])
  })

  it('train improved-diffusion’s networks as they were trained', async () => {
    const vlb = await runConfig({ data: 'x', steps: 1, preset: 'cifar10_uncond_vlb_50M_500K' })
    expect(vlb).to.deep.include({
      ...{ schedule: 'cosine', timestepCount: 4000, rescalesTimesteps: true, loss: 'rescaledKl' },
      ...{ variance: 'learnedRange', sampler: 'loss-second-moment', batchSize: 128 },
    })
  })

  it('train upsamplers from the size that they enlarge', async () => {
    const config = await runConfig({ data: 'x', steps: 1, preset: '128_512_upsampler' })
    expect(config.superResolution).to.equal(128)
    expect(networkOptions(config, 3, 1000).lowRes).to.equal(true)
  })

  it('cut slots from their own schedule and number of timesteps', async () => {
    const long = await runConfig({ data: 'x', steps: 1, preset: 'cifar10_uncond_50M_500K', sampler: 'slots' })
    expect(long.slotEdges?.at(-1)).to.equal(4000)
    const slots = { data: 'x', steps: 1, size: 64, sampler: 'slots', slotRule: 'gaussian' } as const
    const cosine = await runConfig({ ...slots, preset: '64x64_diffusion' })
    expect(cosine.slotEdges).to.deep.equal((await runConfig({ ...slots, schedule: 'cosine' })).slotEdges)
    expect(cosine.slotEdges).to.not.deep.equal((await runConfig(slots)).slotEdges)
  })

  it('do not go with the weights of a file, whose network counts', async () => {
    const error = await rejection(runConfig({ data: 'x', steps: 1, preset: 'tiny', init: 'w.pt' }))
    expect(error.message).to.equal('run: expected preset to be absent when init is given, got "tiny"')
    const stray = await rejection(runConfig({ data: 'x', steps: 1, initPart: 'ema' }))
    expect(stray.message).to.equal('run: expected initPart to be absent without init, got "ema"')
  })
})
