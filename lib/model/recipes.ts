import type { VarianceType } from '../native.ts'
import type { ScheduleName } from '../schedule/noise-schedule.ts'
import type { UNetOptions } from './unet.ts'

/** A published network: what its file holds, how it was trained, and how its authors sample from it. */
export interface Recipe {
  /** guided-diffusion is Dhariwal and Nichol 2021, improved-diffusion Nichol and Dhariwal 2021. */
  readonly source: 'guided-diffusion' | 'improved-diffusion'
  /** Height and width of its images. */
  readonly imageSize: number
  /** Of a super-resolution network: height and width of the condition. */
  readonly lowResSize?: number
  readonly network: UNetOptions
  readonly schedule: { readonly name: ScheduleName; readonly timestepCount: number }
  /** What the learned variance means. */
  readonly variance: VarianceType
  /** The network sees t x 1000 / T. */
  readonly rescalesTimesteps: boolean
  /** Of the network; computed by building it. */
  readonly parameterCount: number
  readonly tensorCount: number
  readonly training: RecipeTraining
  readonly sampling: {
    readonly respacing: string
    /** Scale of the classifier's gradient, and the recipe of the classifier. */
    readonly guidanceScale?: number
    readonly classifier?: string
  }
}

/** How a published network was trained. Of guided-diffusion's, only the classifier for 128x128 is in its repository; the rest is from the paper's tables. */
export interface RecipeTraining {
  readonly batchSize: number
  readonly lr: number
  /** Where it is known. */
  readonly steps?: number
  /**
   * `mse` is the squared error of eps, and the variational bound for the variance alone; `rescaledMse` the same with the bound times
   * T / 1000; `rescaledKl` the bound alone, times T.
   */
  readonly loss: 'mse' | 'rescaledMse' | 'rescaledKl'
  readonly emaRate: number
  readonly weightDecay: number
  readonly sampler: 'uniform' | 'loss-second-moment'
}

/** A published classifier of noised images, with guided-diffusion's names for its constructor options. */
export interface ClassifierRecipe {
  readonly source: 'guided-diffusion'
  readonly imageSize: number
  readonly network: {
    readonly image_size: number
    readonly in_channels: number
    readonly model_channels: number
    readonly out_channels: number
    readonly num_res_blocks: number
    readonly attention_resolutions: readonly number[]
    readonly channel_mult: readonly number[]
    readonly num_head_channels: number
    readonly use_scale_shift_norm: boolean
    readonly resblock_updown: boolean
    readonly use_new_attention_order: boolean
    readonly pool: 'attention'
  }
  readonly schedule: { readonly name: ScheduleName; readonly timestepCount: number }
  readonly parameterCount: number
  readonly tensorCount: number
  readonly training: {
    readonly batchSize: number
    readonly lr: number
    readonly steps: number
    readonly weightDecay: number
  }
}

const MULTIPLES = {
  32: [1, 2, 2, 2],
  64: [1, 2, 3, 4],
  128: [1, 1, 2, 3, 4],
  256: [1, 1, 2, 2, 4, 4],
  512: [0.5, 1, 1, 2, 2, 4, 4],
} as const

/** What all of the published networks have in common. */
const PREDICTS = { heads: ['eps'], learnsVariance: true } as const satisfies Partial<UNetOptions>
const TRAINED = { emaRate: 0.9999, weightDecay: 0, sampler: 'uniform' } as const
const LINEAR = { name: 'linear', timestepCount: 1000 } as const
const COSINE = { name: 'cosine', timestepCount: 1000 } as const
const LONG_COSINE = { name: 'cosine', timestepCount: 4000 } as const

function guided(
  imageSize: keyof typeof MULTIPLES,
  network: Partial<UNetOptions> & Pick<UNetOptions, 'modelChannels'>,
): Pick<Recipe, 'source' | 'imageSize' | 'network' | 'schedule' | 'variance' | 'rescalesTimesteps'> {
  return {
    source: 'guided-diffusion',
    imageSize,
    network: {
      ...PREDICTS,
      channelMult: MULTIPLES[imageSize],
      resBlockCount: 2,
      attentionResolutions: [imageSize / 32, imageSize / 16, imageSize / 8],
      resBlockUpDown: true,
      ...network,
    },
    schedule: LINEAR,
    variance: 'learnedRange',
    rescalesTimesteps: false,
  }
}

function improved(
  imageSize: keyof typeof MULTIPLES,
  network: Partial<UNetOptions> & Pick<UNetOptions, 'modelChannels'>,
): Pick<Recipe, 'source' | 'imageSize' | 'network' | 'schedule' | 'variance' | 'rescalesTimesteps'> {
  return {
    source: 'improved-diffusion',
    imageSize,
    network: {
      ...PREDICTS,
      channelMult: MULTIPLES[imageSize],
      attentionResolutions: [imageSize / 16, imageSize / 8],
      attentionHeads: 4,
      ...network,
    },
    schedule: LONG_COSINE,
    variance: 'learnedRange',
    rescalesTimesteps: true,
  }
}

const LSUN = {
  ...guided(256, { modelChannels: 256, headChannels: 64, dropout: 0.1 }),
  parameterCount: 552_814_086,
  tensorCount: 566,
  training: { ...TRAINED, batchSize: 256, lr: 1e-4, loss: 'mse' },
  sampling: { respacing: '1000' },
} as const satisfies Recipe

const IMAGENET64 = {
  ...improved(64, { modelChannels: 128, resBlockCount: 3 }),
  parameterCount: 121_063_942,
  tensorCount: 450,
  sampling: { respacing: '250' },
} as const

const CIFAR10 = {
  ...improved(32, { modelChannels: 128, resBlockCount: 3, dropout: 0.3 }),
  parameterCount: 52_546_438,
  tensorCount: 446,
  sampling: { respacing: '250' },
} as const

const LSUN_SMALL = {
  ...improved(256, {
    modelChannels: 128,
    resBlockCount: 2,
    attentionResolutions: [16],
    attentionHeads: 1,
    scaleShiftNorm: false,
  }),
  schedule: LINEAR,
  rescalesTimesteps: false,
  parameterCount: 113_676_678,
  tensorCount: 426,
  sampling: { respacing: '1000' },
} as const

const IMPROVED_BATCH = { ...TRAINED, batchSize: 128, lr: 1e-4 } as const

/** The published networks of guided-diffusion and improved-diffusion, by the names of their files without `.pt`. */
export const RECIPES = {
  '64x64_diffusion': {
    ...guided(64, {
      modelChannels: 192,
      resBlockCount: 3,
      headChannels: 64,
      classCount: 1000,
      dropout: 0.1,
      newAttentionOrder: true,
    }),
    schedule: COSINE,
    parameterCount: 295_904_454,
    tensorCount: 541,
    training: { ...TRAINED, batchSize: 2048, lr: 3e-4, steps: 540_000, loss: 'mse' },
    sampling: { respacing: '250', guidanceScale: 1, classifier: '64x64_classifier' },
  },
  '128x128_diffusion': {
    ...guided(128, { modelChannels: 256, attentionHeads: 4, classCount: 1000 }),
    parameterCount: 421_529_606,
    tensorCount: 493,
    training: { ...TRAINED, batchSize: 256, lr: 1e-4, steps: 4_360_000, loss: 'mse' },
    sampling: { respacing: '250', guidanceScale: 0.5, classifier: '128x128_classifier' },
  },
  '256x256_diffusion': {
    ...guided(256, { modelChannels: 256, headChannels: 64, classCount: 1000 }),
    parameterCount: 553_838_086,
    tensorCount: 567,
    training: { ...TRAINED, batchSize: 256, lr: 1e-4, steps: 1_980_000, loss: 'mse' },
    sampling: { respacing: '250', guidanceScale: 1, classifier: '256x256_classifier' },
  },
  '256x256_diffusion_uncond': {
    ...guided(256, { modelChannels: 256, headChannels: 64 }),
    parameterCount: 552_814_086,
    tensorCount: 566,
    training: { ...TRAINED, batchSize: 256, lr: 1e-4, steps: 1_980_000, loss: 'mse' },
    sampling: { respacing: '250', guidanceScale: 10, classifier: '256x256_classifier' },
  },
  '512x512_diffusion': {
    ...guided(512, { modelChannels: 256, headChannels: 64, classCount: 1000 }),
    parameterCount: 558_997_638,
    tensorCount: 645,
    training: { ...TRAINED, batchSize: 256, lr: 1e-4, steps: 1_940_000, loss: 'mse' },
    sampling: { respacing: '250', guidanceScale: 4, classifier: '512x512_classifier' },
  },
  '64_256_upsampler': {
    ...guided(256, { modelChannels: 192, attentionHeads: 4, classCount: 1000, lowRes: true }),
    lowResSize: 64,
    parameterCount: 311_795_910,
    tensorCount: 567,
    training: { ...TRAINED, batchSize: 256, lr: 1e-4, steps: 500_000, loss: 'mse' },
    sampling: { respacing: '250' },
  },
  '128_512_upsampler': {
    ...guided(512, {
      modelChannels: 192,
      channelMult: MULTIPLES[256],
      attentionResolutions: [16, 32],
      headChannels: 64,
      classCount: 1000,
      lowRes: true,
    }),
    lowResSize: 128,
    parameterCount: 308_835_270,
    tensorCount: 537,
    training: { ...TRAINED, batchSize: 256, lr: 1e-4, steps: 1_050_000, loss: 'mse' },
    sampling: { respacing: '250' },
  },
  lsun_bedroom: LSUN,
  lsun_cat: LSUN,
  lsun_horse: LSUN,
  lsun_horse_nodropout: { ...LSUN, ...guided(256, { modelChannels: 256, headChannels: 64 }) },

  imagenet64_uncond_100M_1500K: {
    ...IMAGENET64,
    training: { ...IMPROVED_BATCH, steps: 1_500_000, loss: 'rescaledMse' },
  },
  imagenet64_uncond_vlb_100M_1500K: {
    ...IMAGENET64,
    training: { ...IMPROVED_BATCH, steps: 1_500_000, loss: 'rescaledKl', sampler: 'loss-second-moment' },
  },
  cifar10_uncond_50M_500K: {
    ...CIFAR10,
    training: { ...IMPROVED_BATCH, steps: 500_000, loss: 'rescaledMse' },
  },
  cifar10_uncond_vlb_50M_500K: {
    ...CIFAR10,
    training: { ...IMPROVED_BATCH, steps: 500_000, loss: 'rescaledKl', sampler: 'loss-second-moment' },
  },
  imagenet64_cond_270M_250K: {
    ...improved(64, { modelChannels: 192, resBlockCount: 3, classCount: 1000 }),
    rescalesTimesteps: false,
    parameterCount: 273_049_350,
    tensorCount: 451,
    training: { ...TRAINED, batchSize: 2048, lr: 3e-4, steps: 250_000, loss: 'mse' },
    sampling: { respacing: '250' },
  },
  upsample_cond_500K: {
    ...improved(256, { modelChannels: 192, resBlockCount: 2, classCount: 1000, lowRes: true }),
    lowResSize: 64,
    schedule: { name: 'linear', timestepCount: 4000 },
    rescalesTimesteps: false,
    parameterCount: 279_792_390,
    tensorCount: 457,
    training: { ...TRAINED, batchSize: 256, lr: 3e-4, steps: 500_000, loss: 'mse' },
    sampling: { respacing: '250' },
  },
  lsun_uncond_100M_1200K_bs128: {
    ...LSUN_SMALL,
    training: { ...IMPROVED_BATCH, steps: 1_200_000, loss: 'mse' },
  },
  lsun_uncond_100M_2400K_bs64: {
    ...LSUN_SMALL,
    training: { ...IMPROVED_BATCH, lr: 2e-5, steps: 2_400_000, loss: 'mse' },
  },
} as const satisfies Record<string, Recipe>

/** The name of a published network. */
export type RecipeName = keyof typeof RECIPES

function classifier(
  imageSize: 64 | 128 | 256 | 512,
  depth: number,
): Pick<ClassifierRecipe, 'source' | 'imageSize' | 'network' | 'schedule'> {
  return {
    source: 'guided-diffusion',
    imageSize,
    network: {
      image_size: imageSize,
      in_channels: 3,
      model_channels: 128,
      out_channels: 1000,
      num_res_blocks: depth,
      attention_resolutions: [imageSize / 32, imageSize / 16, imageSize / 8],
      channel_mult: MULTIPLES[imageSize],
      num_head_channels: 64,
      use_scale_shift_norm: true,
      resblock_updown: true,
      use_new_attention_order: false,
      pool: 'attention',
    },
    schedule: LINEAR,
  }
}

/** The published classifiers of guided-diffusion, by the names of their files without `.pt`. */
export const CLASSIFIER_RECIPES = {
  '64x64_classifier': {
    ...classifier(64, 4),
    schedule: COSINE,
    parameterCount: 65_438_568,
    tensorCount: 307,
    training: { batchSize: 1024, lr: 6e-4, steps: 300_000, weightDecay: 0.2 },
  },
  '128x128_classifier': {
    ...classifier(128, 2),
    parameterCount: 42_568_040,
    tensorCount: 221,
    training: { batchSize: 256, lr: 3e-4, steps: 300_000, weightDecay: 0.05 },
  },
  '256x256_classifier': {
    ...classifier(256, 2),
    parameterCount: 54_096_360,
    tensorCount: 249,
    training: { batchSize: 256, lr: 3e-4, steps: 500_000, weightDecay: 0.05 },
  },
  '512x512_classifier': {
    ...classifier(512, 2),
    parameterCount: 54_448_360,
    tensorCount: 281,
    training: { batchSize: 256, lr: 3e-4, steps: 500_000, weightDecay: 0.05 },
  },
} as const satisfies Record<string, ClassifierRecipe>
