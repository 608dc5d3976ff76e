import { expect } from 'chai'
import { NETWORK_PRESETS, UNet, type UNetOptions, unetConfig } from '../../lib/index.ts'
import { forwardFlops, networkLayers, parameterCount } from '../../lib/model/layers.ts'

const SMALL = { modelChannels: 16, normGroups: 8, channelMult: [1, 2] } as const

describe('networkLayers', () => {
  const networks: Record<string, UNetOptions> = {
    tiny: NETWORK_PRESETS.tiny,
    digits: { ...NETWORK_PRESETS.digits, imageChannels: 1 },
    'with attention everywhere': {
      ...SMALL,
      attentionResolutions: [1, 2],
      headChannels: 8,
      learnsVariance: true,
    },
    'with residual resampling, classes and one head': {
      ...{ ...SMALL, resBlockUpDown: true, classCount: 5, heads: ['v'], resBlockCount: 1 },
    },
    'with added timesteps and plain resampling': { ...SMALL, scaleShiftNorm: false, convResample: false },
    'of one dimension': { ...SMALL, dims: 1 },
    'of three dimensions': { ...SMALL, dims: 3, resBlockCount: 1 },
    'for super-resolution': { ...SMALL, lowRes: true },
    'with a null class': { ...SMALL, classCount: 3, nullClass: true },
  }
  for (const [name, options] of Object.entries(networks)) {
    it(`counts the weights of a network ${name}`, async () => {
      const unet = await UNet.create(options)
      expect(parameterCount(unetConfig(options))).to.equal(unet.parameterCount)
      unet.dispose()
    })
  }

  it('joins each skip connection of the encoder in the decoder', () => {
    const layers = networkLayers(unetConfig(NETWORK_PRESETS.lsun256), [256, 256])
    const sources = layers.filter(({ feedsDecoder }) => feedsDecoder)
    const joined = layers.filter((layer) => layer.kind === 'residual' && layer.skip > 0)
    expect(sources).to.have.length(18)
    expect(joined).to.have.length(18)
  })
})

describe('forwardFlops', () => {
  // torch.utils.flop_counter over bench/reference/unet.py (PyTorch 2.15), an image of the given size.
  it('is what PyTorch counts', () => {
    const digits = unetConfig({ ...NETWORK_PRESETS.digits, imageChannels: 1 })
    expect(forwardFlops(digits, [28, 28])).to.equal(9147310080 / 24)
    const common = { modelChannels: 64, channelMult: [1, 2, 2], attentionResolutions: [2, 4] }
    const updown = unetConfig({ ...common, resBlockUpDown: true })
    expect(forwardFlops(updown, [32, 32])).to.equal(87625039872 / 24)
    expect(forwardFlops(unetConfig(common), [32, 32])).to.equal(77648363520 / 24)
  })
})
