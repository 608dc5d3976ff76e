// The network's layers with their sizes, for counting what they cost. Mirrors native/unet/unet.cpp.
import { elementCount } from '../tensor.ts'
import type { UNetConfig } from './unet.ts'

/** A residual block: norm, SiLU, resize, 3x3 convolution; timestep; norm, SiLU, 3x3 convolution; shortcut. */
export interface ResidualLayer {
  readonly kind: 'residual'
  /** Channels that come in, those of the skip connection included. */
  readonly in: number
  readonly out: number
  /** Channels of `in` that a skip connection of the decoder brings. */
  readonly skip: number
  /** Positions (height x width) of an image before and after the block. */
  readonly from: number
  readonly to: number
}

/** Self-attention over all positions. */
export interface AttentionLayer {
  readonly kind: 'attention'
  readonly channels: number
  readonly heads: number
  readonly positions: number
}

/** A change of resolution that is not a residual block; `kernel` 0 is one without convolution. */
export interface ResampleLayer {
  readonly kind: 'resample'
  readonly channels: number
  readonly kernel: number
  readonly from: number
  readonly to: number
}

/** The first convolution, or norm, SiLU and the last one. */
export interface ConvolutionLayer {
  readonly kind: 'stem' | 'output'
  readonly in: number
  readonly out: number
  readonly positions: number
}

/** One layer of a network; `feedsDecoder` where a skip connection takes its output to the decoder. */
export type NetworkLayer = (ResidualLayer | AttentionLayer | ResampleLayer | ConvolutionLayer) & {
  readonly feedsDecoder?: true
}

/**
 * The layers that a batch passes through, in order, with sizes for images of `size` (height and width, or as many lengths
 * as the network has dimensions).
 */
export function networkLayers(config: UNetConfig, size: readonly number[]): NetworkLayer[] {
  const layers: NetworkLayer[] = []
  const widths = config.channelMult.map((multiple) => Math.trunc(multiple * config.modelChannels))
  const positionsAt = (level: number): number =>
    elementCount(size.map((length, i) => (config.dims === 3 && i === 0 ? length : length / 2 ** level)))
  const resample = (channels: number, from: number, to: number): NetworkLayer =>
    config.resBlockUpDown
      ? { kind: 'residual', in: channels, out: channels, skip: 0, from, to }
      : { kind: 'resample', channels, kernel: config.convResample ? 3 : 0, from, to }
  const attention = (channels: number, count: number, positions: number): AttentionLayer => {
    const heads = config.headChannels === -1 ? count : channels / config.headChannels
    return { kind: 'attention', channels, heads, positions }
  }

  let channels = widths[0] as number
  const skips: number[] = []
  const feedDecoder = (): void => {
    layers.push({ ...(layers.pop() as NetworkLayer), feedsDecoder: true })
    skips.push(channels)
  }
  const seen = config.imageChannels * (config.lowRes ? 2 : 1)
  layers.push({ kind: 'stem', in: seen, out: channels, positions: positionsAt(0) })
  feedDecoder()
  const last = widths.length - 1
  for (const [level, width] of widths.entries()) {
    const positions = positionsAt(level)
    for (let i = 0; i < config.resBlockCount; i++) {
      layers.push({ kind: 'residual', in: channels, out: width, skip: 0, from: positions, to: positions })
      channels = width
      if (config.attentionResolutions.includes(2 ** level))
        layers.push(attention(channels, config.attentionHeads, positions))
      feedDecoder()
    }
    if (level < last) {
      layers.push(resample(channels, positions, positionsAt(level + 1)))
      feedDecoder()
    }
  }

  const inner = positionsAt(last)
  layers.push({ kind: 'residual', in: channels, out: channels, skip: 0, from: inner, to: inner })
  layers.push(attention(channels, config.attentionHeads, inner))
  layers.push({ kind: 'residual', in: channels, out: channels, skip: 0, from: inner, to: inner })

  const headsUp = config.attentionHeadsUp === -1 ? config.attentionHeads : config.attentionHeadsUp
  for (let level = last; level >= 0; level--) {
    const width = widths[level] as number
    const positions = positionsAt(level)
    for (let i = 0; i <= config.resBlockCount; i++) {
      const skip = skips.pop() as number
      layers.push({ kind: 'residual', in: channels + skip, out: width, skip, from: positions, to: positions })
      channels = width
      if (config.attentionResolutions.includes(2 ** level))
        layers.push(attention(channels, headsUp, positions))
      if (level > 0 && i === config.resBlockCount)
        layers.push(resample(channels, positions, positionsAt(level - 1)))
    }
  }
  const images = config.heads.length + (config.learnsVariance ? 1 : 0)
  const outputs = config.imageChannels * images + (config.gate ? config.heads.length : 0)
  layers.push({ kind: 'output', in: channels, out: outputs, positions: positionsAt(0) })
  return layers
}

/** Weights of one layer. */
export function layerParameterCount(config: UNetConfig, layer: NetworkLayer): number {
  const conv = (input: number, output: number, kernel: number): number =>
    output * (input * kernel ** config.dims + 1)
  switch (layer.kind) {
    case 'stem':
      return conv(layer.in, layer.out, 3)
    case 'output':
      return 2 * layer.in + conv(layer.in, layer.out, 3)
    case 'resample':
      return layer.kernel ? conv(layer.channels, layer.channels, layer.kernel) : 0
    case 'attention':
      return 2 * layer.channels + 4 * layer.channels * (layer.channels + 1)
    case 'residual': {
      const timestep = (4 * config.modelChannels + 1) * layer.out * (config.scaleShiftNorm ? 2 : 1)
      const shortcut = layer.in === layer.out ? 0 : conv(layer.in, layer.out, 1)
      const convolutions = conv(layer.in, layer.out, 3) + conv(layer.out, layer.out, 3)
      return 2 * layer.in + 2 * layer.out + convolutions + timestep + shortcut
    }
  }
}

/** Weights of the network. */
export function parameterCount(config: UNetConfig): number {
  const { modelChannels, dims } = config
  const classCount = config.classCount + (config.nullClass ? 1 : 0)
  const width = 4 * modelChannels
  const size = Array.from({ length: dims }, () => 2 ** config.channelMult.length)
  const embedding = (modelChannels + 1) * width + (width + 1) * width + classCount * width
  return networkLayers(config, size).reduce(
    (sum, layer) => sum + layerParameterCount(config, layer),
    embedding + config.targetAngles,
  )
}

/**
 * Floating-point operations of one forward pass over one image: two for each multiply-add of convolutions, linear layers
 * and attention. Nothing else is counted. A training step is three times as much for each image.
 */
export function forwardFlops(config: UNetConfig, size: readonly number[]): number {
  const { modelChannels, dims, scaleShiftNorm } = config
  const width = 4 * modelChannels
  const conv = (input: number, output: number, kernel: number, positions: number): number =>
    2 * positions * output * input * kernel ** dims
  const embedding = 2 * (modelChannels * width + width * width)
  const cost = (layer: NetworkLayer): number => {
    switch (layer.kind) {
      case 'stem':
      case 'output':
        return conv(layer.in, layer.out, 3, layer.positions)
      case 'resample':
        return layer.kernel ? conv(layer.channels, layer.channels, layer.kernel, layer.to) : 0
      case 'attention': {
        const { channels, positions } = layer
        return 2 * positions * channels * 4 * channels + 4 * positions * positions * channels
      }
      case 'residual': {
        const timestep = 2 * width * layer.out * (scaleShiftNorm ? 2 : 1)
        const shortcut = layer.in === layer.out ? 0 : 2 * layer.to * layer.in * layer.out
        const first = conv(layer.in, layer.out, 3, layer.to)
        return first + conv(layer.out, layer.out, 3, layer.to) + timestep + shortcut
      }
    }
  }
  return networkLayers(config, size).reduce((sum, layer) => sum + cost(layer), embedding)
}
