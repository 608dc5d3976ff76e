// What is timed: networks, and the image size and batches that go with each.
import { NETWORK_PRESETS, type UNetOptions } from '../lib/index.ts'

/** A network with the images that it is timed on. */
export interface BenchNetwork {
  readonly name: string
  readonly about: string
  readonly options: UNetOptions
  /** Height and width of the images. */
  readonly size: number
  readonly batches: readonly number[]
}

export const NETWORKS: readonly BenchNetwork[] = [
  {
    name: '28x28',
    about: '32 channels x (1,2,2), 1 block, attention at factor 4, grey: the preset `digits`',
    options: { ...NETWORK_PRESETS.digits, imageChannels: 1 },
    size: 28,
    batches: [1, 4, 8, 16],
  },
  {
    name: '32x32',
    about: '64 channels x (1,2,2), 2 blocks, attention at 16 and 8, residual up and down',
    options: {
      modelChannels: 64,
      channelMult: [1, 2, 2],
      resBlockCount: 2,
      attentionResolutions: [2, 4],
      resBlockUpDown: true,
    },
    size: 32,
    batches: [1, 4, 8, 16],
  },
  {
    name: '64x64',
    about: '64 channels x (1,2,3,4), 2 blocks, attention at 16 and 8, residual up and down',
    options: {
      modelChannels: 64,
      channelMult: [1, 2, 3, 4],
      resBlockCount: 2,
      attentionResolutions: [4, 8],
      resBlockUpDown: true,
    },
    size: 64,
    batches: [4],
  },
  {
    name: '256x256',
    about:
      "guided-diffusion's 256x256 layout at 32 channels: (1,1,2,2,4,4), 2 blocks, attention at 32, 16 and 8",
    options: {
      modelChannels: 32,
      channelMult: [1, 1, 2, 2, 4, 4],
      resBlockCount: 2,
      attentionResolutions: [8, 16, 32],
      headChannels: 32,
      resBlockUpDown: true,
    },
    size: 256,
    batches: [1],
  },
]
