import { expect } from 'chai'
import { type BatchOptions, batches } from '../../lib/data/batches.ts'
import { type ImageDataset, inMemory } from '../../lib/data/dataset.ts'
import { withLowRes } from '../../lib/data/super-resolution.ts'
import type { ImageBatch } from '../../lib/tensor.ts'

/** Image i is [i, i + 100] in one row, with label i mod 3. */
function numbered(length: number): ImageDataset {
  const data = Uint8Array.from({ length: 2 * length }, (_, i) => (i >> 1) + 100 * (i % 2))
  return inMemory({
    data,
    shape: [length, 1, 1, 2],
    labels: Array.from({ length }, (_, i) => i % 3),
    classNames: ['a', 'b', 'c'],
    name: 'numbered',
  })
}

async function take(
  count: number,
  options: BatchOptions,
  dataset: ImageDataset = numbered(10),
): Promise<ImageBatch[]> {
  const taken: ImageBatch[] = []
  for await (const batch of batches(dataset, options)) if (taken.push(batch) === count) break
  return taken
}

const indicesOf = (batch: ImageBatch) =>
  Array.from({ length: batch.shape[0] }, (_, i) => Math.min(batch.data[2 * i]!, batch.data[2 * i + 1]!))

const rejection = (promise: Promise<unknown>): Promise<Error> =>
  promise.then(
    () => expect.fail('did not fail'),
    (error: Error) => error,
  )

describe('batches', () => {
  it('visits every image exactly once an epoch, without a gap between epochs', async () => {
    const seen = (await take(10, { batchSize: 3, seed: 1 })).flatMap(indicesOf)
    for (const epoch of [0, 1, 2]) {
      const order = seen.slice(10 * epoch, 10 * epoch + 10)
      expect([...order].sort((a, b) => a - b)).to.deep.equal([0, 1, 2, 3, 4, 5, 6, 7, 8, 9])
    }
    expect(seen.slice(0, 10)).to.not.deep.equal(seen.slice(10, 20))
  })

  it('gives the batch of step k whether it starts at 0 or at k', async () => {
    const options = { batchSize: 4, seed: 7, flip: true, withLabels: true }
    const whole = await take(9, options)
    const resumed = await take(4, { ...options, firstStep: 5 })
    expect(resumed).to.deep.equal(whole.slice(5))
  })

  it('does not depend on how much is made ahead', async () => {
    const options = { batchSize: 4, seed: 7, flip: true }
    expect(await take(8, { ...options, prefetch: 0 })).to.deep.equal(
      await take(8, { ...options, prefetch: 6 }),
    )
  })

  it('follows the seed', async () => {
    const [one] = await take(1, { batchSize: 10, seed: 1 })
    const [two] = await take(1, { batchSize: 10, seed: 2 })
    expect(one!.data).to.not.deep.equal(two!.data)
  })

  it('wraps over epochs when the batch is larger than the data set', async () => {
    const [batch] = await take(1, { batchSize: 25, seed: 1 })
    const counts = indicesOf(batch!).reduce((map, i) => map.set(i, (map.get(i) ?? 0) + 1), new Map())
    expect([...counts.values()].every((count) => count === 2 || count === 3)).to.equal(true)
    expect(batch!.shape).to.deep.equal([25, 1, 1, 2])
  })

  it('mirrors about half of the images and changes nothing else', async () => {
    const plain = await take(40, { batchSize: 10, seed: 3 })
    const flipped = await take(40, { batchSize: 10, seed: 3, flip: true })
    expect(flipped.map(indicesOf)).to.deep.equal(plain.map(indicesOf))
    const mirrored = flipped.flatMap((batch) =>
      [...batch.data].filter((v, i) => i % 2 === 0 && v >= 100),
    ).length
    expect(mirrored).to.be.within(160, 240)
  })

  it('mirrors rows of every channel', async () => {
    const dataset = inMemory({ data: Uint8Array.from({ length: 12 }, (_, i) => i), shape: [1, 2, 2, 3] })
    const all = (await take(20, { batchSize: 1, seed: 1, flip: true }, dataset)).map(({ data }) =>
      data.join(),
    )
    expect(new Set(all)).to.deep.equal(new Set(['0,1,2,3,4,5,6,7,8,9,10,11', '2,1,0,5,4,3,8,7,6,11,10,9']))
  })

  it('carries labels when they are asked for', async () => {
    const [batch] = await take(1, { batchSize: 6, seed: 1, withLabels: true })
    expect([...batch!.labels!]).to.deep.equal(indicesOf(batch!).map((i) => i % 3))
    expect((await take(1, { batchSize: 6, seed: 1 }))[0]).to.not.have.property('labels')
  })

  it('adds the low-resolution twin of the flipped images', async () => {
    const dataset = withLowRes(inMemory({ data: Uint8Array.of(0, 255, 0, 255), shape: [1, 1, 2, 2] }), 2)
    const [batch] = await take(1, { batchSize: 2, seed: 1, flip: true }, dataset)
    expect(batch!.lowRes!.shape).to.deep.equal([2, 1, 1, 1])
    expect([...batch!.lowRes!.data]).to.deep.equal([0, 0])
  })

  it('gives random crops a key of step and sample', async () => {
    const dataset: ImageDataset = {
      ...numbered(10),
      image: (_, random) => Uint8Array.of(random!.integer(0, 256), random!.integer(0, 256)),
    }
    const options = { batchSize: 4, seed: 2 }
    expect((await take(3, options, dataset))[2]).to.deep.equal(
      (await take(1, { ...options, firstStep: 2 }, dataset))[0],
    )
  })

  it('surfaces an error of the data set at the next() that reaches it, then ends', async () => {
    let calls = 0
    const dataset: ImageDataset = {
      ...numbered(10),
      image: async () => {
        if (calls++ >= 4) throw new Error('disk gone')
        return Uint8Array.of(1, 2)
      },
    }
    const iterator = batches(dataset, { batchSize: 2, seed: 1 })
    expect((await iterator.next()).done).to.equal(false)
    expect((await iterator.next()).done).to.equal(false)
    expect((await rejection(iterator.next())).message).to.equal('disk gone')
    expect((await iterator.next()).done).to.equal(true)
  })

  it('stops the work ahead at return()', async () => {
    let calls = 0
    const dataset: ImageDataset = {
      ...numbered(10),
      image: () => {
        calls++
        return Uint8Array.of(1, 2)
      },
    }
    const iterator = batches(dataset, { batchSize: 1, seed: 1, prefetch: 2 })
    await iterator.next()
    await iterator.return!()
    expect((await iterator.next()).done).to.equal(true)
    expect(calls).to.be.at.most(3)
  })

  it('makes batches ahead while the caller is busy', async () => {
    let calls = 0
    const dataset: ImageDataset = { ...numbered(10), image: () => Uint8Array.of(++calls & 255, 0) }
    const iterator = batches(dataset, { batchSize: 1, seed: 1, prefetch: 3 })
    await iterator.next()
    await new Promise((resolve) => setImmediate(resolve))
    expect(calls).to.equal(4)
    await iterator.return!()
  })

  it('names an image of the wrong size', async () => {
    const dataset: ImageDataset = { ...numbered(10), image: () => new Uint8Array(3) }
    const { name, message } = await rejection(take(1, { batchSize: 1, seed: 1 }, dataset))
    expect(name).to.equal('DataError')
    expect(message).to.match(
      /^batches: expected image \d of numbered to be a Uint8Array of 2 values \(\[1, 1, 2\]\), got 3$/,
    )
  })

  it('refuses wrong options with their names', () => {
    const { label: _, ...unlabelled } = numbered(3)
    const cases: [object, string][] = [
      [{ batchSize: 0, seed: 1 }, 'batches: expected batchSize to be an integer >= 1, got 0'],
      [{ batchSize: 1, seed: -1 }, 'batches: expected seed to be an integer >= 0, got -1'],
      [
        { batchSize: 1, seed: 1, firstStep: 0.5 },
        'batches: expected firstStep to be an integer >= 0, got 0.5',
      ],
      [
        { batchSize: 1, seed: 1, flips: true },
        'batches: expected options to be among batchSize, seed, firstStep, flip, withLabels, prefetch, got unknown flips (did you mean flip?)',
      ],
      [
        { batchSize: 1, seed: 1, withLabels: true },
        'batches: expected dataset to be a data set with labels, because withLabels is set, got "numbered"',
      ],
    ]
    for (const [options, message] of cases) {
      expect(() => batches(unlabelled, options as BatchOptions)).to.throw(message)
    }
  })
})
