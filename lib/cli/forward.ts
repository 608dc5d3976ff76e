import type { z } from 'zod'
import { argumentError } from '../check.ts'
import { checkSafetensorsName, readTensors, writeTensors } from '../checkpoint-file.ts'
import { PRECISIONS } from '../device.ts'
import { DataError } from '../errors.ts'
import { Classifier, type RawClassifierOptions } from '../model/classifier.ts'
import { type RawUNetOptions, UNet } from '../model/unet.ts'
import type { HostData, Pool } from '../native.ts'
import { device, flag, oneOf, text } from '../options.ts'
import { elementCount, type HostTensor } from '../tensor.ts'
import { readJson } from '../weights/config-file.ts'
import { isSameFile } from '../weights/same-file.ts'
import { helpText, parseOptions } from './options.ts'
import { applyRuntime, RUNTIME_SHAPE } from './runtime-options.ts'
import { asUsage, UsageError } from './usage.ts'

const about = <T extends z.ZodType>(description: string, schema: T): T => schema.meta({ description }) as T

const SHAPE = {
  config: about(
    'JSON with guided-diffusion’s constructor options; "superres": true for SuperResModel, "pool" for EncoderUNetModel',
    text(),
  ),
  weights: about('.safetensors or .pt file', text()),
  part: about('which dict of a .pt that holds several; ema, then model by default', text().optional()),
  inputs: about('safetensors with x, t, and y, low_res, probe where they apply', text()),
  out: about('safetensors file to write', text()),
  grad: about(
    'gradients of mean(out * probe) too: grad_x and grad_norms; probe is 1 by default',
    flag().default(false),
  ),
  precision: about('of convolutions and attention', oneOf(PRECISIONS).default('fp32')),
  device: about('cpu, cuda or cuda:N', device().default('cpu')),
  ...RUNTIME_SHAPE,
} satisfies Record<string, z.ZodType>

/** `trislot forward`: a network on tensors from a file. */
export async function forwardCommand(argv: readonly string[]): Promise<number> {
  const call = 'trislot forward'
  const { options, wantsHelp } = parseOptions(call, argv, SHAPE)
  if (wantsHelp) {
    const usage = `${call} --config net.json --weights w.safetensors --inputs in.safetensors --out out.safetensors`
    console.log(helpText('Runs a network on tensors.', usage, SHAPE))
    return 0
  }
  await asUsage(() => checkSafetensorsName(call, '--out', options.out))
  for (const option of ['inputs', 'weights', 'config'] as const) {
    if (!(await isSameFile(options[option], options.out))) continue
    throw new UsageError(argumentError(call, '--out', `another file than --${option}`, options.out).message)
  }
  await applyRuntime(options)
  const raw = await readNetwork(call, options.config)
  const { tensors } = await readTensors(options.inputs)
  const wanted = (name: string): HostTensor => {
    const found = tensors.get(name)
    if (found) return found
    throw new DataError(
      `${call}: expected ${options.inputs} to hold ${name}, got ${[...tensors.keys()].join(', ') || 'nothing'}`,
      options.inputs,
    )
  }
  const y = tensors.get('y')
  const lowRes = tensors.get('low_res')
  const input = {
    x: asFloat(wanted('x')),
    t: wanted('t') as HostData,
    ...(y && { y: y as HostData }),
    ...(lowRes && { lowRes: asFloat(lowRes) }),
  }
  const { device } = options
  const isClassifier = 'pool' in raw
  const network = isClassifier
    ? await Classifier.fromGuidedDiffusion(raw, { device })
    : await UNet.fromGuidedDiffusion(raw, { device })
  try {
    await network.loadWeights(options.weights, options.part === undefined ? {} : { part: options.part })
    if (!options.grad) {
      await writeTensors(options.out, { out: await network.forward(input, options.precision) })
      return 0
    }
    const pixels = isClassifier ? [] : input.x.shape.slice(2)
    const shape = [input.x.shape[0] as number, raw.out_channels, ...pixels]
    const given = tensors.get('probe')
    const probe = given ? asFloat(given) : { data: new Float32Array(elementCount(shape)).fill(1), shape }
    const { out, gradX, gradNorms } = await network.forwardGrad(input, probe, options.precision)
    const names = network.parameters().map(({ name }) => name)
    await writeTensors(
      options.out,
      { out, grad_x: gradX, grad_norms: { data: gradNorms, shape: [gradNorms.length] } },
      { parameters: JSON.stringify(names) },
    )
    return 0
  } finally {
    network.dispose()
  }
}

/** Constructor options, alone or inside `{ "config": …, "constructor": "SuperResModel" }`; those of a classifier have a pool. */
async function readNetwork(
  call: string,
  file: string,
): Promise<RawUNetOptions | (RawClassifierOptions & { pool: Pool })> {
  const json = await readJson(call, file)
  if (!('config' in json)) return json as unknown as RawUNetOptions
  const wrapper = json as { config: RawUNetOptions; constructor: unknown }
  if (wrapper.constructor === 'EncoderUNetModel') {
    const config = wrapper.config as unknown as RawClassifierOptions
    return { ...config, pool: config.pool ?? 'adaptive' }
  }
  return wrapper.constructor === 'SuperResModel' ? { ...wrapper.config, superres: true } : wrapper.config
}

function asFloat({ data, shape, dtype }: HostTensor): HostData {
  if (dtype === 'float32') return { data: data as Float32Array, shape }
  return { data: Float32Array.from(data as ArrayLike<number | bigint>, Number), shape }
}
