import {
  argumentError,
  checkInteger,
  checkKnownOptions,
  checkNumber,
  checkOneOf,
  checkText,
} from '../check.ts'
import { checkSafetensorsName } from '../checkpoint-file.ts'
import { checkDeviceName, type Device } from '../device.ts'
import { DeviceTensor } from '../device-tensor.ts'
import {
  type ClassifierHandle,
  type HostData,
  type NativeClassifierConfig,
  native,
  type Pool,
  type Precision,
} from '../native.ts'
import { NativeObject } from '../native-object.ts'
import type { NoiseSchedule } from '../schedule/noise-schedule.ts'
import type { HostTensor } from '../tensor.ts'
import { checkArchitecture } from './unet.ts'

/** How a classifier's feature maps become one vector. */
export const POOLS = ['adaptive', 'attention', 'spatial', 'spatial_v2'] as const

/** Channels between the two linear layers of the spatial pools. */
const HIDDEN_WIDTH = 2048

/** Options of a classifier. Names and meanings are the UNet's; defaults are those of guided-diffusion's classifiers, but for `channelMult` and `attentionResolutions`. */
export interface ClassifierOptions {
  /** Number of classes. */
  readonly classCount: number
  /** Height and width of the images, which are square; attention pooling is built for one size. */
  readonly imageSize: number
  /** Channels of the images, 1 to 4; 3 by default. */
  readonly imageChannels?: number
  /** Base width, 128 by default; a multiple of `normGroups`. */
  readonly modelChannels?: number
  /** Width of each level as a multiple of `modelChannels`; `[1, 2, 2]` by default. */
  readonly channelMult?: readonly number[]
  /** Residual blocks a level; 2 by default. */
  readonly resBlockCount?: number
  /** Down-sampling factors (1, 2, 4, …) at which there is attention; none by default. The middle always has it. */
  readonly attentionResolutions?: readonly number[]
  /** Channels of an attention head, 64 by default; -1 takes `attentionHeads` instead, which attention pooling does not. */
  readonly headChannels?: number
  /** Attention heads where `headChannels` is -1; 1 by default. */
  readonly attentionHeads?: number
  /**
   * What happens to the feature maps: `attention` over the positions of the last one (default), `adaptive` their mean,
   * `spatial` and `spatial_v2` two linear layers over the means of all of them.
   */
  readonly pool?: Pool
  /** In [0, 1); 0 by default. */
  readonly dropout?: number
  /** Convolutions resize where residual blocks do not; true by default. */
  readonly convResample?: boolean
  /** Less memory, about a third more time; false by default. */
  readonly recompute?: boolean
  /** True by default. */
  readonly scaleShiftNorm?: boolean
  /** True by default. */
  readonly resBlockUpDown?: boolean
  /** Channel order of attention: false, the default, is guided-diffusion's legacy order. */
  readonly newAttentionOrder?: boolean
  /** Groups of the normalisation; 32 by default. */
  readonly normGroups?: number
}

/** `ClassifierOptions` with every default filled in. */
export type ClassifierConfig = Required<ClassifierOptions>

const KNOWN = [
  'classCount', 'imageSize', 'imageChannels', 'modelChannels', 'channelMult', 'resBlockCount', 'attentionResolutions',
  'headChannels', 'attentionHeads', 'pool', 'dropout', 'convResample', 'recompute', 'scaleShiftNorm', 'resBlockUpDown',
  'newAttentionOrder', 'normGroups',
] as const // biome-ignore format: one list

/**
 * The classifiers that guided-diffusion publishes (`64x64_classifier.pt`, …), for 1000 classes and RGB images; spread one
 * and change what differs.
 */
export const CLASSIFIER_PRESETS = {
  imagenet64: published(64, [1, 2, 3, 4], [2, 4, 8], 4),
  imagenet128: published(128, [1, 1, 2, 3, 4], [4, 8, 16], 2),
  imagenet256: published(256, [1, 1, 2, 2, 4, 4], [8, 16, 32], 2),
  imagenet512: published(512, [0.5, 1, 1, 2, 2, 4, 4], [16, 32, 64], 2),
} as const satisfies Record<string, ClassifierOptions>

function published(
  imageSize: number,
  channelMult: readonly number[],
  attentionResolutions: readonly number[],
  resBlockCount: number,
): ClassifierOptions {
  return { classCount: 1000, imageSize, modelChannels: 128, channelMult, attentionResolutions, resBlockCount }
}

/** Fills in defaults and checks every option. Throws a RangeError or TypeError that names the option. */
export function classifierConfig(options: ClassifierOptions): ClassifierConfig {
  const call = 'Classifier.create'
  checkKnownOptions(call, options, KNOWN)
  const config: ClassifierConfig = {
    classCount: options.classCount,
    imageSize: options.imageSize,
    imageChannels: options.imageChannels ?? 3,
    modelChannels: options.modelChannels ?? 128,
    channelMult: options.channelMult ?? [1, 2, 2],
    resBlockCount: options.resBlockCount ?? 2,
    attentionResolutions: options.attentionResolutions ?? [],
    headChannels: options.headChannels ?? 64,
    attentionHeads: options.attentionHeads ?? 1,
    pool: options.pool ?? 'attention',
    dropout: options.dropout ?? 0,
    convResample: options.convResample ?? true,
    recompute: options.recompute ?? false,
    scaleShiftNorm: options.scaleShiftNorm ?? true,
    resBlockUpDown: options.resBlockUpDown ?? true,
    newAttentionOrder: options.newAttentionOrder ?? false,
    normGroups: options.normGroups ?? 32,
  }
  checkInteger(call, 'imageChannels', config.imageChannels, 1, 4)
  nativeConfig(call, config)
  return config
}

/** The native form of the options, checked. */
function nativeConfig(call: string, config: ClassifierConfig): NativeClassifierConfig {
  const { imageChannels, classCount, ...rest } = config
  const network = {
    ...rest,
    inChannels: imageChannels,
    outChannels: classCount,
    dims: 2,
    classCount: 0,
    attentionHeadsUp: -1,
    lowRes: false,
  }
  checkInteger(call, 'classCount', classCount, 1)
  checkArchitecture(call, network)
  checkOneOf(call, 'pool', config.pool, POOLS)
  const divisor = 2 ** (config.channelMult.length - 1)
  checkInteger(call, 'imageSize', config.imageSize, 1)
  if (config.imageSize % divisor !== 0) {
    const what = `divisible by ${divisor}, the network's down-sampling`
    throw argumentError(call, 'imageSize', what, config.imageSize)
  }
  if (config.pool === 'attention' && config.headChannels === -1) {
    throw argumentError(call, 'headChannels', 'a number of channels for attention pooling', -1)
  }
  if (config.pool === 'spatial_v2' && HIDDEN_WIDTH % config.normGroups !== 0) {
    const what = `a divisor of ${HIDDEN_WIDTH}, the hidden layer of pool spatial_v2`
    throw argumentError(call, 'normGroups', what, config.normGroups)
  }
  return network
}

/** guided-diffusion's constructor options of EncoderUNetModel (snake_case). */
export interface RawClassifierOptions {
  readonly image_size: number
  readonly in_channels?: number
  readonly model_channels: number
  readonly out_channels: number
  readonly num_res_blocks: number
  readonly attention_resolutions: readonly number[]
  readonly dropout?: number
  readonly channel_mult?: readonly number[]
  readonly conv_resample?: boolean
  readonly use_checkpoint?: boolean
  readonly num_heads?: number
  readonly num_head_channels?: number
  readonly use_scale_shift_norm?: boolean
  readonly resblock_updown?: boolean
  readonly use_new_attention_order?: boolean
  readonly pool?: Pool
  readonly norm_groups?: number
  /** 2; the original's other dimensions are not here. */
  readonly dims?: 2
  /** Without effect on this network. */
  readonly num_heads_upsample?: number
  /** The original's working precision; `precision` of each call decides here. */
  readonly use_fp16?: boolean
}

const RAW_KNOWN = [
  'image_size', 'in_channels', 'model_channels', 'out_channels', 'num_res_blocks', 'attention_resolutions', 'dropout',
  'channel_mult', 'conv_resample', 'use_checkpoint', 'num_heads', 'num_head_channels', 'use_scale_shift_norm',
  'resblock_updown', 'use_new_attention_order', 'pool', 'norm_groups', 'dims', 'num_heads_upsample', 'use_fp16',
] as const // biome-ignore format: one list

function configFromRaw(call: string, raw: RawClassifierOptions): ClassifierConfig {
  checkKnownOptions(call, raw, RAW_KNOWN)
  if (raw.dims !== undefined && raw.dims !== 2) throw argumentError(call, 'dims', '2', raw.dims)
  const channelMult = raw.channel_mult ?? [1, 2, 4, 8]
  // The original passes over attention factors that no level has.
  const factors = channelMult.map((_, level) => 2 ** level)
  return {
    classCount: raw.out_channels,
    imageSize: raw.image_size,
    imageChannels: raw.in_channels ?? 3,
    modelChannels: raw.model_channels,
    channelMult,
    resBlockCount: raw.num_res_blocks,
    attentionResolutions: (raw.attention_resolutions ?? []).filter((factor) => factors.includes(factor)),
    headChannels: raw.num_head_channels ?? -1,
    attentionHeads: raw.num_heads ?? 1,
    pool: raw.pool ?? 'adaptive',
    dropout: raw.dropout ?? 0,
    convResample: raw.conv_resample ?? true,
    recompute: raw.use_checkpoint ?? false,
    scaleShiftNorm: raw.use_scale_shift_norm ?? false,
    resBlockUpDown: raw.resblock_updown ?? false,
    newAttentionOrder: raw.use_new_attention_order ?? false,
    normGroups: raw.norm_groups ?? 32,
  }
}

/** What a classifier sees. */
export interface ClassifierInput {
  /** [N, C, H, W], float32 in about [-1, 1] (or uint8). */
  readonly x: HostData
  /** [N] timesteps of the process that noised x, possibly fractional; 0 for clean images. */
  readonly t: HostData
}

/**
 * A classifier of noised images: guided-diffusion's EncoderUNetModel, with its parameter names and values, so that its
 * weights load by name (Dhariwal & Nichol 2021, section 4).
 *
 * @example
 * const classifier = await Classifier.create({ classCount: 10, imageSize: 28, imageChannels: 1, modelChannels: 32, headChannels: 32 })
 */
export class Classifier extends NativeObject<'classifier'> {
  readonly config: ClassifierConfig
  readonly device: Device

  private constructor(handle: ClassifierHandle, config: ClassifierConfig, device: Device) {
    super(handle, 'Classifier')
    this.config = config
    this.device = device
  }

  /**
   * A new classifier with weights keyed by `seed`, initialised as PyTorch does.
   *
   * @throws RangeError, TypeError for an option out of range; NativeError for a device that cannot be used
   */
  static async create(
    options: ClassifierOptions,
    { seed = 0, device = 'cpu' }: { seed?: number; device?: Device } = {},
  ): Promise<Classifier> {
    return Classifier.#make('Classifier.create', classifierConfig(options), seed, device)
  }

  /** A classifier from guided-diffusion's constructor options, for its own checkpoints. */
  static async fromGuidedDiffusion(
    options: RawClassifierOptions,
    { seed = 0, device = 'cpu' }: { seed?: number; device?: Device } = {},
  ): Promise<Classifier> {
    const call = 'Classifier.fromGuidedDiffusion'
    return Classifier.#make(call, configFromRaw(call, options), seed, device)
  }

  static async #make(
    call: string,
    config: ClassifierConfig,
    seed: number,
    device: Device,
  ): Promise<Classifier> {
    const network = nativeConfig(call, config)
    checkInteger(call, 'seed', seed, 0)
    checkDeviceName(call, device)
    return new Classifier(await native().classifierCreate(network, seed, device), config, device)
  }

  /** Names and shapes in state-dict order. */
  parameters(): { readonly name: string; readonly shape: readonly number[] }[] {
    return native().classifierParameters(this.handle)
  }

  /** Number of weights. */
  get parameterCount(): number {
    return this.parameters().reduce((sum, { shape }) => sum + shape.reduce((a, b) => a * b, 1), 0)
  }

  /**
   * Checks channels and size of [N, C, H, W].
   *
   * @param call - what messages of errors begin with
   */
  checkImageShape(call: string, shape: readonly number[]): void {
    const { imageChannels, imageSize, pool, channelMult } = this.config
    const [, channels, ...size] = shape
    if (channels !== imageChannels) throw argumentError(call, 'images', `${imageChannels} channels`, channels)
    if (size.length !== 2) throw argumentError(call, 'images', '2 spatial dimensions', shape)
    if (pool === 'attention' && size.some((length) => length !== imageSize)) {
      const what = `${imageSize} x ${imageSize}, the size of the attention pool`
      throw argumentError(call, 'height and width', what, size)
    }
    const divisor = 2 ** (channelMult.length - 1)
    if (size.some((length) => length % divisor !== 0)) {
      const what = `divisible by ${divisor}, the classifier's down-sampling`
      throw argumentError(call, 'height and width', what, size)
    }
  }

  /**
   * Checks [N] classes.
   *
   * @param call - what messages of errors begin with
   */
  checkClasses(call: string, y: Int32Array | undefined, count: number): asserts y is Int32Array {
    const { classCount } = this.config
    if (!(y instanceof Int32Array) || y.length !== count) {
      throw argumentError(call, 'y', `an Int32Array of ${count} classes`, y, { kind: 'type' })
    }
    const bad = y.findIndex((label) => label < 0 || label >= classCount)
    if (bad !== -1) throw argumentError(call, `y[${bad}]`, `a class in [0, ${classCount - 1}]`, y[bad])
  }

  /** Logits [N, classCount], in evaluation mode and without gradient. */
  async forward(input: ClassifierInput, precision: Precision = 'fp32'): Promise<HostTensor> {
    this.#checkInput('classifier.forward', input)
    return native().classifierForward(this.handle, input, precision)
  }

  /** Logits, gradient of mean(logits * probe) at x, and that gradient's norm at every parameter. */
  async forwardGrad(
    input: ClassifierInput,
    probe: HostData,
    precision: Precision = 'fp32',
  ): Promise<{ out: HostTensor; gradX: HostTensor; gradNorms: Float64Array }> {
    const call = 'classifier.forwardGrad'
    this.#checkInput(call, input)
    const shape = [input.x.shape[0], this.config.classCount]
    if (probe.shape.join() !== shape.join())
      throw argumentError(call, 'probe', `[${shape.join(', ')}]`, probe.shape)
    return native().classifierForwardGrad(this.handle, input, precision, probe)
  }

  /**
   * Gradient of scale * log p(y | xt) at xt (math.md, eq. 31), in one native call.
   *
   * @param xt - [N, C, H, W] at step k of `process`; the classifier is told the timestep of the trained process
   * @param y - [N] classes
   * @returns [N, C, H, W]
   */
  async guidance(
    xt: DeviceTensor,
    process: NoiseSchedule,
    k: number,
    y: Int32Array,
    options: {
      readonly scale?: number
      readonly rescalesTimesteps?: boolean
      readonly precision?: Precision
    } = {},
  ): Promise<DeviceTensor> {
    const call = 'classifier.guidance'
    const { scale = 1, rescalesTimesteps = false, precision = 'fp32' } = options
    this.checkImageShape(call, xt.shape)
    checkInteger(call, 'k', k, 0, process.timestepCount - 1)
    this.checkClasses(call, y, xt.shape[0] as number)
    checkNumber(call, 'scale', scale)
    const labels = { data: y, shape: [y.length] }
    return new DeviceTensor(
      await native().classifierGradient(
        this.handle,
        process.handle,
        xt.handle,
        k,
        labels,
        scale,
        rescalesTimesteps,
        precision,
      ),
    )
  }

  /**
   * Loads weights by name from a .safetensors or .pt file; strict, and every mismatch is reported at once. Of a .pt that
   * holds several dicts `part` names the one that is read.
   */
  async loadWeights(path: string, { part = '' }: { readonly part?: string } = {}): Promise<void> {
    checkText('classifier.loadWeights', 'path', path)
    await native().classifierLoad(this.handle, path, { part, partial: false, rows: {} })
  }

  /** Writes the weights as safetensors, whole or not at all. */
  async saveWeights(path: string): Promise<void> {
    checkSafetensorsName('classifier.saveWeights', 'path', path)
    await native().classifierSave(this.handle, path)
  }

  #checkInput(call: string, { x, t }: ClassifierInput): void {
    this.checkImageShape(call, x.shape)
    const count = x.shape[0] as number
    if (t.shape.length !== 1 || t.shape[0] !== count)
      throw argumentError(call, 't', `${count} timesteps`, t.shape)
  }
}
