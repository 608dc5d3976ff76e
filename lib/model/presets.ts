import type { UNetOptions } from './unet.ts'

/**
 * Networks by name. `tiny` is for tests; `digits` is what quickstart trains; `cifar10` is improved DDPM's 32x32 network
 * (Nichol and Dhariwal 2021); `imagenet64` and `lsun256` are guided-diffusion's (Dhariwal and Nichol 2021).
 */
export const NETWORK_PRESETS = {
  tiny: { modelChannels: 16, channelMult: [1, 2], resBlockCount: 1, normGroups: 8 },
  digits: {
    modelChannels: 32,
    channelMult: [1, 2, 2],
    resBlockCount: 1,
    attentionResolutions: [4],
  },
  cifar10: {
    modelChannels: 128,
    channelMult: [1, 2, 2, 2],
    resBlockCount: 3,
    attentionResolutions: [2, 4],
    dropout: 0.3,
  },
  imagenet64: {
    modelChannels: 192,
    channelMult: [1, 2, 3, 4],
    resBlockCount: 3,
    attentionResolutions: [2, 4, 8],
    headChannels: 64,
    dropout: 0.1,
    resBlockUpDown: true,
    newAttentionOrder: true,
  },
  lsun256: {
    modelChannels: 256,
    channelMult: [1, 1, 2, 2, 4, 4],
    resBlockCount: 2,
    attentionResolutions: [8, 16, 32],
    headChannels: 64,
    dropout: 0.1,
    resBlockUpDown: true,
  },
} as const satisfies Record<string, UNetOptions>

/** The name of a preset. */
export type NetworkPreset = keyof typeof NETWORK_PRESETS
