import type { UNetOptions } from '../model/unet.ts'

/** What the names and shapes of a file's tensors tell of its network. */
export interface InferredNetwork {
  /** `encoder` is guided-diffusion's classifier; `other` no network of this kind. */
  readonly kind: 'unet' | 'encoder' | 'other'
  /** Options that the shapes tell; of `heads`, `learnsVariance` only what follows for sure. */
  readonly options: Partial<UNetOptions>
  /** Rows of the last convolution of a UNet, classes of an encoder. */
  readonly outChannels: number
  /** Channels that the first convolution sees; twice those of the images in super-resolution. */
  readonly inChannels: number
  /** How an encoder comes to its logits. */
  readonly pool?: 'adaptive' | 'attention' | 'spatial' | 'spatial_v2'
}

type Named = readonly { readonly name: string; readonly shape: readonly number[] }[]

/**
 * Reads a network's options off its tensors. Not in any shape, and so never in the result: the number of attention heads, the
 * channel order of attention, what the heads predict, dropout, the noise schedule.
 *
 * @param tensors - names and shapes, in any order
 */
export function inferNetwork(tensors: Named): InferredNetwork {
  const shapes = new Map(tensors.map(({ name, shape }) => [name, shape]))
  const stem = shapes.get('input_blocks.0.0.weight')
  const embedding = shapes.get('time_embed.0.weight')
  const modelChannels = embedding?.[1]
  const isUNet = [...shapes.keys()].some((name) => name.startsWith('output_blocks.'))
  const isEncoder = !isUNet && shapes.has('middle_block.0.in_layers.2.weight')
  if (!stem || stem.length < 3 || !modelChannels || !(isUNet || isEncoder)) {
    return { kind: 'other', options: {}, outChannels: 0, inChannels: 0 }
  }
  const blocks = inputBlocks(shapes)
  const perLevel = isUNet ? blocksPerLevel(shapes, blocks.length) : undefined
  const outLayers = shapes.get('middle_block.0.out_layers.0.weight')?.[0]
  const scaleShiftNorm = shapes.get('middle_block.0.emb_layers.1.weight')?.[0] === 2 * (outLayers ?? 0)
  const shared = {
    modelChannels,
    dims: stem.length - 2,
    scaleShiftNorm,
    ...(perLevel !== undefined && levels(blocks, perLevel, modelChannels)),
  }
  const inChannels = stem[1] as number
  if (!isUNet) {
    const [pool, outChannels] = poolOf(shapes)
    return { kind: 'encoder', options: shared, inChannels, outChannels, ...(pool && { pool }) }
  }
  const outChannels = shapes.get('out.2.weight')?.[0] ?? 0
  const classCount = shapes.get('label_emb.weight')?.[0] ?? 0
  return {
    kind: 'unet',
    options: { ...shared, classCount, ...normGroups(shapes), ...outputs(inChannels, outChannels) },
    inChannels,
    outChannels,
  }
}

interface InputBlock {
  readonly kind: 'res' | 'conv' | 'none'
  readonly width: number
  readonly hasAttention: boolean
}

/** The input blocks in order; an average pool has no tensors, so it is where nothing is. */
function inputBlocks(shapes: ReadonlyMap<string, readonly number[]>): InputBlock[] {
  const indices = [...shapes.keys()].map((name) => Number(/^input_blocks\.(\d{1,3})\./.exec(name)?.[1] ?? -1))
  return Array.from({ length: indices.reduce((most, index) => Math.max(most, index), -1) + 1 }, (_, n) => {
    const width = shapes.get(`input_blocks.${n}.0.out_layers.3.weight`)?.[0]
    const conv = shapes.get(`input_blocks.${n}.0.op.weight`)?.[0]
    return {
      kind: width !== undefined ? 'res' : conv !== undefined ? 'conv' : 'none',
      width: width ?? conv ?? 0,
      hasAttention: shapes.has(`input_blocks.${n}.1.qkv.weight`),
    }
  })
}

/**
 * Residual blocks a level, by the first place that resizes: the output block of the lowest level that holds one module
 * more, or the first input block without tensors. With one level nothing resizes.
 */
function blocksPerLevel(shapes: ReadonlyMap<string, readonly number[]>, blockCount: number): number {
  const resizes = [...shapes.keys()].flatMap((name) => {
    const match = /^output_blocks\.(\d{1,3})\.[12]\.(conv\.weight|in_layers\.0\.weight)$/.exec(name)
    return match ? [Number(match[1])] : []
  })
  if (resizes.length > 0) return Math.min(...resizes)
  for (let n = 1; n < blockCount; n++) {
    if (!shapes.has(`input_blocks.${n}.0.in_layers.0.weight`)) return n - 1
  }
  return blockCount - 1
}

function levels(
  blocks: readonly InputBlock[],
  resBlockCount: number,
  modelChannels: number,
): Partial<UNetOptions> {
  const stride = resBlockCount + 1
  const count = Math.ceil(blocks.length / stride)
  const first = Array.from({ length: count }, (_, level) => blocks[level * stride + 1])
  const resize = blocks[stride]?.kind
  const attention = first.flatMap((block, level) => (block?.hasAttention ? [2 ** level] : []))
  return {
    resBlockCount,
    channelMult: first.map((block) => multiple(block?.width ?? 0, modelChannels)),
    attentionResolutions: attention,
    ...(resize !== undefined && {
      resBlockUpDown: resize === 'res',
      // Without convolutions residual blocks can still resize; then there is nothing that they would change.
      ...(resize !== 'res' && { convResample: resize === 'conv' }),
    }),
  }
}

/** The multiple whose truncated product is the width. */
function multiple(width: number, modelChannels: number): number {
  const ratio = width / modelChannels
  return Math.trunc(ratio * modelChannels) === width ? ratio : (width + 0.5) / modelChannels
}

/** guided-diffusion always has 32 groups; where 32 does not divide every width, the network is another's. */
function normGroups(shapes: ReadonlyMap<string, readonly number[]>): Partial<UNetOptions> {
  const norms = [...shapes].filter(([name]) =>
    /(in_layers|out_layers|out)\.0\.weight$|\.norm\.weight$/.test(name),
  )
  return norms.every(([, [width]]) => (width as number) % 32 === 0) ? { normGroups: 32 } : {}
}

/** What the channels of the first and last convolution leave no doubt about. */
function outputs(inChannels: number, outChannels: number): Partial<UNetOptions> {
  // 6 and 8 channels can only be an RGB or RGBA image with its condition; 2 and 4 can be either.
  const sure = inChannels > 4 ? { lowRes: true } : inChannels % 2 === 1 ? { lowRes: false } : {}
  if (sure.lowRes === undefined) return {}
  const imageChannels = sure.lowRes ? inChannels / 2 : inChannels
  const parts = outChannels / imageChannels
  return {
    ...sure,
    imageChannels,
    ...(parts === 1 && { learnsVariance: false }),
    ...(parts === 4 && { learnsVariance: true, heads: ['xStart', 'v', 'eps'] }),
  }
}

function poolOf(
  shapes: ReadonlyMap<string, readonly number[]>,
): [pool: InferredNetwork['pool'] | undefined, classes: number] {
  const rows = (name: string): number => shapes.get(name)?.[0] ?? 0
  if (shapes.has('out.2.positional_embedding')) return ['attention', rows('out.2.c_proj.weight')]
  if (shapes.get('out.3.weight')?.length === 2) return ['spatial_v2', rows('out.3.weight')]
  if (shapes.has('out.3.weight')) return ['adaptive', rows('out.3.weight')]
  if (shapes.has('out.2.weight')) return ['spatial', rows('out.2.weight')]
  return [undefined, 0]
}
