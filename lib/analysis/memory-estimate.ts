import { checkInteger, checkOneOf } from '../check.ts'
import { layerParameterCount, type NetworkLayer, networkLayers, parameterCount } from '../model/layers.ts'
import { type UNetOptions, unetConfig } from '../model/unet.ts'
import type { Precision } from '../native.ts'

/** What a training step is estimated for. */
export interface MemoryQuestion {
  /** Height and width of the images. */
  readonly size: readonly [height: number, width: number]
  /** Images a forward pass: the batch size, or the micro-batch where there is one. */
  readonly batch: number
  /** `fp32` by default. */
  readonly precision?: Precision
  /** Moving averages of the weights; 1 by default. */
  readonly averageCount?: number
}

/** Bytes of tensors at the moment of a training step that needs most. */
export interface MemoryEstimate {
  /** Weights, Adam's two means and the moving averages: held all the time. */
  readonly stateBytes: number
  /** Gradients of the weights at that moment. */
  readonly gradientBytes: number
  /** What the forward pass keeps for the backward pass. */
  readonly activationBytes: number
  /** Gradients of activations, and what the layer at work needs for itself. */
  readonly workingBytes: number
  /** The sum. */
  readonly totalBytes: number
}

/** Values that a layer keeps for its backward pass beside its input, for one image; mirrors native/unet/fast_blocks.cpp. */
function keptValues(layer: NetworkLayer): number {
  switch (layer.kind) {
    case 'residual': // h between the convolutions
      return layer.out * layer.to
    case 'attention': // q, k and v; the mixed values
      return 4 * layer.channels * layer.positions
    case 'resample': // the enlarged image, where a convolution follows
      return convolves(layer) && enlarges(layer) ? layer.channels * layer.to : 0
    case 'stem':
    case 'output':
      return 0
  }
}

type Resampler = Extract<NetworkLayer, { kind: 'resample' }>
const convolves = (layer: Resampler): boolean => layer.kernel > 0
const enlarges = (layer: Resampler): boolean => layer.to > layer.from

/** Values of activations and their gradients that the backward pass of a layer needs for itself, for one image. */
function workingValues(layer: NetworkLayer, recompute: boolean): number {
  switch (layer.kind) {
    case 'residual': {
      // Gradients of y and h; then the gradient of x, which takes the place of its activation's where x is one part.
      const y = layer.out * layer.to
      const x = layer.in * Math.max(layer.from, layer.to)
      const again = recompute ? y : 0
      return again + 2 * y + (layer.skip > 0 ? 2 : 1) * x
    }
    case 'attention': // gradients of y, of the mixed values, twice of q, k, v; the normalised image
      return (recompute ? 12 : 8) * layer.channels * layer.positions
    case 'resample':
      // Where a convolution halves the image: gradients of x and y, and the 3x3 windows of all its outputs.
      return convolves(layer) && !enlarges(layer)
        ? layer.channels * (layer.from + 10 * layer.to)
        : 2 * layer.channels * Math.max(layer.from, layer.to)
    case 'stem':
      return 2 * layer.out * layer.positions
    case 'output':
      return (layer.in + layer.out) * layer.positions
  }
}

/**
 * Bytes that the weight gradient of a layer's convolution works in: its sums, and chunks of transformed tiles, which are
 * as in native/kernels/conv3x3.h. The memory is kept, so that the largest layer counts.
 */
function workspaceBytes(layer: NetworkLayer, batch: number): number {
  const [input, output, positions] = winogradShape(layer)
  const panels = PANEL * Math.ceil(output / PANEL)
  const sums = POINTS * input * panels * 4
  const tiles = batch * Math.ceil(Math.sqrt(positions) / TILE) ** 2
  return sums + Math.min(Math.max(CHUNK_BYTES, 2 * sums), tiles * POINTS * (input + panels) * 4)
}

/** Channels and pixels of the layer's largest convolution in Winograd's form; zeros where it has none. */
function winogradShape(layer: NetworkLayer): readonly [input: number, output: number, positions: number] {
  switch (layer.kind) {
    case 'residual':
      return [Math.max(layer.in, layer.out), layer.out, layer.to]
    case 'resample':
      return convolves(layer) && enlarges(layer) ? [layer.channels, layer.channels, layer.to] : [0, 0, 0]
    case 'attention':
      return [0, 0, 0]
    case 'stem':
    case 'output':
      return [layer.in, layer.out, layer.positions]
  }
}

/** Winograd's F(4x4, 3x3): 36 points a tile of 4x4 outputs; columns come in panels, tiles in chunks. */
const POINTS = 36
const TILE = 4
const PANEL = 32
const CHUNK_BYTES = 2 * 2 ** 20

/** Values of a layer's output, and weights of a layer. */
function outputValues(layer: NetworkLayer): number {
  switch (layer.kind) {
    case 'residual':
      return layer.out * layer.to
    case 'attention':
      return layer.channels * layer.positions
    case 'resample':
      return layer.channels * layer.to
    default:
      return layer.out * layer.positions
  }
}

/**
 * Estimates the peak of a training step before anything is allocated: `memoryCount().peakBytes` of tensors, to which the
 * process itself and its libraries come (about 0.3 GB). It walks the network backwards as the step does: activations go,
 * gradients come, and gradients of the decoder's skip connections wait for the encoder. For two-dimensional networks in
 * fp32 and bf16 on the CPU; bench/memory-estimate.ts compares it with measurements.
 *
 * @throws RangeError, TypeError for an option that UNet.create would refuse
 */
export function estimateMemory(options: UNetOptions, question: MemoryQuestion): MemoryEstimate {
  const call = 'estimateMemory'
  const config = unetConfig(options)
  const { size, batch, precision = 'fp32', averageCount = 1 } = question
  for (const [i, length] of size.entries()) checkInteger(call, `size[${i}]`, length, 1)
  checkInteger(call, 'batch', batch, 1)
  checkInteger(call, 'averageCount', averageCount, 0)
  checkOneOf(call, 'precision', precision, ['fp32', 'bf16', 'fp16'])

  const bytes = precision === 'fp32' ? 4 : 2
  const layers = networkLayers(config, size)
  const weights = parameterCount(config)
  const stateBytes = 4 * weights * (3 + averageCount)
  const perImage = batch * bytes
  const pixels = (size[0] as number) * (size[1] as number) * config.imageChannels
  // Images, noise and noised images in float32, and the error of the output.
  const gate = config.gate ? config.heads.length / config.imageChannels : 0
  const outputs = config.heads.length + (config.learnsVariance ? 1 : 0) + gate
  const imageBytes = batch * 4 * pixels * (3 + outputs)

  // Going forwards: what lies there when each layer is done.
  const kept = layers.map((layer) => perImage * (config.recompute ? 0 : keptValues(layer)))
  const outputBytes = layers.map((layer) => perImage * outputValues(layer))

  const workspace = Math.max(...layers.map((layer) => workspaceBytes(layer, batch)))
  let best: MemoryEstimate | undefined
  let activationBytes = imageBytes
  for (const [i] of layers.entries()) activationBytes += (kept[i] as number) + (outputBytes[i] as number)
  let gradientBytes = 0
  const waiting: number[] = [] // gradients of skip connections, the first of the encoder last
  let waitingBytes = 0
  for (let i = layers.length - 1; i >= 0; i--) {
    const layer = layers[i] as NetworkLayer
    // Its output was kept by the layers after it, which are done.
    activationBytes -= outputBytes[i] as number
    gradientBytes += 4 * layerParameterCount(config, layer)
    if (layer.kind === 'residual' && layer.skip > 0) {
      waiting.push(perImage * layer.skip * layer.from)
      waitingBytes += waiting.at(-1) as number
    }
    // The network ends in float32: a copy of the last activation, and wider values at work, where others are narrower.
    const copy =
      layer.kind === 'output' && bytes < 4
        ? batch * layer.positions * (4 * layer.in + (4 - bytes) * (layer.in + layer.out))
        : 0
    const workingBytes = waitingBytes + perImage * workingValues(layer, config.recompute) + workspace + copy
    const totalBytes = stateBytes + gradientBytes + activationBytes + workingBytes
    if (!best || totalBytes > best.totalBytes)
      best = { stateBytes, gradientBytes, activationBytes, workingBytes, totalBytes }
    activationBytes -= kept[i] as number
    if (layer.feedsDecoder) waitingBytes -= waiting.pop() ?? 0
  }
  return best as MemoryEstimate
}
