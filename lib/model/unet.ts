import {
  argumentError,
  checkFinite,
  checkInteger,
  checkKnownOptions,
  checkNumber,
  checkOneOf,
  checkText,
} from '../check.ts'
import { checkSafetensorsName } from '../checkpoint-file.ts'
import { checkDeviceName, type Device, PRECISIONS } from '../device.ts'
import {
  type HostData,
  type NativeLayout,
  type NativeUNetConfig,
  native,
  type Precision,
  type UNetHandle,
} from '../native.ts'
import { NativeObject } from '../native-object.ts'
import { ALL_HEADS, HEADS, type Head } from '../prediction/heads.ts'
import type { HostTensor } from '../tensor.ts'

/** Options of the network. Names follow guided-diffusion's, in camelCase; every one has a default but `modelChannels`. */
export interface UNetOptions {
  /** Channels of the images, 1 to 4; 3 by default. */
  readonly imageChannels?: number
  /** What the network predicts: any of xStart, v, eps, in that order, or xPrev or F alone; the first three by default. */
  readonly heads?: readonly Head[]
  /** Adds image channels for a learned variance; false by default. */
  readonly learnsVariance?: boolean
  /**
   * Adds one channel for each head: a gate that learns how much each head counts in each pixel of the prediction of xStart
   * (math.md, eq. 65; Benny & Wolf 2022). Its error of v is added to the loss and does not reach the heads; samplers use it
   * with `combine: 'gate'`. False by default.
   */
  readonly gate?: boolean
  /**
   * Learns what to predict at each noise level (math.md, eq. 66): so many angles, even in t and linear in between, by which the
   * target is turned away from v, towards eps or xStart; for networks whose one head is v, as which the output is read. The
   * angles are the parameter `target_angle`. 0, no angles, by default, else at least 2.
   */
  readonly targetAngles?: number
  /** Timesteps that the angles span, counted as the network is told them; 1000 by default. */
  readonly angleSpan?: number
  /** Base width; a multiple of `normGroups`. */
  readonly modelChannels: number
  /** Width of each level as a multiple of `modelChannels`; `[1, 2, 2]` by default. The image is halved between levels. */
  readonly channelMult?: readonly number[]
  /** Residual blocks a level; 2 by default. */
  readonly resBlockCount?: number
  /** Down-sampling factors (1, 2, 4, …) at which there is attention; none by default. The middle always has it. */
  readonly attentionResolutions?: readonly number[]
  /** Attention heads, unless `headChannels` says how wide a head is; 4 by default. */
  readonly attentionHeads?: number
  /** Attention heads on the way up; -1, as on the way down, by default. */
  readonly attentionHeadsUp?: number
  /** Channels of an attention head, which a number of heads gives way to; -1, by number of heads, by default. */
  readonly headChannels?: number
  /** In [0, 1); 0 by default. */
  readonly dropout?: number
  /** Convolutions resize, not means and repetition alone; true by default. */
  readonly convResample?: boolean
  /** 1, 2 or 3 spatial dimensions; 2 by default. */
  readonly dims?: number
  /** Classes of a class-conditional network; 0 (unconditional) by default. */
  readonly classCount?: number
  /**
   * One class more, number `classCount`, that says nothing: what classifier-free guidance trains with (`labelDropout`) and
   * compares with. The table of class embeddings then has `classCount + 1` rows. False by default.
   */
  readonly nullClass?: boolean
  /** Keep no activations inside blocks and run them again in the backward pass: less memory, about a third more time. */
  readonly recompute?: boolean
  /** Timestep scales and shifts the normalised activations instead of being added; true by default. */
  readonly scaleShiftNorm?: boolean
  /** Residual blocks resize instead of plain convolutions; false by default. */
  readonly resBlockUpDown?: boolean
  /** Channel order of attention: false is guided-diffusion's legacy order, the default. */
  readonly newAttentionOrder?: boolean
  /** Groups of the normalisation; 32 by default. */
  readonly normGroups?: number
  /** Super-resolution: a low-resolution image is given as a condition; false by default. */
  readonly lowRes?: boolean
}

/** `UNetOptions` with every default filled in. */
export type UNetConfig = Required<Omit<UNetOptions, 'attentionHeadsUp' | 'headChannels'>> & {
  readonly attentionHeadsUp: number
  readonly headChannels: number
}

const KNOWN = [
  'imageChannels', 'heads', 'learnsVariance', 'gate', 'targetAngles', 'angleSpan', 'modelChannels', 'channelMult', 'resBlockCount',
  'attentionResolutions', 'attentionHeads', 'attentionHeadsUp', 'headChannels', 'dropout', 'convResample', 'dims',
  'classCount', 'nullClass', 'recompute', 'scaleShiftNorm', 'resBlockUpDown', 'newAttentionOrder', 'normGroups', 'lowRes',
] as const // biome-ignore format: one list

/** Fills in defaults and checks every option. Throws a RangeError or TypeError that names the option. */
export function unetConfig(options: UNetOptions, call = 'UNet.create'): UNetConfig {
  checkKnownOptions(call, options, KNOWN)
  const config: UNetConfig = {
    imageChannels: options.imageChannels ?? 3,
    heads: ALL_HEADS.filter((head) => (options.heads ?? HEADS).includes(head)),
    learnsVariance: options.learnsVariance ?? false,
    gate: options.gate ?? false,
    targetAngles: options.targetAngles ?? 0,
    angleSpan: options.angleSpan ?? 1000,
    modelChannels: options.modelChannels,
    channelMult: options.channelMult ?? [1, 2, 2],
    resBlockCount: options.resBlockCount ?? 2,
    attentionResolutions: options.attentionResolutions ?? [],
    attentionHeads: options.attentionHeads ?? 4,
    attentionHeadsUp: options.attentionHeadsUp ?? -1,
    headChannels: options.headChannels ?? -1,
    dropout: options.dropout ?? 0,
    convResample: options.convResample ?? true,
    dims: options.dims ?? 2,
    classCount: options.classCount ?? 0,
    nullClass: options.nullClass ?? false,
    recompute: options.recompute ?? false,
    scaleShiftNorm: options.scaleShiftNorm ?? true,
    resBlockUpDown: options.resBlockUpDown ?? false,
    newAttentionOrder: options.newAttentionOrder ?? false,
    normGroups: options.normGroups ?? 32,
    lowRes: options.lowRes ?? false,
  }
  const unknownHead = (options.heads ?? []).find((head) => !ALL_HEADS.includes(head))
  if (
    unknownHead !== undefined ||
    config.heads.length === 0 ||
    (config.heads.length > 1 && config.heads.some((head) => !HEADS.some((word) => word === head))) ||
    config.heads.length !== (options.heads ?? HEADS).length
  ) {
    throw argumentError(
      call,
      'heads',
      `some of ${HEADS.join(', ')}, each once, or xPrev or F alone`,
      options.heads,
    )
  }
  if (config.gate && config.heads.length === 1) {
    throw argumentError(call, 'gate', 'false for a network of one head', config.gate)
  }
  checkInteger(call, 'targetAngles', config.targetAngles, 0, 10_000)
  checkInteger(call, 'angleSpan', config.angleSpan, 2)
  if (config.targetAngles === 1 || (config.targetAngles > 0 && config.heads.join() !== 'v')) {
    const what = config.targetAngles === 1 ? '0 or at least 2' : '0 unless the one head is v'
    throw argumentError(call, 'targetAngles', what, config.targetAngles)
  }
  checkInteger(call, 'imageChannels', config.imageChannels, 1, 4)
  checkArchitecture(call, config)
  if (config.nullClass && config.classCount === 0) {
    throw argumentError(call, 'nullClass', 'false for a network without classes', config.nullClass)
  }
  return config
}

/** @internal The checks that hold for any network of this kind, whatever its output means. */
export function checkArchitecture(
  call: string,
  config: Omit<
    UNetConfig,
    'imageChannels' | 'heads' | 'learnsVariance' | 'gate' | 'targetAngles' | 'angleSpan' | 'nullClass'
  >,
): void {
  checkInteger(call, 'normGroups', config.normGroups, 1)
  checkInteger(call, 'modelChannels', config.modelChannels, 1, 2 ** 16)
  checkInteger(call, 'resBlockCount', config.resBlockCount, 1, 64)
  checkInteger(call, 'dims', config.dims, 1, 3)
  checkInteger(call, 'classCount', config.classCount, 0)
  checkNumber(call, 'dropout', config.dropout, 0, 0.99)
  if (!Array.isArray(config.channelMult) || config.channelMult.length === 0) {
    throw argumentError(call, 'channelMult', 'a list of multiples, one a level', config.channelMult)
  }
  const factors = config.channelMult.map((_, level) => 2 ** level)
  for (const factor of config.attentionResolutions) {
    if (!factors.includes(factor)) {
      throw argumentError(
        call,
        'attentionResolutions',
        `among the down-sampling factors ${factors.join(', ')}`,
        factor,
      )
    }
  }
  for (const multiple of config.channelMult) {
    checkNumber(call, 'channelMult', multiple, 0)
    const width = Math.trunc(multiple * config.modelChannels)
    if (width === 0 || width % config.normGroups !== 0) {
      const groups = config.normGroups
      throw argumentError(
        call,
        `modelChannels x ${multiple} (${width})`,
        `divisible by the ${groups} norm groups`,
        width,
        { hint: `use a width of ${groups}, ${2 * groups}, ${3 * groups}, … or other normGroups` },
      )
    }
  }
  for (const [level, multiple] of config.channelMult.entries()) {
    const width = Math.trunc(multiple * config.modelChannels)
    const isMiddle = level === config.channelMult.length - 1
    if (!isMiddle && !config.attentionResolutions.includes(2 ** level)) continue
    const check = (name: 'attentionHeads' | 'attentionHeadsUp' | 'headChannels') => {
      checkInteger(call, name, config[name], 1)
      if (width % config[name] !== 0)
        throw argumentError(call, name, `a divisor of the width ${width} at level ${level}`, config[name])
    }
    check(config.headChannels === -1 ? 'attentionHeads' : 'headChannels')
    const isOnWayUp = config.attentionResolutions.includes(2 ** level)
    if (isOnWayUp && config.headChannels === -1 && config.attentionHeadsUp !== -1) check('attentionHeadsUp')
  }
  if (config.lowRes && config.dims !== 2)
    throw argumentError(call, 'dims', '2 for super-resolution', config.dims)
}

/** The options as guided-diffusion names them (snake_case), with any number of output channels. */
export interface RawUNetOptions {
  readonly in_channels?: number
  readonly model_channels: number
  readonly out_channels: number
  readonly num_res_blocks: number
  readonly attention_resolutions: readonly number[]
  readonly dropout?: number
  readonly channel_mult?: readonly number[]
  readonly conv_resample?: boolean
  readonly dims?: number
  readonly num_classes?: number | null
  readonly use_checkpoint?: boolean
  readonly num_heads?: number
  readonly num_head_channels?: number
  readonly num_heads_upsample?: number
  readonly use_scale_shift_norm?: boolean
  readonly resblock_updown?: boolean
  readonly use_new_attention_order?: boolean
  readonly norm_groups?: number
  readonly superres?: boolean
  /** Stored by the original and without effect on the network. */
  readonly image_size?: number
  /** The original's working precision; `precision` of each call decides here. */
  readonly use_fp16?: boolean
}

const RAW_KNOWN = [
  'in_channels', 'model_channels', 'out_channels', 'num_res_blocks', 'attention_resolutions', 'dropout',
  'channel_mult', 'conv_resample', 'dims', 'num_classes', 'use_checkpoint', 'num_heads', 'num_head_channels',
  'num_heads_upsample', 'use_scale_shift_norm', 'resblock_updown', 'use_new_attention_order', 'norm_groups',
  'superres', 'image_size', 'use_fp16',
] as const // biome-ignore format: one list

function nativeFromRaw(raw: RawUNetOptions, call = 'UNet.fromGuidedDiffusion'): NativeUNetConfig {
  checkKnownOptions(call, raw, RAW_KNOWN)
  const config: NativeUNetConfig = {
    inChannels: raw.in_channels ?? 3,
    modelChannels: raw.model_channels,
    outChannels: raw.out_channels,
    resBlockCount: raw.num_res_blocks,
    attentionResolutions: raw.attention_resolutions ?? [],
    dropout: raw.dropout ?? 0,
    channelMult: raw.channel_mult ?? [1, 2, 4, 8],
    convResample: raw.conv_resample ?? true,
    dims: raw.dims ?? 2,
    classCount: raw.num_classes ?? 0,
    recompute: raw.use_checkpoint ?? false,
    attentionHeads: raw.num_heads ?? 1,
    headChannels: raw.num_head_channels ?? -1,
    attentionHeadsUp: raw.num_heads_upsample ?? -1,
    scaleShiftNorm: raw.use_scale_shift_norm ?? false,
    resBlockUpDown: raw.resblock_updown ?? false,
    newAttentionOrder: raw.use_new_attention_order ?? false,
    normGroups: raw.norm_groups ?? 32,
    lowRes: raw.superres ?? false,
  }
  checkInteger(call, 'in_channels', config.inChannels, 1)
  checkInteger(call, 'out_channels', config.outChannels, 1)
  // The original passes over attention factors that no level has.
  const factors = config.channelMult.map((_, level) => 2 ** level)
  const attentionResolutions = config.attentionResolutions.filter((factor) => factors.includes(factor))
  checkArchitecture(call, { ...config, attentionResolutions })
  return { ...config, attentionResolutions }
}

/**
 * guided-diffusion's constructor options as `UNet.create` takes them, so that the network can be trained, measured and
 * sampled.
 *
 * @param heads - what the network predicts: `['eps']`, or `['xStart']` where predict_xstart was set
 * @throws RangeError when the output channels are not those of these heads, with or without a learned variance
 */
export function optionsFromGuidedDiffusion(raw: RawUNetOptions, heads: readonly Head[]): UNetOptions {
  const call = 'optionsFromGuidedDiffusion'
  const network = networkFromRaw(raw, call)
  const channels = network.imageChannels
  const variances = raw.out_channels / channels - heads.length
  if (variances !== 0 && variances !== 1) {
    const [fewer, more] = [channels * heads.length, channels * (heads.length + 1)]
    throw argumentError(
      call,
      'out_channels',
      `${fewer}, or ${more} with a learned variance`,
      raw.out_channels,
    )
  }
  return { ...network, heads, learnsVariance: variances === 1, gate: false, targetAngles: 0, angleSpan: 1000 }
}

/** @internal The same without what the output means. */
export function networkFromRaw(
  raw: RawUNetOptions,
  call: string,
): Omit<UNetConfig, 'heads' | 'learnsVariance' | 'gate' | 'targetAngles' | 'angleSpan'> {
  const { inChannels, outChannels: _, ...rest } = nativeFromRaw(raw, call)
  return { ...rest, imageChannels: inChannels, nullClass: false }
}

function nativeFromConfig(config: UNetConfig): NativeUNetConfig {
  const { imageChannels, heads, learnsVariance, gate, nullClass, ...rest } = config
  const outChannels = imageChannels * (heads.length + (learnsVariance ? 1 : 0)) + (gate ? heads.length : 0)
  const classCount = config.classCount + (nullClass ? 1 : 0)
  return {
    ...{ ...rest, classCount, inChannels: imageChannels, outChannels },
    ...(gate && { gateChannels: heads.length }),
  }
}

/** What the network sees: images, timesteps, and conditions where it has them. */
export interface UNetInput {
  /** [N, C, H, W], float32 in about [-1, 1] (or uint8). */
  readonly x: HostData
  /** [N] timesteps, possibly fractional. */
  readonly t: HostData
  /** [N] classes (int32 or int64); the null class of a network that has one is `classCount`. */
  readonly y?: HostData | undefined
  /** [N, C, h, w]. */
  readonly lowRes?: HostData | undefined
}

/** How weights are taken from a file. */
export interface LoadWeightsOptions {
  /** Which dict of a .pt file that holds several; without it `ema`, `model`, `state_dict`, `model_state_dict`, in that order. */
  readonly part?: string
  /** Take what fits by name and shape, and leave the rest as it is; false by default. */
  readonly partial?: boolean
  /** With `partial`: what the file's network predicts, so that its last convolution is taken over head by head. */
  readonly from?: {
    readonly heads: readonly Head[]
    readonly learnsVariance: boolean
    readonly imageChannels: number
  }
}

/** What became of each tensor of the network and of the file. */
export interface LoadWeightsReport {
  /** Names that were taken from the file. */
  readonly loaded: readonly string[]
  /** Of the network, left as they were: not in the file, or `name: file [3], model [4]`. */
  readonly fresh: readonly string[]
  /** In the file only. */
  readonly ignored: readonly string[]
  /** With `from`: heads (and `variance`) of the last convolution that the file had, and those that it had not. */
  readonly outputs?: { readonly taken: readonly string[]; readonly fresh: readonly string[] }
  /** The dict that was read, of a file that holds several. */
  readonly part?: string
  /** Other keys of the file that hold tensors. */
  readonly otherParts: readonly string[]
}

/** For each output channel of a network, the channel of another network that means the same, or -1. */
function outputRows(call: string, from: NonNullable<LoadWeightsOptions['from']>, to: NativeLayout) {
  const parts = ({ heads, learnsVariance }: Pick<NativeLayout, 'heads' | 'learnsVariance'>): string[] => [
    ...ALL_HEADS.filter((head) => heads.includes(head)),
    ...(learnsVariance ? ['variance'] : []),
  ]
  if (!from.heads.length || from.heads.some((head) => !ALL_HEADS.includes(head))) {
    throw argumentError(call, 'from.heads', `some of ${ALL_HEADS.join(', ')}`, from.heads)
  }
  const [theirs, ours] = [parts(from), parts(to)]
  const isSame = from.imageChannels === to.imageChannels
  const rows = ours.flatMap((part) => {
    const at = isSame ? theirs.indexOf(part) : -1
    return Array.from({ length: to.imageChannels }, (_, c) => (at === -1 ? -1 : at * to.imageChannels + c))
  })
  const isTaken = (part: string): boolean => isSame && theirs.includes(part)
  return {
    rows: Int32Array.from([...rows, ...(to.gate ? to.heads.map(() => -1) : [])]),
    taken: ours.filter(isTaken),
    fresh: [...ours.filter((part) => !isTaken(part)), ...(to.gate ? ['gate'] : [])],
  }
}

/**
 * The UNet of guided-diffusion, with one to three prediction heads. Parameter names and values are the original's, so
 * that its weights load by name.
 *
 * @example
 * const unet = await UNet.create({ imageChannels: 1, modelChannels: 32 }, { seed: 1 })
 */
export class UNet extends NativeObject<'unet'> {
  /** The options with all defaults; undefined for a network made from guided-diffusion's own option names. */
  readonly config: UNetConfig | undefined
  readonly #native: NativeUNetConfig
  readonly device: Device
  /** Whether its weights are the moving average of a trainer, which goes on changing them. */
  readonly isAverage: boolean

  /** @internal */
  constructor(
    handle: UNetHandle,
    nativeConfig: NativeUNetConfig,
    config: UNetConfig | undefined,
    device: Device,
    isAverage = false,
  ) {
    super(handle, 'UNet')
    this.isAverage = isAverage
    this.#native = nativeConfig
    this.config = config
    this.device = device
  }

  /**
   * A new network with weights keyed by `seed` (initialised as PyTorch does; last convolutions zero).
   *
   * @throws RangeError, TypeError for an option out of range; NativeError for a device that cannot be used
   */
  static async create(
    options: UNetOptions,
    { seed = 0, device = 'cpu' }: { seed?: number; device?: Device } = {},
  ): Promise<UNet> {
    const config = unetConfig(options)
    checkInteger('UNet.create', 'seed', seed, 0)
    checkDeviceName('UNet.create', device)
    const nativeConfig = nativeFromConfig(config)
    return new UNet(await native().unetCreate(nativeConfig, seed, device), nativeConfig, config, device)
  }

  /**
   * A network from guided-diffusion's constructor options, for its own checkpoints.
   *
   * @throws RangeError, TypeError for an option out of range or unknown; NativeError for a device that cannot be used
   */
  static async fromGuidedDiffusion(
    options: RawUNetOptions,
    { seed = 0, device = 'cpu' }: { seed?: number; device?: Device } = {},
  ): Promise<UNet> {
    const nativeConfig = nativeFromRaw(options)
    checkInteger('UNet.fromGuidedDiffusion', 'seed', seed, 0)
    checkDeviceName('UNet.fromGuidedDiffusion', device)
    return new UNet(await native().unetCreate(nativeConfig, seed, device), nativeConfig, undefined, device)
  }

  /** @internal The same network over an average of its weights. */
  over(handle: UNetHandle): UNet {
    return new UNet(handle, this.#native, this.config, this.device, true)
  }

  /** @internal The options in native form. */
  get nativeConfig(): NativeUNetConfig {
    return this.#native
  }

  /** Names and shapes in state-dict order. */
  parameters(): { readonly name: string; readonly shape: readonly number[] }[] {
    return native().unetParameters(this.handle)
  }

  /** Number of weights. */
  get parameterCount(): number {
    return this.parameters().reduce((sum, { shape }) => sum + shape.reduce((a, b) => a * b, 1), 0)
  }

  /** @internal How the output's channels are divided. */
  get layout(): NativeLayout {
    if (!this.config) {
      throw argumentError('UNet.layout', 'a network', 'made by UNet.create, whose heads are known', this)
    }
    const { heads, imageChannels, learnsVariance, gate } = this.config
    return { heads, imageChannels, learnsVariance, ...(gate && { gate }) }
  }

  /**
   * Checks that height and width survive the down-sampling.
   *
   * @param call - what messages of errors begin with
   */
  checkImageShape(call: string, shape: readonly number[]): void {
    const [, channels, ...size] = shape
    if (channels !== this.#native.inChannels) {
      throw argumentError(call, 'images', `${this.#native.inChannels} channels`, channels)
    }
    if (size.length !== this.#native.dims) {
      throw argumentError(call, 'images', `${this.#native.dims} spatial dimensions`, shape)
    }
    const divisor = 2 ** (this.#native.channelMult.length - 1)
    const resized = this.#native.dims === 3 ? size.slice(1) : size
    if (resized.some((length) => length % divisor !== 0)) {
      throw argumentError(
        call,
        'height and width',
        `divisible by ${divisor}, the network's down-sampling`,
        size,
      )
    }
  }

  /** @internal Checks everything that a forward pass needs. */
  checkInput(call: string, { x, t, y, lowRes }: UNetInput): void {
    this.checkImageShape(call, x.shape)
    const count = x.shape[0] ?? 0
    checkInteger(call, 'x.shape[0]', count, 1)
    if (t.shape.length !== 1 || t.shape[0] !== count)
      throw argumentError(call, 't', `${count} timesteps`, t.shape)
    const classes = this.#native.classCount
    if (classes > 0 !== (y !== undefined)) {
      throw argumentError(
        call,
        'y',
        classes > 0
          ? `${count} classes for a class-conditional network`
          : 'absent for an unconditional network',
        y?.shape,
      )
    }
    if (y) {
      const bad = Array.from(y.data as ArrayLike<number | bigint>, Number).findIndex(
        (c) => !(c >= 0 && c < classes),
      )
      if (y.shape.length !== 1 || y.data.length !== count)
        throw argumentError(call, 'y', `${count} classes, of shape [${count}]`, y.shape)
      if (bad !== -1) throw argumentError(call, `y[${bad}]`, `a class in [0, ${classes - 1}]`, y.data[bad])
    }
    if (this.#native.lowRes !== (lowRes !== undefined)) {
      throw argumentError(
        call,
        'lowRes',
        this.#native.lowRes ? 'a low-resolution image an example' : 'absent, the network takes none',
        lowRes?.shape,
      )
    }
    if (
      lowRes &&
      (lowRes.shape[0] !== count || lowRes.shape[1] !== x.shape[1] || lowRes.shape.length !== 4)
    ) {
      throw argumentError(call, 'lowRes', `[${count}, ${x.shape[1]}, h, w]`, lowRes.shape)
    }
  }

  /** What trainers and instruments have looked at before they come here. */
  #checkRaw(call: string, input: UNetInput, precision: Precision): void {
    this.checkInput(call, input)
    const { x, t } = input
    if (x.data instanceof Float32Array || x.data instanceof Float64Array) checkFinite(call, 'x.data', x.data)
    const wild = Array.from(t.data as ArrayLike<number | bigint>, Number).findIndex(
      (at) => !(at >= 0 && Number.isFinite(at)),
    )
    if (wild !== -1) throw argumentError(call, `t[${wild}]`, 'a timestep >= 0', t.data[wild])
    checkOneOf(call, 'precision', precision, PRECISIONS)
  }

  /** The raw output for given inputs, [N, out channels, H, W], in evaluation mode and without gradient. */
  async forward(input: UNetInput, precision: Precision = 'fp32'): Promise<HostTensor> {
    this.#checkRaw('unet.forward', input, precision)
    return native().unetForward(this.handle, input, precision)
  }

  /** Output, gradient of mean(out * probe) at x, and that gradient's norm at every parameter. */
  async forwardGrad(
    input: UNetInput,
    probe: HostData,
    precision: Precision = 'fp32',
  ): Promise<{ out: HostTensor; gradX: HostTensor; gradNorms: Float64Array }> {
    this.#checkRaw('unet.forwardGrad', input, precision)
    const shape = [input.x.shape[0], this.#native.outChannels, ...input.x.shape.slice(2)]
    if (probe.shape.join() !== shape.join())
      throw argumentError('unet.forwardGrad', 'probe', `[${shape.join(', ')}]`, probe.shape)
    return native().unetForwardGrad(this.handle, input, precision, probe)
  }

  /**
   * Loads weights by name from a .safetensors or .pt file, one tensor at a time. Names, shapes and checksums are compared
   * before the first is taken; every mismatch is reported at once.
   *
   * @throws CheckpointError for a file that cannot be read, that does not fit (unless `partial`), or of which nothing fits
   *
   * @example
   * const report = await unet.loadWeights('64x64_diffusion.pt', { partial: true, from: { heads: ['eps'], learnsVariance: true, imageChannels: 3 } })
   * console.log(report.fresh, report.ignored, report.outputs)
   */
  async loadWeights(path: string, options: LoadWeightsOptions = {}): Promise<LoadWeightsReport> {
    checkText('unet.loadWeights', 'path', path)
    const call = 'unet.loadWeights'
    checkKnownOptions(call, options, ['part', 'partial', 'from'])
    const { part = '', partial = false, from } = options
    if (from && !partial) {
      throw argumentError(call, 'from', 'absent unless partial is true', from)
    }
    const outputs = from && outputRows(call, from, this.layout)
    const rows: Record<string, Int32Array> = outputs
      ? { 'out.2.weight': outputs.rows, 'out.2.bias': outputs.rows }
      : {}
    const { loaded, missing, unexpected, misshapen, metadata } = await native().unetLoad(this.handle, path, {
      part,
      partial,
      rows,
    })
    const isTorch = !path.endsWith('.safetensors')
    const none = outputs?.taken.length === 0 ? Object.keys(rows) : [] // of these no row was taken
    return {
      loaded: loaded.filter((name) => !none.includes(name)),
      fresh: [...missing, ...misshapen, ...loaded.filter((name) => none.includes(name))],
      ignored: unexpected,
      ...(outputs && { outputs: { taken: outputs.taken, fresh: outputs.fresh } }),
      ...(isTorch && metadata.root !== undefined && { part: metadata.root }),
      otherParts: (isTorch && metadata.unread?.split(', ')) || [],
    }
  }

  /**
   * Writes the weights as safetensors, whole or not at all; `convertWeights` makes a .pt of the file.
   *
   * @throws RangeError for a name that does not end in .safetensors, under which they could not be read again
   */
  async saveWeights(path: string): Promise<void> {
    checkSafetensorsName('unet.saveWeights', 'path', path)
    await native().unetSave(this.handle, path)
  }
}
