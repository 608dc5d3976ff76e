import { native } from '../native.ts'
import { elementCount } from '../tensor.ts'

/** A tensor of a file, before it is read. */
export interface TensorInfo {
  readonly name: string
  /** float64, float32, float16, bfloat16, int64, int32, uint8 or bool. */
  readonly dtype: string
  readonly shape: readonly number[]
}

/** What a file of tensors holds, its data apart. */
export interface WeightsContents {
  /** `torch-zip` is PyTorch 1.6 and newer, `torch-legacy` what came before. */
  readonly format: 'safetensors' | 'torch-zip' | 'torch-legacy'
  /** In the order of the file. */
  readonly tensors: readonly TensorInfo[]
  /** Numbers of all tensors together. */
  readonly parameterCount: number
  /** Bytes of all tensors together. */
  readonly bytes: number
  /** The dict that is read, where the file holds several. */
  readonly part?: string
  /** Other keys that hold tensors; give one as `part` to read it instead. */
  readonly otherParts: readonly string[]
  /** Numbers and strings beside the tensors. */
  readonly metadata: Readonly<Record<string, string>>
}

const BYTES: Record<string, number> = {
  float64: 8, float32: 4, float16: 2, bfloat16: 2, int64: 8, int32: 4, uint8: 1, bool: 1,
} // biome-ignore format: one table

/**
 * Looks into a .safetensors or .pt file without reading its data, and without running anything that is in it.
 *
 * Of a .pt that holds several dicts `part` names the one that is meant; without it `ema`, `model`, `state_dict` or
 * `model_state_dict`, the first that is there, else everything under dotted names.
 *
 * @throws CheckpointError for a file that is not what it should be, with the reason
 *
 * @example
 * const { tensors, parameterCount } = await inspectWeights('64x64_diffusion.pt')
 */
export async function inspectWeights(
  path: string,
  { part = '' }: { readonly part?: string } = {},
): Promise<WeightsContents> {
  const { format, tensors, metadata } = await native().fileInspect(path, part)
  const { root, unread, ...rest } = metadata
  const isTorch = format !== 'safetensors'
  const counts = tensors.map(({ shape }) => elementCount(shape))
  return {
    format,
    tensors,
    parameterCount: counts.reduce((a, b) => a + b, 0),
    bytes: counts.reduce((sum, count, i) => sum + count * (BYTES[tensors[i]?.dtype as string] as number), 0),
    ...(isTorch && root !== undefined && { part: root }),
    otherParts: (isTorch && unread?.split(', ')) || [],
    metadata: isTorch ? rest : metadata,
  }
}
