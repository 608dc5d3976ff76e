import { expect } from 'chai'
import { partitionEvenly } from '../../lib/curriculum/partition.ts'
import { roundRobin } from '../../lib/curriculum/plan.ts'
import { adaptiveDensitySampler } from '../../lib/timesteps/adaptive-density.ts'
import { curriculumSampler } from '../../lib/timesteps/curriculum.ts'
import { lossBins, quadraticBins } from '../../lib/timesteps/loss-bins.ts'
import { type RefreshedSlotOptions, refreshedSlotSampler } from '../../lib/timesteps/refreshed-slots.ts'
import type { JsonValue, TimestepSampler } from '../../lib/timesteps/sampler.ts'
import { goldenSampler, systematicSampler } from '../../lib/timesteps/stratified.ts'
import { timeWarpingSampler } from '../../lib/timesteps/time-warping.ts'
import { uncertaintySampler } from '../../lib/timesteps/uncertainty.ts'
import { uniformSampler } from '../../lib/timesteps/uniform.ts'
import { fulfilsTheContract } from './contract.ts'
import { linearAlphaBar } from './schedules.ts'

const short = Float64Array.from({ length: 12 }, (_, t) => 1 / (1 + Math.exp(-(5 - t))))

/** Trains `steps` steps of a network whose loss at t is f(t). */
function teach(
  sampler: TimestepSampler,
  f: (t: number, step: number) => number,
  steps: number,
  count = 8,
): void {
  for (let step = 0; step < steps; step++) {
    const { t } = sampler.draw(count, step)
    const loss = Float32Array.from(t, (value) => f(value, step))
    sampler.observe?.({ t, loss, perHead: loss, heads: ['v'] })
  }
}

describe('lossBins', () => {
  it('begin as plain means, forget later, and leave out what is not finite', () => {
    const bins = lossBins('test', Int32Array.of(0, 0, 5), 0.75)
    expect([...bins.binOf]).to.deep.equal([0, 0, 1])
    const see = (t: number, loss: number) =>
      bins.observe({ t: Int32Array.of(t), loss: Float32Array.of(loss) })
    for (const loss of [4, 2, 6, 4]) see(0, loss)
    expect(bins.mean[0]).to.equal(4)
    expect(bins.meanSquare[0]).to.equal(18)
    see(1, 8) // 4 + (8 - 4) / 4
    expect(bins.mean[0]).to.equal(5)
    see(1, Number.NaN)
    expect([...bins.counts]).to.deep.equal([5, 0])
  })

  it('are of one to three timesteps at little noise, and 31 at the other end', () => {
    const binOf = quadraticBins(1000, 64)
    expect([...binOf.slice(0, 7)]).to.deep.equal([0, 2, 2, 3, 4, 4, 4])
    const last = binOf.filter((k) => k === 63)
    expect(last.length).to.be.closeTo(1000 * (1 - (63 / 64) ** 2), 1)
  })
})

describe('adaptiveDensitySampler', () => {
  fulfilsTheContract((seed) => adaptiveDensitySampler({ alphaBar: short, seed, binCount: 4 }), {
    timestepCount: 12,
    steps: 2000,
  })

  const loss = (t: number): number => 3 / (1 + t)
  const learned = (seed: number) => {
    const sampler = adaptiveDensitySampler({ alphaBar: short, seed, binCount: 12, uniformShare: 0.01 })
    teach(sampler, loss, 300)
    return sampler
  }

  describe('when it has learned', () => {
    fulfilsTheContract((seed) => learned(seed), { timestepCount: 12, steps: 3000 })
  })

  it('draws in proportion to the loss, with weights that make every draw contribute the same', () => {
    const sampler = learned(1)
    const p = sampler.probabilities()
    const total = short.reduce((sum, _, t) => sum + loss(t), 0)
    for (const [t, value] of p.entries())
      expect(value).to.be.closeTo((0.99 * loss(t)) / total + 0.01 / 12, 1e-6)
    const { t, weight } = sampler.draw(64, 999)
    const contributions = [...t].map((value, i) => weight[i]! * loss(value))
    expect(Math.max(...contributions) / Math.min(...contributions)).to.be.below(1.1)
  })

  it('lets p times weight be 1 / T for each timestep', () => {
    const sampler = learned(2)
    const p = sampler.probabilities()
    const { t, weight } = sampler.draw(64, 5)
    for (const [i, value] of t.entries()) expect(p[value]! * weight[i]! * 12).to.be.closeTo(1, 1e-6)
  })

  it('lends a bin without losses those of its neighbour', () => {
    const sampler = adaptiveDensitySampler({ alphaBar: short, binCount: 12 })
    const t = new Int32Array(5).fill(3)
    const see = (at: number, value: number): void => {
      const losses = new Float32Array(5).fill(value)
      sampler.observe!({ t: t.fill(at), loss: losses, perHead: losses, heads: ['v'] })
    }
    expect(sampler.probabilities()[0]).to.be.closeTo(1 / 12, 1e-12)
    see(3, 2)
    expect(sampler.probabilities()[0]).to.be.closeTo(1 / 12, 1e-12)
    see(9, 1)
    const p = sampler.probabilities()
    expect(p[0]).to.equal(p[3])
    expect(p[11]).to.equal(p[9])
    expect(p[0]!).to.be.above(1.9 * p[11]!)
  })

  it('refuses a state of other bins', () => {
    const sampler = adaptiveDensitySampler({ alphaBar: short, binCount: 3 })
    expect(() =>
      sampler.restore!(adaptiveDensitySampler({ alphaBar: short, binCount: 4 }).state!()),
    ).to.throw(
      RangeError,
      'adaptiveDensitySampler.restore: expected state.counts to be 3 numbers, of a sampler with the same options, got [0, 0, 0, 0]',
    )
  })
})

describe('uncertaintySampler', () => {
  const alphaBar = linearAlphaBar(100)
  const create = (seed: number) =>
    uncertaintySampler(uniformSampler({ timestepCount: 100, seed }), { alphaBar, seed })
  fulfilsTheContract(
    (seed) => uncertaintySampler(uniformSampler({ timestepCount: 12, seed }), { alphaBar: short }),
    {
      timestepCount: 12,
      steps: 200,
    },
  )

  it('learns the logarithm of the loss, so that every timestep contributes the same', () => {
    const sampler = uncertaintySampler(systematicSampler({ timestepCount: 100 }), { alphaBar })
    const loss = (t: number): number => Math.exp(1 - t / 20)
    teach(sampler, loss, 1500)
    const u = sampler.uncertainty()
    for (let t = 2; t < 100; t += 7) expect(u[t]!, `t = ${t}`).to.be.closeTo(1 - t / 20, 0.1)
    const { t, weight } = sampler.draw(16, 1)
    for (const [i, value] of t.entries()) expect(weight[i]! * loss(value)).to.be.closeTo(1, 0.15)
  })

  it('moves every coefficient by the learning rate at its first step, as Adam does', () => {
    const sampler = create(1)
    expect(sampler.uncertainty().every((u) => u === 0)).to.equal(true)
    teach(sampler, () => 3, 1)
    const { slope } = sampler.state!() as { slope: number[] }
    for (const value of slope) expect(Math.abs(value)).to.be.closeTo(0.01, 1e-6)
    expect(slope.at(-1)).to.be.above(0) // losses above e^u raise u
  })

  it('goes on from a restored state bit for bit, that of the sampler inside included', () => {
    const nested = () =>
      uncertaintySampler(adaptiveDensitySampler({ alphaBar: short, binCount: 5 }), { alphaBar: short })
    const [once, twice, resumed] = [nested(), nested(), nested()]
    const f = (t: number): number => 1 / (2 + t)
    teach(once, f, 50)
    teach(twice, f, 25)
    resumed.restore!(JSON.parse(JSON.stringify(twice.state!())))
    for (let step = 25; step < 50; step++) {
      const { t } = resumed.draw(8, step)
      const loss = Float32Array.from(t, f)
      resumed.observe!({ t, loss, perHead: loss, heads: ['v'] })
    }
    expect(resumed.state!()).to.deep.equal(once.state!())
    expect(resumed.draw(8, 50)).to.deep.equal(once.draw(8, 50))
  })
})

describe('uncertaintySampler in clusters', () => {
  const alphaBar = linearAlphaBar(100)
  const create = () =>
    uncertaintySampler(uniformSampler({ timestepCount: 12 }), { alphaBar: short, clusterCount: 3 })
  fulfilsTheContract(
    (seed) =>
      uncertaintySampler(uniformSampler({ timestepCount: 12, seed }), { alphaBar: short, clusterCount: 3 }),
    { timestepCount: 12, steps: 200 },
  )

  it('learns the logarithm of the mean loss of each cluster of neighbouring timesteps', () => {
    const sampler = uncertaintySampler(systematicSampler({ timestepCount: 100 }), {
      alphaBar,
      clusterCount: 4,
    })
    teach(sampler, (t) => (t < 50 ? 8 + (t % 2) : 0.25), 1500)
    const u = sampler.uncertainty()
    for (const t of [0, 24, 25, 49]) expect(u[t]!, `t = ${t}`).to.be.closeTo(Math.log(8.5), 0.05)
    for (const t of [50, 99]) expect(u[t]!, `t = ${t}`).to.be.closeTo(Math.log(0.25), 0.05)
    expect(u[24]).to.equal(u[0])
    expect(u[25]).not.to.equal(u[24])
  })

  it('moves no cluster that was not drawn', () => {
    const sampler = create()
    const loss = Float32Array.of(5, 5)
    sampler.observe!({ t: Int32Array.of(0, 3), loss, perHead: loss, heads: ['v'] })
    const u = sampler.uncertainty()
    expect(u[0]).to.be.closeTo(0.01, 1e-6)
    expect([...u.slice(4)]).to.deep.equal(new Array(8).fill(0))
  })

  it('refuses more clusters than timesteps, and features beside them', () => {
    const make = (options: object) => () =>
      uncertaintySampler(uniformSampler({ timestepCount: 12 }), { alphaBar: short, ...options })
    expect(make({ clusterCount: 13 })).to.throw(
      RangeError,
      'uncertaintySampler: expected clusterCount to be an integer in [1, 12], got 13',
    )
    expect(make({ clusterCount: 3, featureCount: 8 })).to.throw(
      RangeError,
      'uncertaintySampler: expected featureCount to be absent with clusterCount, got 8',
    )
  })
})

describe('timeWarpingSampler', () => {
  const alphaBar = linearAlphaBar(200)
  const snr = alphaBar.map((signal) => signal / (1 - signal))
  /** Teaches errors of xStart that rise with the noise, seen as errors of a head. */
  const warped = (head: 'xStart' | 'v' | 'eps', options: object = {}) => {
    const sampler = timeWarpingSampler({ alphaBar, binCount: 20, decay: 0.95, ...options })
    const factor = { xStart: () => 1, v: (t: number) => 1 + snr[t]!, eps: (t: number) => snr[t]! }[head]
    for (let step = 0; step < 600; step++) {
      const { t } = sampler.draw(8, step)
      const perHead = Float32Array.from(t, (value) => factor(value) * error(value))
      sampler.observe!({ t, loss: perHead, perHead, heads: [head] })
    }
    return sampler
  }
  const error = (t: number): number => 0.2 / (1 + snr[t]!)

  for (const importanceWeights of [false, true]) {
    describe(importanceWeights ? 'with importance weights' : 'without', () => {
      fulfilsTheContract(
        (seed) => timeWarpingSampler({ alphaBar: short, seed, binCount: 4, importanceWeights }),
        {
          timestepCount: 12,
          steps: 2000,
        },
      )
    })
  }
  describe('when it has learned', () => {
    fulfilsTheContract((seed) => warped('v', { seed, uniformShare: 0.5, importanceWeights: true }), {
      timestepCount: 200,
      steps: 2000,
    })
  })

  for (const head of ['xStart', 'v', 'eps'] as const) {
    it(`draws so that the error of xStart rises evenly from draw to draw, whose errors are those of ${head}`, () => {
      const p = warped(head).probabilities()
      expect(p.reduce((a, b) => a + b, 0)).to.be.closeTo(1, 1e-12)
      let drawn = 0
      for (const [t, value] of p.entries()) {
        drawn += value
        // 0.99 of the rise, and 0.01 uniform; bins are a twentieth of the range of log snr.
        const rise = (error(t) - error(0)) / (error(199) - error(0))
        expect(drawn, `t = ${t}`).to.be.closeTo(0.99 * rise + (0.01 * (t + 1)) / 200, 0.1)
      }
    })
  }

  it('takes the best head of an example, and no error above the variance of the pixels', () => {
    const sampler = timeWarpingSampler({ alphaBar: short, binCount: 12, dataVariance: 0.5 })
    const see = (t: number, ...perHead: [xStart: number, eps: number]): void => {
      for (let k = 0; k < 5; k++)
        sampler.observe!({
          ...{ t: Int32Array.of(t), loss: Float32Array.of(9) },
          ...{ perHead: Float32Array.from(perHead), heads: ['xStart', 'eps'] },
        })
    }
    see(5, 0.5, 0.25) // where snr is 1
    see(11, 1e9, 1e9)
    const { counts, mean } = sampler.state!() as Record<string, number[]>
    expect([...counts!].filter(Boolean)).to.deep.equal([5, 5])
    expect([...mean!].filter(Boolean)).to.deep.equal([0.25, 0.5])
  })

  it('draws no more at much noise because eps says nothing of xStart there', () => {
    const full = linearAlphaBar()
    const ratio = full.map((signal) => signal / (1 - signal))
    const sampler = timeWarpingSampler({ alphaBar: full, binCount: 20, decay: 0.95 })
    for (let step = 0; step < 1500; step++) {
      const { t } = sampler.draw(8, step)
      const perHead = Float32Array.from(t, (k) => (0.25 * ratio[k]!) / (1 + ratio[k]!) + 2e-3)
      sampler.observe!({ t, loss: perHead, perHead, heads: ['eps'] })
    }
    const p = sampler.probabilities()
    expect(p.slice(700).reduce((a, b) => a + b, 0)).to.be.below(0.05)
  })

  it('is uniform until nine tenths of the timesteps are known, and gives falling errors no slope', () => {
    const sampler = timeWarpingSampler({ alphaBar: short, binCount: 12, dataVariance: 1 })
    const even = new Float64Array(12).fill(1 / 12)
    const see = (t: number, error: number): void => {
      const perHead = new Float32Array(5).fill(error)
      sampler.observe!({ t: new Int32Array(5).fill(t), loss: perHead, perHead, heads: ['xStart'] })
    }
    const errors = [0.1, 0.1, 0.4, 0.3, 0.2, 0.5, 0.5, 0.5, 0.5, 0.5, 0.7]
    for (const [t, error] of errors.entries()) {
      expect(sampler.probabilities()).to.deep.equal(even)
      see(t, error)
    }
    const p = sampler.probabilities() // of eleven of twelve
    for (const t of [3, 6, 7, 8, 11]) expect(p[t], `t = ${t}`).to.be.closeTo(0.01 / 12, 1e-7)
    // Half of a cell lies on each side of its middle: from 0.1 to 0.3 and from 0.3 to 0.5.
    expect(p[2]).to.be.closeTo(0.99 * (0.1 / 0.7) + 0.01 / 12, 1e-6)
    expect(p[4]! + p[5]!).to.be.closeTo(0.99 * (0.2 / 0.7) + 0.02 / 12, 1e-6)
    expect(p[0]).to.be.closeTo(0.99 * (0.1 / 0.7) + 0.01 / 12, 1e-6)
  })

  it('needs a head that says xStart', () => {
    const sampler = timeWarpingSampler({ alphaBar: short })
    const loss = Float32Array.of(1)
    expect(() => sampler.observe!({ t: Int32Array.of(0), loss, perHead: loss, heads: ['xPrev'] })).to.throw(
      RangeError,
      'timeWarpingSampler.observe: expected heads to be one of xStart, v, eps, got ["xPrev"]',
    )
  })
})

describe('curriculumSampler', () => {
  const options = { timestepCount: 12, clusterCount: 3, patience: 5, decay: 0.5 }
  fulfilsTheContract((seed) => curriculumSampler({ ...options, seed }), { timestepCount: 12, steps: 100 })

  it('draws from the noisiest cluster until its loss stops falling, then from two, at last from all', () => {
    const sampler = curriculumSampler(options)
    const least = (): number => Math.min(...sampler.draw(200, 1).t)
    expect(least()).to.equal(8)
    teach(sampler, (_, step) => 1 / (1 + step), 20)
    expect(sampler.openCount).to.equal(1)
    teach(sampler, () => 1, 10)
    expect(sampler.openCount).to.equal(2)
    expect(least()).to.equal(4)
    teach(sampler, () => 1, 6)
    expect(sampler.openCount).to.equal(3)
    expect(least()).to.equal(0)
    const state = sampler.state!()
    teach(sampler, () => 1, 50)
    expect(sampler.state!()).to.deep.equal(state)
  })

  it('is not fooled by a lucky first batch', () => {
    const sampler = curriculumSampler({ ...options, patience: 30, decay: 0.9 })
    teach(sampler, (_, step) => (step === 0 ? 0.1 : 0.995 ** step), 100) // falls all the time, and slowly
    expect(sampler.openCount).to.equal(1)
  })

  it('goes on from a state in the middle of its patience', () => {
    const [once, resumed] = [curriculumSampler(options), curriculumSampler(options)]
    teach(once, () => 1, 3)
    resumed.restore!(JSON.parse(JSON.stringify(once.state!())))
    for (const sampler of [once, resumed]) teach(sampler, () => 1, 2)
    expect([once.openCount, resumed.openCount]).to.deep.equal([1, 1])
    for (const sampler of [once, resumed]) teach(sampler, () => 1, 2)
    expect([once.openCount, resumed.openCount]).to.deep.equal([2, 2])
  })

  it('refuses a state with other clusters', () => {
    expect(() => curriculumSampler(options).restore!({ curriculum: [4, 0, 0, 0, 0] })).to.throw(
      RangeError,
      'curriculumSampler.restore: expected the number of open clusters to be an integer in [1, 3], got 4',
    )
  })
})

describe('refreshedSlotSampler', () => {
  const options: RefreshedSlotOptions = {
    slots: partitionEvenly(100, 4),
    plan: roundRobin(4),
    rule: 'loss',
    every: 50,
    binCount: 10,
  }
  const ends = (sampler: ReturnType<typeof refreshedSlotSampler>) => sampler.slots().map(({ end }) => end)
  for (const importanceWeights of [false, true]) {
    describe(importanceWeights ? 'with importance weights' : 'without', () => {
      fulfilsTheContract((seed) => refreshedSlotSampler({ ...options, seed, importanceWeights }), {
        timestepCount: 100,
        steps: 2000,
      })
    })
  }

  it('cuts slots of equal loss from the losses of training, at the step that was asked for', () => {
    const sampler = refreshedSlotSampler(options)
    const loss = (t: number): number => (t < 9 ? 9 : 1) // bins end at 1, 4, 9, 16, …
    teach(sampler, loss, 49, 16)
    expect(ends(sampler)).to.deep.equal([25, 50, 75, 100])
    teach(sampler, loss, 51, 16)
    // 172 in all: 43 a slot
    expect(ends(sampler)).to.deep.equal([5, 14, 57, 100])
  })

  it('cuts by the loss above a floor, or by its square, when told so', () => {
    const floor = new Float64Array(100).fill(1)
    const excess = refreshedSlotSampler({ ...options, rule: 'excess', floor })
    teach(excess, () => 0.5, 50, 16)
    expect(ends(excess)).to.deep.equal([25, 50, 75, 100]) // nothing above it
    const falling = refreshedSlotSampler({ ...options, rule: 'excess', floor, decay: 0.5 })
    for (const above of [8, 4, 2, 1]) teach(falling, (t) => (t < 64 ? 0.5 : 1 + above), 50, 16)
    expect(ends(falling)).to.deep.equal([73, 82, 91, 100]) // as much above it at each t >= 64, though it falls
    expect(() => refreshedSlotSampler({ ...options, rule: 'excess' })).to.throw(
      RangeError,
      'expected floor to be one loss for each of 100 timesteps, got undefined',
    )
    expect(() => refreshedSlotSampler({ ...options, floor })).to.throw('floor to be absent with rule loss')
    const moment = refreshedSlotSampler({ ...options, rule: 'loss-moment' })
    teach(moment, (t) => (t < 9 ? 3 : 1), 100, 16)
    expect(ends(moment)).to.deep.equal([5, 14, 57, 100])
  })

  it('asks for a curve of gradients at every cut, and takes no other', () => {
    const sampler = refreshedSlotSampler({ ...options, rule: 'gradient-moment' })
    teach(sampler, (t) => (t < 9 ? 9 : 1), 49, 16)
    expect(sampler.isDue).to.equal(false)
    teach(sampler, (t) => (t < 9 ? 9 : 1), 1, 16)
    expect([sampler.isDue, ends(sampler)]).to.deep.equal([true, [25, 50, 75, 100]])
    const copy = refreshedSlotSampler({ ...options, rule: 'gradient-moment' })
    sampler.recut(new Float64Array(100).fill(1, 0, 20))
    expect([sampler.isDue, ends(sampler)]).to.deep.equal([false, [5, 10, 15, 100]])
    copy.restore?.(sampler.state?.() as JsonValue)
    expect([copy.isDue, ends(copy)]).to.deep.equal([false, [5, 10, 15, 100]])
    sampler.recut(new Float64Array(100))
    expect(ends(sampler)).to.deep.equal([5, 10, 15, 100])
    expect(refreshedSlotSampler(options).isDue).to.equal(false)
  })

  it('weighs refreshed slots by their new lengths', () => {
    const sampler = refreshedSlotSampler({ ...options, importanceWeights: true })
    teach(sampler, (t) => (t < 9 ? 9 : 1), 100, 16)
    const weights = [0, 1, 2, 3].map((step) => sampler.draw(1, step).weight[0])
    for (const [k, length] of [5, 9, 43, 43].entries()) expect(weights[k]).to.be.closeTo(length / 25, 1e-6)
  })

  it('waits for a loss in every bin', () => {
    const sampler = refreshedSlotSampler({ ...options, every: 1 })
    teach(sampler, () => 1, 1, 2)
    expect(ends(sampler)).to.deep.equal([25, 50, 75, 100])
  })

  it('refuses slots with gaps and states of other slots', () => {
    expect(() =>
      refreshedSlotSampler({ ...options, slots: [{ begin: 1, end: 2 }], plan: roundRobin(1) }),
    ).to.throw(RangeError, 'refreshedSlotSampler: expected slots to be slots that cover [0, 2)')
    expect(() => refreshedSlotSampler(options).restore!({ ends: [1, 2, 3, 4] })).to.throw(
      RangeError,
      'refreshedSlotSampler.restore: expected state.ends to be slots of 100 timesteps, got [1, 2, 3, 4]',
    )
  })
})

describe('Samplers that learn', () => {
  it('draw on any stream', () => {
    const golden = adaptiveDensitySampler({ alphaBar: linearAlphaBar(), stream: 'golden', seed: 3 })
    const plain = goldenSampler({ timestepCount: 1000, seed: 3 })
    expect(golden.draw(8, 2).t).to.deep.equal(plain.draw(8, 2).t)
  })
})
