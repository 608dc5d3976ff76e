import type { Device } from '../device.ts'
import { UNet } from '../model/unet.ts'
import { NoiseSchedule } from '../schedule/noise-schedule.ts'
import {
  type DescribedModel,
  type DescribeOptions,
  describeModel,
  type ModelDescription,
} from './describe.ts'

/** A network with the weights of a file and the process that it was trained for. */
export interface LoadedModel {
  readonly unet: UNet
  readonly schedule: NoiseSchedule
  readonly model: DescribedModel
}

/**
 * Makes a network of a file of weights, so that it can be sampled from, measured or trained on.
 *
 * @param call - what messages of errors begin with
 * @throws as `describeModel` does
 *
 * @example
 * const { unet, schedule, model } = await loadModel('lsun_bedroom.pt')
 * const { rescalesTimesteps } = model
 * const picture = { schedule, rescalesTimesteps, count: 4, image: [3, 256, 256], seed: 0, respacing: 'ddim25', eta: 0, combine: 'eps' } as const
 * await writeGrid('bedrooms.png', await drawImages(unet, picture))
 */
export async function loadModel(
  path: string,
  { device = 'cpu', ...options }: DescribeOptions & { readonly device?: Device } = {},
  call = 'loadModel',
): Promise<LoadedModel> {
  const model = await describeModel(path, options, call)
  const unet = await UNet.create(model.network, { device })
  try {
    await unet.loadWeights(path, options.part === undefined ? {} : { part: options.part })
    return { unet, schedule: scheduleOfModel(model), model }
  } catch (error) {
    unet.dispose()
    throw error
  }
}

/** The process that a description names. */
export function scheduleOfModel({ schedule }: ModelDescription): NoiseSchedule {
  const { betas, ...options } = schedule
  return NoiseSchedule.create({ ...options, ...(betas && { betas: Float64Array.from(betas) }) })
}
