import { argumentError, checkNumber } from '../check.ts'
import type { HeadDecision } from '../mixing/policy.ts'
import type { UNet } from '../model/unet.ts'
import type { HostData, NativeBatch } from '../native.ts'
import { checkImages, type ImageBatch } from '../tensor.ts'
import type { LossOptions, Trainer, TrainStepInput } from './trainer.ts'

/** Shares and weights are float32, perhaps after arithmetic of their own. */
const SUM_TOLERANCE = 1e-3

/** @internal Equal shares of the heads where a strategy would decide them (`choose: 'given'`), for steps that no strategy follows. */
export function equalShares({ unet, config }: Trainer, count: number): Pick<TrainStepInput, 'share'> {
  const { length } = unet.layout.heads
  return config.loss.choose === 'given' ? { share: new Float32Array(count * length).fill(1 / length) } : {}
}

/** The native form of one value for each head of each example. */
function rows(
  call: string,
  name: string,
  values: unknown,
  shape: readonly [count: number, heads: number],
  rule: {
    readonly what: string
    readonly min: number
    readonly max: number
    readonly sums?: readonly number[]
  },
): HostData {
  const [count, heads] = shape
  if (!(values instanceof Float32Array) || values.length !== count * heads) {
    const what = `a Float32Array of ${count} x ${heads} ${rule.what}, one a head of each example`
    throw argumentError(call, name, what, values, { kind: 'type' })
  }
  for (const [i, value] of values.entries()) {
    if (Number.isFinite(value) && value >= rule.min && value <= rule.max) continue
    const range = rule.max === 1 ? 'in [0, 1]' : rule.min === 0 ? 'finite and >= 0' : 'finite'
    throw argumentError(call, `${name}[${i}]`, range, value)
  }
  for (let i = 0; rule.sums && i < count; i++) {
    const sum = values.subarray(i * heads, (i + 1) * heads).reduce((total, value) => total + value, 0)
    if (rule.sums.some((wanted) => Math.abs(sum - wanted) <= SUM_TOLERANCE)) continue
    throw argumentError(
      call,
      `the sum of ${name} of example ${i}`,
      rule.sums.join(' or '),
      Number(sum.toPrecision(6)),
    )
  }
  return { data: values, shape }
}

/** @internal Checks what a step says about the heads; the native form of it. */
export function headInputs(
  call: string,
  decision: HeadDecision,
  loss: Required<LossOptions>,
  shape: readonly [count: number, heads: number],
): Pick<NativeBatch, 'share' | 'headWeight' | 'temperature' | 'floor' | 'mixture'> {
  const { share, headWeight, temperature, floor, mixture } = decision
  const refuse = (name: string, value: unknown, reason: string, hint?: string) => {
    if (value !== undefined)
      throw argumentError(call, name, `absent with loss.${reason}`, value, hint ? { hint } : {})
  }
  if (loss.choose !== 'given') refuse('share', share, `choose ${loss.choose}`, 'it belongs to given')
  if (loss.choose !== 'softmin')
    refuse('temperature', temperature, `choose ${loss.choose}`, 'it belongs to softmin')
  if (loss.choose !== 'relaxed') refuse('floor', floor, `choose ${loss.choose}`, 'it belongs to relaxed')
  if (loss.space === 'own')
    refuse('mixture.factor', mixture?.factor, 'space own', 'a mixture has no unit of its own')
  if (loss.kind === 'kl' || loss.kind === 'rescaledKl')
    refuse('headWeight', headWeight, `kind ${loss.kind}`, 'the bound is no error of a head')

  if (temperature !== undefined) checkNumber(call, 'temperature', temperature, 1e-6)
  if (floor !== undefined) checkNumber(call, 'floor', floor, 0, 1)
  if (mixture !== undefined) checkNumber(call, 'mixture.factor', mixture?.factor, 0)
  const any = Number.POSITIVE_INFINITY
  return {
    temperature,
    floor,
    ...(loss.choose === 'given' && {
      share: rows(call, 'share', share, shape, { what: 'shares', min: 0, max: 1, sums: [1, 0] }),
    }),
    ...(headWeight !== undefined && {
      headWeight: rows(call, 'headWeight', headWeight, shape, { what: 'factors', min: 0, max: any }),
    }),
    ...(mixture !== undefined && {
      mixture: {
        weight: rows(call, 'mixture.weight', mixture.weight, shape, {
          what: 'weights',
          min: -any,
          max: any,
          sums: [1],
        }),
        factor: mixture.factor,
      },
    }),
  }
}

/** @internal Checks the images of the stable target field; the native form of them. */
export function referenceImages(
  call: string,
  reference: ImageBatch | undefined,
  images: ImageBatch,
  unet: UNet,
  loss: Required<LossOptions>,
): Pick<NativeBatch, 'reference'> {
  if (reference === undefined) return {}
  if (loss.kind === 'kl' || loss.kind === 'rescaledKl') {
    throw argumentError(call, 'reference', `absent with loss.kind ${loss.kind}`, reference.shape, {
      hint: 'the bound has no target but the image',
    })
  }
  if (images.labels || images.lowRes || unet.config?.classCount || unet.config?.lowRes) {
    throw argumentError(call, 'reference', 'absent for a conditional network', reference.shape, {
      hint: 'its images would need the condition of every example',
    })
  }
  checkImages(call, 'reference', reference)
  if (reference.shape.slice(1).join() !== images.shape.slice(1).join()) {
    const what = `[R, ${images.shape.slice(1).join(', ')}], like the images`
    throw argumentError(call, 'reference.shape', what, reference.shape)
  }
  return { reference: { data: reference.data, shape: reference.shape } }
}
