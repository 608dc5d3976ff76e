// The addon: loaded and declared here, and nowhere else. Arguments have been checked by the caller.
import { createRequire } from 'node:module'
import { CheckpointError, NativeError, SetupError } from './errors.ts'
import type { Head } from './prediction/heads.ts'
import { locateAddon } from './setup/locate.ts'
import type { HostTensor } from './tensor.ts'

declare const kind: unique symbol
/** An opaque native object; disposed of by `handleDispose`, or by the garbage collector. */
export interface Handle<K extends string> {
  readonly [kind]: K
}
export type TensorHandle = Handle<'tensor'>
export type ScheduleHandle = Handle<'schedule'>
export type UNetHandle = Handle<'unet'>
export type TrainerHandle = Handle<'trainer'>
export type FeatureNetworkHandle = Handle<'featureNetwork'>
export type ClassifierHandle = Handle<'classifier'>
export type ClassifierTrainerHandle = Handle<'classifierTrainer'>

/** Host data on its way to native code; copied before the call returns. */
export interface HostData {
  readonly data: Uint8Array | Int32Array | BigInt64Array | Float32Array | Float64Array
  readonly shape: readonly number[]
}

/** `fast`: trislot's own kernels wherever they apply; `plain`: LibTorch's everywhere. */
export type Kernels = 'fast' | 'plain'

/** Number format of convolutions and attention; weights, norms and losses stay float32. */
export type Precision = 'fp32' | 'bf16' | 'fp16'
/** Where the variance of an ancestral step comes from (improved DDPM, section 3.1). */
export type VarianceType = 'fixedSmall' | 'fixedLarge' | 'learned' | 'learnedRange'
/** Unit of a squared error: each head's own, or a common one (math.md, "Loss spaces"). */
export type Space = 'own' | 'xStart' | 'v' | 'eps' | 'F'
/** What is minimised: the heads' errors, rescaled where a variance is learned, or the variational bound (math.md, eq. 12). */
export type LossKind = 'mse' | 'rescaledMse' | 'kl' | 'rescaledKl'
/**
 * Which heads enter the loss: the smallest of each example, of the batch or of each pixel, all, one by name, the smallest with a
 * floor for the others, a softmin, or shares given at each step (math.md, eq. 15 and 60).
 */
export type Choose =
  | 'min' | 'minBatch' | 'minPixel' | 'mean' | 'relaxed' | 'softmin' | 'given' | Head // biome-ignore format: one list

/** How a classifier's feature maps become one vector. */
export type Pool = 'adaptive' | 'attention' | 'spatial' | 'spatial_v2'

export interface NativeUNetConfig {
  readonly inChannels: number
  readonly modelChannels: number
  readonly outChannels: number
  readonly resBlockCount: number
  readonly attentionResolutions: readonly number[]
  readonly dropout: number
  readonly channelMult: readonly number[]
  readonly convResample: boolean
  readonly dims: number
  readonly classCount: number
  readonly recompute: boolean
  readonly attentionHeads: number
  readonly headChannels: number
  readonly attentionHeadsUp: number
  readonly scaleShiftNorm: boolean
  readonly resBlockUpDown: boolean
  readonly newAttentionOrder: boolean
  readonly normGroups: number
  readonly lowRes: boolean
  readonly gateChannels?: number
  readonly targetAngles?: number
  readonly angleSpan?: number
}

/** `outChannels` is the number of classes; `classCount` is 0. */
export interface NativeClassifierConfig extends NativeUNetConfig {
  readonly pool: Pool
  readonly imageSize: number
}

export interface NativeClassifierTrainerConfig {
  readonly seed: number
  readonly noised: boolean
  readonly beta1: number
  readonly beta2: number
  readonly tiny: number
  readonly weightDecay: number
  readonly decayAll: boolean
  readonly clipNorm: number
  readonly microBatch: number
  readonly precision: Precision
  readonly nonFinite: 'stop' | 'skip'
}

export interface NativeClassifierBatch {
  readonly images: HostData
  readonly t: Int32Array
  readonly y: HostData
  readonly lr?: number
}

/** Cross-entropy of each example, and how many classes are thought more probable than the true one; both [N]. */
export interface NativeClassifierLosses {
  readonly exampleLoss: Float32Array
  readonly rank: Int32Array
}

export interface NativeLayout {
  readonly heads: readonly Head[]
  readonly imageChannels: number
  readonly learnsVariance: boolean
  readonly gate?: boolean
}

export interface NativeLossConfig {
  readonly compare: Space
  readonly space: Space
  readonly choose: Choose
  readonly sigmaData: number
  readonly directionWeight: number
}

/** What the loss of an output depends on. */
export interface NativeBatchLossConfig extends NativeLayout {
  readonly loss: NativeLossConfig & { readonly kind: LossKind }
  readonly variance: VarianceType
  readonly boundWeight: number
}

export interface NativeTrainerConfig extends NativeBatchLossConfig {
  readonly seed: number
  readonly rescalesTimesteps: boolean
  readonly beta1: number
  readonly beta2: number
  readonly tiny: number
  readonly weightDecay: number
  readonly decayAll: boolean
  readonly emaRates: readonly number[]
  readonly emaWarmsUp: boolean
  readonly clipNorm: number
  readonly microBatch: number
  readonly sumsMicroBatches: boolean
  readonly precision: Precision
  readonly lossScale: {
    readonly log2: number
    readonly growth: number
    readonly min: number
    readonly max: number
  }
  readonly nonFinite: 'stop' | 'skip'
}

export interface NativeBatch {
  readonly images: HostData
  readonly t: Int32Array
  readonly weight?: HostData | undefined
  readonly noise?: HostData | undefined
  readonly y?: HostData | undefined
  readonly lowRes?: HostData | undefined
  readonly share?: HostData | undefined
  readonly headWeight?: HostData | undefined
  readonly temperature?: number | undefined
  readonly floor?: number | undefined
  readonly mixture?: { readonly weight: HostData; readonly factor: number } | undefined
  readonly reference?: HostData | undefined
  readonly lr?: number
}

/** A batch with weights, the key of its noise, and the loss that it is seen with. */
export interface NativeGramBatch extends NativeBatch {
  readonly weight: HostData
  readonly key: NoiseKey
  readonly loss: NativeLossConfig
}

/** Losses of a batch. */
export interface NativeLosses {
  /** What each example contributes, before its timestep weight; [N]. */
  readonly loss: Float32Array
  /** Mean squared error of each head in its own unit; [N, heads], row-major. */
  readonly perHead: Float32Array
  /** Column of the head with the largest share in the loss, -1 where several have it; [N]. */
  readonly chosen: Int32Array
  /** Mean over pixels of two heads' errors of v, multiplied; [N, heads, heads]; of several heads only. */
  readonly errorProducts?: Float32Array
  /** Mean over pixels of each head's error of xStart; [N, heads]; of several heads only. */
  readonly meanError?: Float32Array
  /** The variational bound in bits per dimension, before its weight, where it takes part; [N]. */
  readonly bound?: Float32Array
}

/** Terms of the bits per dimension at one timestep, each [N]. */
export interface NativeBoundTerms {
  readonly bound: Float32Array
  readonly xStartMse: Float32Array
  readonly epsMse: Float32Array
}

export interface NativeStepResult {
  readonly loss: number
  readonly gradNorm: number
  readonly skipped: boolean
  readonly lossScale: number
  readonly bound?: Float32Array
  readonly exampleLoss: Float32Array
  readonly perHead: Float32Array
  readonly chosen: Int32Array
  readonly errorProducts?: Float32Array
  readonly meanError?: Float32Array
}

/** What a block of noise is drawn for; the same key gives the same numbers. */
export interface NoiseKey {
  readonly seed: number
  readonly purpose: 'noise' | 'startNoise' | 'stepNoise' | 'probe'
  readonly step: number
  readonly firstSample: number
}

export interface DenoiseOptions {
  /** One for each head; empty for the gate's. */
  readonly headWeights: readonly number[]
  readonly clip: boolean
  readonly rescalesTimesteps: boolean
  readonly precision: Precision
  readonly guidanceScale: number
  readonly nullClass: number
}

/** What a file holds, its data apart. */
export interface NativeFileContents {
  readonly format: 'safetensors' | 'torch-zip' | 'torch-legacy'
  readonly tensors: { readonly name: string; readonly dtype: string; readonly shape: readonly number[] }[]
  readonly metadata: Record<string, string>
}

export interface NativeLoadOptions {
  readonly part: string
  readonly partial: boolean
  /** By name of a tensor: the row of the file's that each row of the network's takes, -1 for none. */
  readonly rows: Record<string, Int32Array>
}

export interface NativeLoaded {
  readonly loaded: string[]
  readonly missing: string[]
  readonly unexpected: string[]
  readonly misshapen: string[]
  readonly metadata: Record<string, string>
}

/** Counts of what the native side holds. */
export interface MemoryCount {
  /** Bytes of tensors alive in host memory, in the whole process. */
  readonly liveBytes: number
  /** The most that were alive at once since the last reset. */
  readonly peakBytes: number
  readonly liveAllocations: number
  /** Handles of this environment that are not disposed of. */
  readonly handles: number
}

/** Every function of the addon; native/bindings/addon.cpp lists the same names. */
export interface Addon {
  version(): string
  shutdown(): void
  runtimeInfo(): Promise<Record<string, string>>
  selfTest(device: string): Promise<{ loss: number; gradNorm: number }>
  threadsSet(count: number): Promise<void>
  kernelsChoose(name: Kernels): Promise<void>
  memoryCount(): MemoryCount
  memoryResetPeak(): Promise<void>
  deviceCheck(name: string): Promise<void>
  handleDispose(handle: Handle<string>): void
  tensorFromHost(tensor: HostData, device: string): Promise<TensorHandle>
  tensorToHost(tensor: TensorHandle): Promise<HostTensor>
  tensorShape(tensor: TensorHandle): number[]
  tensorNoise(shape: readonly number[], key: NoiseKey, device: string): Promise<TensorHandle>
  tensorDropoutMask(shape: readonly number[], p: number, layer: number, key: NoiseKey): Promise<TensorHandle>
  fileRead(
    path: string,
    part: string,
  ): Promise<{ tensors: [string, HostTensor][]; metadata: Record<string, string> }>
  fileWrite(path: string, tensors: [string, HostData][], metadata: Record<string, string>): Promise<void>
  fileInspect(path: string, part: string): Promise<NativeFileContents>
  fileConvert(from: string, to: string, part: string): Promise<void>
  scheduleCreate(
    name: string,
    timestepCount: number,
    zeroTerminal: boolean,
    betas?: Float64Array,
    timestepMap?: Float64Array,
  ): ScheduleHandle
  scheduleRespace(schedule: ScheduleHandle, kept: Float64Array): ScheduleHandle
  scheduleTables(schedule: ScheduleHandle): Record<string, Float64Array>
  scheduleQSample(
    schedule: ScheduleHandle,
    xStart: TensorHandle,
    noise: TensorHandle,
    t: Int32Array,
  ): Promise<TensorHandle>
  scheduleLossFactors(
    schedule: ScheduleHandle,
    layout: NativeLayout,
    loss: NativeLossConfig,
  ): { compare: Float64Array; space: Float64Array }
  unetCreate(config: NativeUNetConfig, seed: number, device: string): Promise<UNetHandle>
  unetParameters(unet: UNetHandle): { name: string; shape: number[] }[]
  unetForward(
    unet: UNetHandle,
    input: { x: HostData; t: HostData; y?: HostData | undefined; lowRes?: HostData | undefined },
    precision: Precision,
  ): Promise<HostTensor>
  unetForwardGrad(
    unet: UNetHandle,
    input: { x: HostData; t: HostData; y?: HostData | undefined; lowRes?: HostData | undefined },
    precision: Precision,
    probe: HostData,
  ): Promise<{ out: HostTensor; gradX: HostTensor; gradNorms: Float64Array }>
  unetLoad(unet: UNetHandle, path: string, options: NativeLoadOptions): Promise<NativeLoaded>
  unetSave(unet: UNetHandle, path: string): Promise<void>
  classifierCreate(config: NativeClassifierConfig, seed: number, device: string): Promise<ClassifierHandle>
  classifierParameters(classifier: ClassifierHandle): { name: string; shape: number[] }[]
  classifierForward(
    classifier: ClassifierHandle,
    input: { x: HostData; t: HostData },
    precision: Precision,
  ): Promise<HostTensor>
  classifierForwardGrad(
    classifier: ClassifierHandle,
    input: { x: HostData; t: HostData },
    precision: Precision,
    probe: HostData,
  ): Promise<{ out: HostTensor; gradX: HostTensor; gradNorms: Float64Array }>
  classifierLoad(
    classifier: ClassifierHandle,
    path: string,
    options: NativeLoadOptions,
  ): Promise<NativeLoaded>
  classifierSave(classifier: ClassifierHandle, path: string): Promise<void>
  classifierGradient(
    classifier: ClassifierHandle,
    process: ScheduleHandle,
    xt: TensorHandle,
    k: number,
    y: HostData,
    scale: number,
    rescalesTimesteps: boolean,
    precision: Precision,
  ): Promise<TensorHandle>
  classifierTrainerCreate(
    classifier: ClassifierHandle,
    schedule: ScheduleHandle,
    config: NativeClassifierTrainerConfig,
  ): Promise<ClassifierTrainerHandle>
  classifierTrainerStep(
    trainer: ClassifierTrainerHandle,
    batch: NativeClassifierBatch,
  ): Promise<NativeClassifierLosses & { loss: number; gradNorm: number; skipped: boolean; lossScale: number }>
  classifierTrainerEvaluate(
    trainer: ClassifierTrainerHandle,
    batch: NativeClassifierBatch,
    key: NoiseKey,
  ): Promise<NativeClassifierLosses>
  classifierTrainerStepCount(trainer: ClassifierTrainerHandle): Promise<number>
  classifierTrainerSave(trainer: ClassifierTrainerHandle, folder: string): Promise<void>
  classifierTrainerLoad(trainer: ClassifierTrainerHandle, folder: string): Promise<void>
  trainerCreate(
    unet: UNetHandle,
    schedule: ScheduleHandle,
    config: NativeTrainerConfig,
  ): Promise<TrainerHandle>
  trainerStep(trainer: TrainerHandle, batch: NativeBatch): Promise<NativeStepResult>
  trainerStepCount(trainer: TrainerHandle): Promise<number>
  trainerSave(trainer: TrainerHandle, folder: string): Promise<void>
  trainerLoad(trainer: TrainerHandle, folder: string): Promise<void>
  trainerAveraged(trainer: TrainerHandle, index: number): Promise<UNetHandle>
  lossEvaluate(
    unet: UNetHandle,
    schedule: ScheduleHandle,
    config: NativeTrainerConfig,
    batch: NativeBatch,
    key: NoiseKey,
  ): Promise<NativeLosses>
  lossOfOutput(
    schedule: ScheduleHandle,
    config: NativeBatchLossConfig,
    output: TensorHandle,
    batch: NativeBatch & { readonly noise: HostData },
  ): Promise<NativeLosses & { readonly gradient: Float32Array | Float64Array }>
  lossShapes(
    unet: NativeUNetConfig,
    schedule: ScheduleHandle,
    config: NativeTrainerConfig,
    imageShape: readonly number[],
  ): Promise<{ loss: number[]; perHead: number[]; gradientCount: number }>
  lossGradientGram(
    unet: UNetHandle,
    schedule: ScheduleHandle,
    config: NativeTrainerConfig,
    batches: readonly NativeGramBatch[],
    parameters: readonly number[],
    held: number,
  ): Promise<{ products: Float64Array; loss: Float64Array }>
  denoiserPredict(
    unet: UNetHandle,
    process: ScheduleHandle,
    layout: NativeLayout,
    xt: TensorHandle,
    k: number,
    options: DenoiseOptions,
    y?: HostData,
    lowRes?: HostData,
  ): Promise<{ xStart: TensorHandle; variance?: TensorHandle; mean?: TensorHandle }>
  denoiserInterpret(
    process: ScheduleHandle,
    layout: NativeLayout,
    variance: VarianceType,
    output: TensorHandle,
    xt: TensorHandle,
    k: number | Int32Array,
    clip: boolean,
  ): Promise<{ xStart: TensorHandle; mean: TensorHandle; variance: TensorHandle; logVariance: TensorHandle }>
  reverseAncestral(
    process: ScheduleHandle,
    variance: VarianceType,
    xStart: TensorHandle,
    varianceValues: TensorHandle | undefined,
    xt: TensorHandle,
    noise: TensorHandle,
    k: number | Int32Array,
    mean?: TensorHandle,
    gradient?: TensorHandle,
  ): Promise<TensorHandle>
  reverseDdim(
    process: ScheduleHandle,
    xStart: TensorHandle,
    xt: TensorHandle,
    noise: TensorHandle | undefined,
    eta: number,
    k: number | Int32Array,
  ): Promise<TensorHandle>
  guidedXStart(
    process: ScheduleHandle,
    xStart: TensorHandle,
    gradient: TensorHandle,
    k: number | Int32Array,
    clip: boolean,
  ): Promise<TensorHandle>
  reverseEncode(
    process: ScheduleHandle,
    xStart: TensorHandle,
    xt: TensorHandle,
    k: number | Int32Array,
  ): Promise<TensorHandle>
  reverseBound(
    process: ScheduleHandle,
    xStart: TensorHandle,
    xt: TensorHandle,
    mean: TensorHandle,
    logVariance: TensorHandle,
    k: number | Int32Array,
  ): Promise<HostTensor>
  boundEvaluate(
    unet: UNetHandle,
    process: ScheduleHandle,
    layout: NativeLayout,
    variance: VarianceType,
    batch: NativeBatch,
    options: DenoiseOptions,
    key: NoiseKey,
  ): Promise<NativeBoundTerms>
  boundOfOutput(
    process: ScheduleHandle,
    layout: NativeLayout,
    variance: VarianceType,
    output: TensorHandle,
    xStart: TensorHandle,
    noise: TensorHandle,
    k: Int32Array,
    options: DenoiseOptions,
  ): Promise<NativeBoundTerms>
  boundPrior(process: ScheduleHandle, images: HostData): Promise<HostTensor>
  reverseEuler(
    process: ScheduleHandle,
    xStart: TensorHandle,
    xt: TensorHandle,
    k: number,
  ): Promise<TensorHandle>
  reverseHeun(
    process: ScheduleHandle,
    xStart: TensorHandle,
    xStartAhead: TensorHandle,
    xt: TensorHandle,
    k: number,
  ): Promise<TensorHandle>
  reverseDpmpp2m(
    process: ScheduleHandle,
    xStart: TensorHandle,
    xStartBefore: TensorHandle,
    xt: TensorHandle,
    k: number,
  ): Promise<TensorHandle>
  featureNetworkLoad(path: string, device: string): Promise<FeatureNetworkHandle>
  featureNetworkRun(
    network: FeatureNetworkHandle,
    images: HostData,
  ): Promise<{ pool: TensorHandle; spatial?: TensorHandle; probabilities?: TensorHandle }>
  tensorConcatenate(parts: readonly TensorHandle[]): Promise<TensorHandle>
  featureStatistics(features: TensorHandle): Promise<{ mean: HostTensor; covariance: HostTensor }>
  frechetDistance(
    a: { mean: HostData; covariance: HostData },
    b: { mean: HostData; covariance: HostData },
  ): Promise<number>
  inceptionScore(probabilities: TensorHandle, split: number): Promise<number>
  precisionRecall(
    reference: TensorHandle,
    samples: TensorHandle,
    neighbour: number,
  ): Promise<{ precision: number; recall: number }>
  kernelDistances(a: TensorHandle, b: TensorHandle, rowsA: HostData, rowsB: HostData): Promise<Float64Array>
  projectImages(images: HostData, directions: TensorHandle): Promise<TensorHandle>
  slicedWasserstein(a: TensorHandle, b: TensorHandle): Promise<number>
}

let loaded: Addon | undefined

/** The addon, loaded at its first use; throws a SetupError with the ways out when it is not built. */
export function native(): Addon {
  if (!loaded) {
    const addon = load(locateAddon().addonFile)
    // process.exit() runs no native cleanup: the step under way must end before LibTorch's own exit handlers run.
    process.once('exit', () => addon.shutdown())
    loaded = wrapped(addon)
  }
  return loaded
}

function load(file: string): Addon {
  try {
    return createRequire(process.execPath)(file) as Addon
  } catch (cause) {
    const [why] = (cause as Error).message.split('\n')
    throw new SetupError(`trislot: expected ${file} to load, got ${why}; run: npx trislot setup --force`, {
      cause,
    })
  }
}

interface NativeFailure {
  readonly message: string
  readonly code?: string
  readonly missing?: string[]
  readonly unexpected?: string[]
  readonly misshapen?: string[]
}

function isNativeFailure(error: unknown): error is NativeFailure {
  return (
    error instanceof Error && 'code' in error && 'misshapen' in error && !(error instanceof CheckpointError)
  )
}

function errorFrom(cause: NativeFailure): Error {
  const { message, code = 'ERR_NATIVE' } = cause
  if (code !== 'ERR_CHECKPOINT') return new NativeError(message, code, { cause })
  const file = /^\w+\("(.*?)"\): expected /s.exec(message)?.[1] ?? '' // a path may hold anything
  return new CheckpointError(message, file, cause, { cause })
}

/** Gives a native failure the JavaScript stack of its caller; costs nothing when the call succeeds. */
async function settle<T>(pending: Promise<T>): Promise<T> {
  try {
    return await pending
  } catch (cause) {
    throw isNativeFailure(cause) ? errorFrom(cause) : cause
  }
}

/** The same functions, whose failures are this library's errors. */
function wrapped(addon: Addon): Addon {
  const functions: Record<string, unknown> = {}
  for (const [name, call] of Object.entries(addon) as [string, (...args: unknown[]) => unknown][]) {
    functions[name] = (...args: unknown[]) => {
      let result: unknown
      try {
        result = call(...args)
      } catch (cause) {
        throw isNativeFailure(cause) ? errorFrom(cause) : cause
      }
      return result instanceof Promise ? settle(result) : result
    }
  }
  return functions as unknown as Addon
}
