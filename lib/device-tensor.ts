import { argumentError, checkInteger, checkOneOf } from './check.ts'
import { checkDeviceName, type Device } from './device.ts'
import { type HostData, type NoiseKey, native, type TensorHandle } from './native.ts'
import { NativeObject } from './native-object.ts'
import { checkShape, elementCount, type HostTensor } from './tensor.ts'

/** A tensor that lives with the network, on its device. */
export class DeviceTensor extends NativeObject<'tensor'> {
  readonly shape: readonly number[]

  /** @internal */
  constructor(handle: TensorHandle) {
    super(handle, 'tensor')
    this.shape = native().tensorShape(handle)
  }

  /** Copies host data to a device; uint8 0..255 becomes float32 in [-1, 1], float64 stays. */
  static async from(tensor: HostData, device: Device = 'cpu'): Promise<DeviceTensor> {
    const call = 'DeviceTensor.from'
    checkDeviceName(call, device)
    if (tensor.data.length !== elementCount(tensor.shape)) {
      throw argumentError(call, 'data', `${elementCount(tensor.shape)} values`, tensor.data)
    }
    return new DeviceTensor(await native().tensorFromHost(tensor, device))
  }

  /** Standard normal numbers keyed by (seed, purpose, step, sample): the same key gives the same numbers. */
  static async noise(shape: readonly number[], key: NoiseKey, device: Device = 'cpu'): Promise<DeviceTensor> {
    const call = 'DeviceTensor.noise'
    checkShape(call, 'shape', shape)
    checkInteger(call, 'key.seed', key.seed, 0)
    checkOneOf(call, 'key.purpose', key.purpose, ['noise', 'startNoise', 'stepNoise', 'probe'])
    checkInteger(call, 'key.step', key.step, 0, 2 ** 32 - 1)
    checkInteger(call, 'key.firstSample', key.firstSample, 0, 2 ** 32 - 1)
    checkDeviceName(call, device)
    return new DeviceTensor(await native().tensorNoise(shape, key, device))
  }

  /** A copy in host memory. */
  async toHost(): Promise<HostTensor> {
    return native().tensorToHost(this.handle)
  }
}
