import { createHash } from 'node:crypto'
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect } from 'chai'
import { type ImageDataset, inMemory } from '../../lib/data/dataset.ts'
import { readNpz, writeNpz, writeSamplesNpz } from '../../lib/data/npz.ts'
import { memoryCount } from '../../lib/device.ts'
import { DeviceTensor } from '../../lib/device-tensor.ts'
import {
  featureStatistics,
  frechetDistance,
  inceptionScore,
  kernelDistance,
  precisionRecall,
} from '../../lib/metrics/distances.ts'
import { evaluate } from '../../lib/metrics/evaluate.ts'
import { FeatureNetwork } from '../../lib/metrics/feature-network.ts'
import { pixelSpread, slicedWasserstein } from '../../lib/metrics/pixels.ts'
import { makeReference, readReference } from '../../lib/metrics/reference.ts'
import { native } from '../../lib/native.ts'
import { keyedRandom } from '../../lib/random.ts'
import type { HostTensor } from '../../lib/tensor.ts'
import { expectClose, expectCloseToMax } from '../support/close.ts'
import { fixtureJson, fixturePath, fixtureTensors, float32 } from '../support/fixtures.ts'
import { rejection } from '../support/rejection.ts'

const expected = fixtureJson('metrics.json')
const networkPath = (name: string): string => fixturePath(`feature-networks/${name}.pt`)

/** Random images that two seeds make differently. */
function pictures(count: number, seed: number, channels = 3): ImageDataset {
  const stream = keyedRandom(seed, 'probe').at(0)
  const size = channels * 64
  const data = Uint8Array.from({ length: count * size }, (_, i) => {
    return Math.min(255, stream.integer(0, 120) + 25 * seed + (i % 8) * 5)
  })
  return inMemory({ data, shape: [count, channels, 8, 8] })
}

describe('Metrics against numpy and scipy', () => {
  let tensor: (name: string) => HostTensor
  const onDevice = async (name: string, factor = 1, shift = 0): Promise<DeviceTensor> => {
    const { data, shape } = tensor(name)
    return DeviceTensor.from({
      data: Float32Array.from(data as Float32Array, (x) => x * factor + shift),
      shape,
    })
  }
  before(async () => {
    tensor = await fixtureTensors('metrics.safetensors')
  })

  it('has the mean and the unbiased covariance of features', async () => {
    const { mean, covariance } = await featureStatistics(await onDevice('a'))
    expectClose(mean, tensor('mu_a').data as Float64Array, { absolute: 1e-12 })
    expectClose(covariance, tensor('sigma_a').data as Float64Array, { absolute: 1e-11 })
  })

  it('has the Frechet distance, also where covariances are singular', async () => {
    const distance = async (a: string, b: string) =>
      frechetDistance(await featureStatistics(await onDevice(a)), await featureStatistics(await onDevice(b)))
    expectClose([await distance('a', 'b')], [expected.frechet], { relative: 1e-9 })
    // scipy says of its own matrix root here that it may be inaccurate.
    expectClose([await distance('few_a', 'few_b')], [expected.frechetSingular], { relative: 1e-6 })
    expect(await distance('a', 'a')).to.be.within(-1e-9, 1e-9)
  })

  it('has the Inception score, with a last split that is short', async () => {
    const probabilities = await onDevice('probabilities')
    expectClose([await inceptionScore(probabilities, 25)], [expected.inceptionScore['25']], {
      relative: 1e-6,
    })
    expectClose([await inceptionScore(probabilities)], [expected.inceptionScore['5000']], { relative: 1e-6 })
  })

  it('has precision and recall in half precision, and in single precision where that overflows', async () => {
    const measured = async (factor: number, shift: number) =>
      precisionRecall(await onDevice('a', factor, shift), await onDevice('b', factor, shift))
    expect(await measured(1, 0)).to.deep.equal(expected.precisionRecall)
    expect(await measured(100, 0)).to.deep.equal(expected.precisionRecallOverflow)
    expect(await measured(1, 45)).to.deep.equal(expected.precisionRecallCoarse)
    expect(expected.precisionRecallCoarse).to.not.deep.equal(expected.precisionRecall)
    expect(await precisionRecall(await onDevice('a'), await onDevice('a'))).to.deep.equal({
      precision: 1,
      recall: 1,
    })
  })

  it('has the kernel distance of given subsets', async () => {
    const [a, b] = [await onDevice('a'), await onDevice('b')]
    const rows = (name: string) => ({ data: tensor(name).data as Int32Array, shape: tensor(name).shape })
    const distances = await native().kernelDistances(a.handle, b.handle, rows('rows_a'), rows('rows_b'))
    expectClose(distances, expected.kernelDistances, { relative: 1e-9 })
  })

  it('has the sliced Wasserstein distance of sets of different sizes', async () => {
    const directions = await onDevice('directions')
    const project = async (name: string) =>
      native().projectImages({ data: tensor(name).data, shape: tensor(name).shape }, directions.handle)
    const distance = await native().slicedWasserstein(await project('a'), await project('b'))
    expectClose([distance], [expected.slicedWasserstein], { relative: 1e-5 })
  })

  it('has the features of TorchScript modules in each form that they may give them', async () => {
    const { data, shape } = tensor('images')
    const images = { data: data as Uint8Array, shape: shape as [number, number, number, number] }
    const forms = [
      ['pool', []],
      ['everything', ['spatial', 'probabilities']],
      ['by-name', ['probabilities']],
      ['like-nvidias', ['probabilities']],
    ] as const
    for (const [name, more] of forms) {
      const network = await FeatureNetwork.load(networkPath(name))
      const features = await network.features(images)
      expect(Object.keys(features), name).to.deep.equal(['pool', ...more])
      for (const [part, stored] of [
        ['pool', 'pool'],
        ['spatial', 'spatial'],
        ['probabilities', 'softmax'],
      ] as const) {
        const found = features[part]
        if (!found) continue
        expect(found.shape, `${name}: ${part}`).to.deep.equal(tensor(stored).shape)
        expectCloseToMax(float32(await found.toHost()), float32(tensor(stored)), 1e-5, `${name}: ${part}`)
      }
      network.dispose()
    }
  })
})

describe('precisionRecall', () => {
  it('counts as brute force does over several slices of points', async () => {
    // Whole coordinates below 16: every distance is exact in half precision.
    const stream = keyedRandom(4, 'probe').at(0)
    const points = (count: number, end: number) =>
      Float32Array.from({ length: 3 * count }, () => stream.integer(0, end))
    const [reference, samples] = [points(1050, 16), points(300, 13)]
    const squared = (a: Float32Array, i: number, b: Float32Array, j: number): number =>
      (a[3 * i]! - b[3 * j]!) ** 2 +
      (a[3 * i + 1]! - b[3 * j + 1]!) ** 2 +
      (a[3 * i + 2]! - b[3 * j + 2]!) ** 2
    const radii = (a: Float32Array): number[] =>
      Array.from({ length: a.length / 3 }, (_, i) => {
        return Float64Array.from({ length: a.length / 3 }, (_, j) => squared(a, i, a, j)).sort()[3] as number
      })
    const share = (a: Float32Array, b: Float32Array, radius: number[]): number => {
      const count = a.length / 3
      const isInside = (i: number): boolean => radius.some((r, j) => squared(a, i, b, j) <= r)
      return Array.from({ length: count }, (_, i) => Number(isInside(i))).reduce((x, y) => x + y) / count
    }
    const device = (data: Float32Array) => DeviceTensor.from({ data, shape: [data.length / 3, 3] })
    expect(await precisionRecall(await device(reference), await device(samples))).to.deep.equal({
      precision: share(samples, reference, radii(reference)),
      recall: share(reference, samples, radii(samples)),
    })
  })
})

describe('kernelDistance', () => {
  it('is the same for the same seed, near 0 for halves of one set and far from it for another', async () => {
    const stream = keyedRandom(1, 'probe').at(0)
    const normal = (count: number, shift: number) =>
      DeviceTensor.from({
        data: Float32Array.from({ length: count * 4 }, () => stream.normal() + shift),
        shape: [count, 4],
      })
    const [a, b, far] = [await normal(300, 0), await normal(300, 0), await normal(200, 1)]
    const options = { subsetSize: 100, subsetCount: 20 }
    const near = await kernelDistance(a, b, options)
    expect(near).to.deep.equal(await kernelDistance(a, b, options))
    expect(near.mean).to.not.equal((await kernelDistance(a, b, { ...options, seed: 1 })).mean)
    expect(Math.abs(near.mean)).to.be.below(3 * near.standardDeviation)
    expect((await kernelDistance(a, far)).mean).to.be.above(1)
    expect(await kernelDistance(a, b)).to.include({ subsetSize: 300, subsetCount: 1, standardDeviation: 0 })
  })
})

describe('evaluate', () => {
  let folder: string
  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), 'trislot-evaluate-'))
  })
  afterEach(() => rm(folder, { recursive: true }))

  it('gives the same numbers from images, from a reference file, and from guided-diffusion’s arrays in one', async () => {
    const network = await FeatureNetwork.load(networkPath('everything'))
    const [samples, images] = [pictures(30, 1), pictures(40, 2)]
    const before = memoryCount().handles
    const direct = await evaluate({ samples, network, reference: { name: 'pictures', images } })
    const file = join(folder, 'ref.npz')
    await makeReference(file, { images, network })
    const reference = await readReference(file)
    const fromFile = await evaluate({ samples, network, reference })
    await reference.close()
    const arrays = await readNpz(file, ['arr_0', 'mu', 'sigma', 'mu_s', 'sigma_s'])
    const original = join(folder, 'original.npz')
    await writeNpz(original, Object.fromEntries(arrays))
    const likeOriginal = await readReference(original)
    const fromOriginal = await evaluate({ samples, network, reference: likeOriginal })
    await likeOriginal.close()
    for (const found of [direct, fromFile, fromOriginal]) {
      expect(found.network).to.deep.equal({
        file: networkPath('everything'),
        sha256: createHash('sha256')
          .update(await readFile(networkPath('everything')))
          .digest('hex'),
        features: 6,
      })
      expect(found.fid).to.be.a('number').above(0)
      for (const name of [
        'fid',
        'sfid',
        'inceptionScore',
        'precision',
        'recall',
        'slicedWasserstein',
      ] as const) {
        expectClose([found[name] as number], [direct[name] as number], { relative: 1e-9, what: name })
      }
      expectClose([found.kid!.mean], [direct.kid!.mean], { relative: 1e-9 })
    }
    expect(memoryCount().handles).to.be.at.most(before)
  })

  it('keeps some images in a reference, and the statistics of all', async () => {
    const network = await FeatureNetwork.load(networkPath('pool'))
    const images = pictures(40, 2)
    const file = join(folder, 'ref.npz')
    await makeReference(file, { images, network, keep: 10 })
    const reference = await readReference(file)
    expect(reference.images?.length).to.equal(10)
    expect(reference.features?.shape).to.deep.equal([10, 6])
    expect(reference.spatial).to.equal(undefined)
    const same = await evaluate({ samples: images, network, reference })
    expect(same.fid).to.be.within(-1e-6, 1e-6)
    expect(same).to.include({ sfid: null, inceptionScore: null, recall: 1 })
    await reference.close()
  })

  it('compares pixels alone without a feature network', async () => {
    const [a, b] = [pictures(20, 1, 1), pictures(30, 2, 1)]
    const found = await evaluate({ samples: a, reference: { name: 'b', images: b } })
    expect(found).to.include({ network: null, fid: null, kid: null })
    expect(found.slicedWasserstein).to.be.above(0.1)
    expect(found.pixelSpread).to.be.closeTo((await pixelSpread(a)) / (await pixelSpread(b)), 1e-12)
    expect(await slicedWasserstein(a, a)).to.equal(0)
    const inParts = await slicedWasserstein(a, b, { batchSize: 7 })
    expectClose([inParts], [found.slicedWasserstein as number], { relative: 1e-6 })
  })

  it('reads every image once to compare pixels', async () => {
    const read: string[] = []
    const [a, b] = [pictures(5, 1), pictures(7, 2)]
    const noted = (name: string, images: ImageDataset): ImageDataset => ({
      ...images,
      image: (i) => {
        read.push(`${name} ${i}`)
        return images.image(i)
      },
    })
    await evaluate({ samples: noted('a', a), reference: { name: 'b', images: noted('b', b) }, batchSize: 3 })
    expect(read).to.deep.equal([
      ...[0, 1, 2, 3, 4].map((i) => `a ${i}`),
      ...[0, 1, 2, 3, 4, 5, 6].map((i) => `b ${i}`),
    ])
  })

  it('says how much images differ from each other', async () => {
    const of = (...images: number[][]) =>
      pixelSpread(inMemory({ data: Uint8Array.from(images.flat()), shape: [images.length, 1, 1, 2] }), {
        batchSize: 2,
      })
    // Variances of -1, 0.2, 1 and of 0.2, 0.2, 1: by hand.
    const variance = (...x: number[]) => {
      const mean = x.reduce((a, b) => a + b) / x.length
      return x.reduce((sum, value) => sum + (value - mean) ** 2, 0) / (x.length - 1)
    }
    const expected = Math.sqrt((variance(-1, 0.2, 1) + variance(0.2, 0.2, 1)) / 2)
    expect(await of([0, 153], [153, 153], [255, 255])).to.be.closeTo(expected, 1e-12)
    expect(await of([3, 4])).to.equal(0)
    expect(await of([3, 4], [3, 4])).to.equal(0)
    const equal = inMemory({ data: new Uint8Array(24), shape: [2, 1, 3, 4] })
    const found = await evaluate({ samples: equal, reference: { name: 'equal', images: equal } })
    expect(found.pixelSpread).to.equal(null)
    const same = pictures(6, 1)
    expect(
      (await evaluate({ samples: same, reference: { name: 'same', images: same } })).pixelSpread,
    ).to.equal(1)
  })

  it('refuses a reference of another network, and files that are no networks or give no features', async () => {
    const network = await FeatureNetwork.load(networkPath('pool'))
    const other = await FeatureNetwork.load(networkPath('by-name'))
    const file = join(folder, 'ref.npz')
    await makeReference(file, { images: pictures(10, 2), network })
    const reference = await readReference(file)
    const error = await rejection(evaluate({ samples: pictures(9, 1), network: other, reference }))
    expect(error.message).to.match(
      /^evaluate: expected network to be the network that made .*ref.npz \(sha256 \w{64}\), got ".*by-name/,
    )
    await reference.close()
    const none = join(folder, 'none.pt')
    expect((await rejection(FeatureNetwork.load(none))).message).to.equal(
      `FeatureNetwork.load: expected ${none} to be readable, got ENOENT`,
    )
    await writeFile(none, 'nothing')
    expect((await rejection(FeatureNetwork.load(none))).message).to.match(
      /^FeatureNetwork.load: expected .*none.pt to be a TorchScript module \(torch.jit.save\), got "/,
    )
    const useless = await FeatureNetwork.load(networkPath('no-features'))
    const images = { data: new Uint8Array(3 * 64), shape: [1, 3, 8, 8] as const }
    expect((await rejection(useless.features(images))).message).to.equal(
      `network.features: expected ${networkPath('no-features')} to give features, got "the module should give a tensor, a tuple or a dict, not String"`,
    )
  })

  it('refuses references that hold nothing to compare with', async () => {
    const file = join(folder, 'x.npz')
    await writeNpz(file, { arr_1: { data: BigInt64Array.of(1n), shape: [1] } })
    expect((await rejection(readReference(file))).message).to.equal(
      `readReference: expected ${file} to hold arr_0, or mu and sigma, got arr_1`,
    )
    await writeNpz(file, {
      mu: { data: Float64Array.of(1, 2), shape: [2] },
      sigma: { data: Float64Array.of(1, 2, 3), shape: [3] },
    })
    expect((await rejection(readReference(file))).message).to.equal(
      `readReference: expected sigma of ${file} to be (2, 2), got (3)`,
    )
    const samples = await writeSamplesNpz(folder, {
      data: new Uint8Array(2 * 3 * 4),
      shape: [2, 3, 2, 2],
    })
    const reference = await readReference(samples)
    expect(reference.images?.length).to.equal(2)
    await reference.close()
  })
})
