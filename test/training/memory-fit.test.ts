import { expect } from 'chai'
import { memoryWarning, PROCESS_BYTES, stepMemory } from '../../lib/training/memory-fit.ts'

describe('memoryWarning', () => {
  const network = { modelChannels: 64, channelMult: [1, 2, 2] }
  const size = [32, 32] as const
  const step = { batchSize: 24, microBatch: 0, precision: 'fp32' as const, emaRates: [0.9999] }
  const bytes = (batchSize: number, more = {}): number =>
    stepMemory({ ...network, ...more }, size, { ...step, batchSize }).totalBytes + PROCESS_BYTES
  const gib = (count: number): string => `${(count / 2 ** 30).toFixed(1)} GiB`
  const warning = (free: number, more = {}): string | undefined =>
    memoryWarning({ ...network, ...more }, size, step, free)

  it('says nothing where a step fits, of all images or of parts of them', () => {
    expect(warning(bytes(24))).to.equal(undefined)
    expect(memoryWarning(network, size, { ...step, microBatch: 2 }, bytes(2))).to.equal(undefined)
  })

  it('names the largest part of a batch that fits, and what it takes', () => {
    const begin = (free: number, more = {}): string =>
      `a step needs about ${gib(bytes(24, more))} of memory and ${gib(free)} are free, so that the system may kill the process; `
    for (const [free, micro] of [
      [bytes(24) - 1, 16],
      [bytes(16), 16],
      [bytes(16) - 1, 8],
      [bytes(1), 1],
    ] as const) {
      const way = `microBatch ${micro} takes about ${gib(bytes(micro))}`
      expect(warning(free)).to.equal(begin(free) + way)
    }
    const small = bytes(1, { recompute: true })
    expect(small).to.be.below(bytes(1))
    expect(warning(small)).to.equal(`${begin(small)}microBatch 1 and recompute takes about ${gib(small)}`)
    const none = 'not even one image at once would fit: take smaller images or a smaller network'
    for (const more of [{}, { recompute: true }])
      expect(warning(small - 1, more)).to.equal(begin(small - 1, more) + none)
  })
})
