import { createHash } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { argumentError } from '../check.ts'
import { toUint8 } from '../data/to-uint8.ts'
import { checkDevice, type Device } from '../device.ts'
import { DeviceTensor } from '../device-tensor.ts'
import { DataError, NativeError } from '../errors.ts'
import { type FeatureNetworkHandle, native } from '../native.ts'
import { NativeObject } from '../native-object.ts'
import { checkImages, type ImageBatch } from '../tensor.ts'

/** What a feature network says about images; all are float32 on its device. */
export interface ImageFeatures {
  /** [N, D], D = 2048 for Inception's pool. */
  readonly pool: DeviceTensor
  /** [N, D'], for sFID: the first 7 channels of `mixed_6/conv` in the original. */
  readonly spatial?: DeviceTensor
  /** [N, K] probabilities of classes, for the Inception score. */
  readonly probabilities?: DeviceTensor
}

/**
 * A TorchScript module that you give, which turns images into features: an Inception network as a rule. It runs natively;
 * a TorchScript file holds code of its own small language, not Python, but take it from a source that you trust.
 *
 * Its `forward` gets float32 images [N, 3, H, W] with values 0 to 255 and does its own resizing and scaling. It gives one of
 *
 * - a tensor: `pool` [N, D];
 * - a tuple `(pool, spatial)` or `(pool, spatial, logits)`, or a dict with the keys `pool`, `spatial`, `logits`, of which only
 *   `pool` must be there. `spatial` is flattened; `logits` [N, K] become probabilities by softmax, and the original takes
 *   them without the bias of the last layer;
 * - or it has the arguments `return_features` and `no_output_bias`, as NVIDIA's `inception-2015-12-05.pt`, and is called once
 *   with each.
 */
export class FeatureNetwork extends NativeObject<'featureNetwork'> {
  readonly file: string
  /** Of the file: results of two networks cannot be compared. */
  readonly sha256: string
  readonly device: Device

  private constructor(handle: FeatureNetworkHandle, file: string, sha256: string, device: Device) {
    super(handle, 'FeatureNetwork')
    this.file = file
    this.sha256 = sha256
    this.device = device
  }

  /** Loads a TorchScript file. Throws a DataError when it cannot be read or is none. */
  static async load(
    file: string,
    { device = 'cpu' }: { readonly device?: Device } = {},
  ): Promise<FeatureNetwork> {
    const call = 'FeatureNetwork.load'
    await checkDevice(device)
    const hash = createHash('sha256')
    try {
      for await (const chunk of createReadStream(file, { highWaterMark: 2 ** 20 }))
        hash.update(chunk as Buffer)
    } catch (cause) {
      const { code } = cause as NodeJS.ErrnoException
      throw new DataError(`${call}: expected ${file} to be readable, got ${code}`, file, { cause })
    }
    try {
      const handle = await native().featureNetworkLoad(file, device)
      return new FeatureNetwork(handle, file, hash.digest('hex'), device)
    } catch (cause) {
      if (isOutOfMemory(cause)) throw cause
      const reason = (cause as Error).message.split('\n')[0]
      throw new DataError(
        `${call}: expected ${file} to be a TorchScript module (torch.jit.save), got "${reason}"`,
        file,
        { cause },
      )
    }
  }

  /**
   * Features of images. Grey ones are shown as three equal channels.
   *
   * @param images - uint8 or float32 in [-1, 1] (made uint8 as guided-diffusion saves samples), [N, 1 or 3, H, W]
   * @throws DataError when the module fails or gives something else than it should
   */
  async features(images: ImageBatch): Promise<ImageFeatures> {
    const call = 'network.features'
    checkImages(call, 'images', images)
    const [n, channels, height, width] = images.shape
    if (channels !== 1 && channels !== 3) {
      throw argumentError(call, 'images.shape (C)', '1 or 3', channels)
    }
    const bytes = images.data instanceof Uint8Array ? images.data : toUint8(images.data)
    const data = channels === 3 ? bytes : threefold(bytes, n)
    const rgb = { data, shape: [n, 3, height, width] }
    try {
      const { pool, spatial, probabilities } = await native().featureNetworkRun(this.handle, rgb)
      return {
        pool: new DeviceTensor(pool),
        ...(spatial && { spatial: new DeviceTensor(spatial) }),
        ...(probabilities && { probabilities: new DeviceTensor(probabilities) }),
      }
    } catch (cause) {
      if (this.isDisposed || isOutOfMemory(cause)) throw cause
      const reason = (cause as Error).message.split('\n')[0]
      throw new DataError(`${call}: expected ${this.file} to give features, got "${reason}"`, this.file, {
        cause,
      })
    }
  }
}

function isOutOfMemory(error: unknown): boolean {
  return error instanceof NativeError && error.code === 'ERR_OUT_OF_MEMORY'
}

/** [N, 1, H, W] to [N, 3, H, W]. */
function threefold(data: Uint8Array, n: number): Uint8Array {
  const area = data.length / n
  const out = new Uint8Array(data.length * 3)
  for (let i = 0; i < 3 * n; i++) {
    const image = Math.floor(i / 3)
    out.set(data.subarray(image * area, (image + 1) * area), i * area)
  }
  return out
}
