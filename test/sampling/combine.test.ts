import { expect } from 'chai'
import { blueWeights } from '../../lib/mixing/blue.ts'
import { HeadStatistics } from '../../lib/mixing/head-statistics.ts'
import { HEADS } from '../../lib/prediction/heads.ts'
import type { HeadWeights } from '../../lib/prediction/signal-weights.ts'
import { combineBySignal, defaultCombine, openCombine, parseCombine } from '../../lib/sampling/combine.ts'
import { Denoiser } from '../../lib/sampling/denoiser.ts'
import { sample } from '../../lib/sampling/sample.ts'
import { NoiseSchedule } from '../../lib/schedule/noise-schedule.ts'
import { logSnr, losses } from '../support/heads.ts'
import { rejection } from '../support/rejection.ts'
import { tinyTrainer } from '../support/tiny.ts'

describe('combineBySignal', () => {
  const schedule = NoiseSchedule.create({ name: 'cosine', timestepCount: 10 })
  const at = (heads: Parameters<typeof combineBySignal>[1], t: number): HeadWeights =>
    (combineBySignal(schedule, heads) as (t: number) => HeadWeights)(t)

  it('trusts eps where there is signal and xStart where there is noise, with weights that add up to 1', () => {
    const [clean, noisy] = [at(['xStart', 'v', 'eps'], 0), at(['xStart', 'v', 'eps'], 9)]
    expect(clean.eps).to.be.greaterThan(0.45)
    expect(noisy.xStart).to.be.greaterThan(0.45)
    for (const { xStart = 0, v = 0, eps = 0 } of [clean, noisy])
      expect(xStart + v + eps).to.be.closeTo(1, 1e-12)
  })

  it('does with the heads that there are', () => {
    const alphaBar = schedule.alphaBarAt(3)
    const two = at(['v', 'eps'], 3)
    expect(two.v).to.be.closeTo(1 / (1 + alphaBar), 1e-12)
    expect(two.eps).to.be.closeTo(alphaBar / (1 + alphaBar), 1e-12)
    expect(at(['xStart', 'v'], 3).xStart).to.be.closeTo((1 - alphaBar) / (2 - alphaBar), 1e-12)
    expect(at(['eps'], 3)).to.deep.equal({ eps: 1 })
    const { xStart = 0, eps = 0 } = at(['xStart', 'eps'], 3)
    expect(xStart + eps).to.be.closeTo(1, 1e-12)
    expect(eps).to.be.closeTo(alphaBar, 1e-12)
  })

  it('is the mixture of least error where errors are independent and of one size in each output', () => {
    const a = schedule.alphaBarAt(6)
    const inXStart = { xStart: 1, v: 1 - a, eps: (1 - a) / a } // squares of what an error of 1 is in xStart
    for (const heads of [['xStart', 'v'], ['v', 'eps'], ['xStart', 'eps'], HEADS] as const) {
      const products = heads.flatMap((h) => heads.map((g) => (h === g ? inXStart[h] : 0)))
      const best = blueWeights(products, { ridge: 0, limits: [-9, 9] })
      const weights = at(heads, 6)
      for (const [i, head] of heads.entries()) expect(weights[head]).to.be.closeTo(best[i] as number, 1e-6)
    }
  })

  it('is read from words, as are heads and weights', () => {
    expect(parseCombine('v', schedule, ['v', 'eps'])).to.equal('v')
    expect(parseCombine('mean', schedule, ['v', 'eps'])).to.deep.equal({ v: 0.5, eps: 0.5 })
    expect(parseCombine('xStart=0.3,v=0.7', schedule, ['xStart', 'v'])).to.deep.equal({ xStart: 0.3, v: 0.7 })
    expect(parseCombine('signal', schedule, ['v'])).to.be.a('function')
    expect(() => parseCombine('eps', schedule, ['v'])).to.throw(
      'parseCombine: expected combine to be among the network\'s heads (v), got "eps"',
    )
    expect(() => parseCombine('best', schedule, ['v'])).to.throw(
      'parseCombine: expected combine to be signal, table, blue, mean, gate, one of v, or weights such as xStart=0.3,v=0.7, got "best"',
    )
  })
})

describe('parseCombine', () => {
  it('checks weights: heads that the network has, each once, adding up to 1', () => {
    const schedule = NoiseSchedule.create({ name: 'linear' })
    const parse = (text: unknown) => () => parseCombine(text as string, schedule, HEADS)
    expect(parse('xStart=0.25,v=0.75')()).to.deep.equal({ xStart: 0.25, v: 0.75 })
    expect(parse('v=2')).to.throw('parseCombine: expected combine to be weights that add up to 1, got 2')
    expect(parse('F=1')).to.throw('among the network\'s heads (xStart, v, eps), got "F"')
    expect(parse('v=0.5,v=0.5')).to.throw('to be weights that name each head once, got "v=0.5,v=0.5"')
    expect(parse({ v: 1 })).to.throw(TypeError, 'parseCombine: expected combine to be a string, got {"v":1}')
  })
})

describe('defaultCombine', () => {
  it('is signal for one head, and where all heads are trained alike', () => {
    for (const choose of ['min', 'relaxed', 'v', 'given'] as const)
      expect(defaultCombine(['v'], choose)).to.equal('signal')
    for (const choose of ['mean', 'given', undefined] as const)
      expect(defaultCombine(HEADS, choose)).to.equal('signal')
    for (const mix of ['all-own', 'all', 'uncertainty', 'normalised', 'merge'])
      expect(defaultCombine(HEADS, 'mean', mix), mix).to.equal('signal')
  })

  it('is the best mixture where heads specialise, or are left behind', () => {
    for (const choose of ['min', 'minBatch', 'minPixel', 'relaxed', 'softmin'] as const)
      expect(defaultCombine(HEADS, choose)).to.equal('blue')
    // What a run keeps is the choice that the strategy needs for its warm-up, or its shares.
    for (const [choose, mix] of [
      ['relaxed', 'paper:warmup=500'],
      ['relaxed', 'min-common:warmup=10'],
      ['relaxed', 'relaxed:from=0.1,to=0.1'],
      ['given', 'table'],
      ['given', 'table:best=1'],
      ['mean', 'all-own:eps=4'],
      ['mean', 'consensus'],
    ] as const)
      expect(defaultCombine(HEADS, choose, mix), mix).to.equal('blue')
  })

  it('is the only head that was trained', () => {
    expect(defaultCombine(HEADS, 'eps')).to.equal('eps')
  })
})

describe('parseCombine with statistics of the heads', () => {
  const schedule = NoiseSchedule.create({ name: 'linear' })
  const statistics = new HeadStatistics({ heads: HEADS, logSnr: logSnr(schedule), binCount: 4 })
  const many = (t: number): number[] => new Array(40).fill(t)
  statistics.observe(losses(many(5), [1, 0.5, 0.25]))
  statistics.observe(losses(many(300), [4, 1, 2]))
  const at = (word: 'table' | 'blue', t: number) =>
    (parseCombine(word, schedule, HEADS, { statistics }) as (t: number) => string | HeadWeights)(t)

  it('takes the best head of each noise level for table, also at fractional timesteps', () => {
    expect([at('table', 0), at('table', 10.25), at('table', 300.5)]).to.deep.equal(['eps', 'eps', 'v'])
  })

  it('takes the best linear mixture for blue, with weights that add up to 1 everywhere', () => {
    const [xStart, v, eps] = [1 / 7, 2 / 7, 4 / 7]
    const first = at('blue', 0) as HeadWeights
    expect(first.xStart).to.be.closeTo(xStart, 1e-3)
    expect(first.v).to.be.closeTo(v, 1e-3)
    expect(first.eps).to.be.closeTo(eps, 1e-3)
    for (const t of [0, 13.7, 60, 120.5, 300, 999]) {
      const sum = Object.values(at('blue', t) as HeadWeights).reduce((a, b) => a + b, 0)
      expect(sum, `t ${t}`).to.be.closeTo(1, 1e-9)
    }
  })

  it('trusts the signal where too few images were seen', () => {
    const signal = (combineBySignal(schedule, HEADS) as (t: number) => HeadWeights)(999)
    expect([at('table', 999), at('blue', 999)]).to.deep.equal([signal, signal])
  })

  it('draws images, each step with its own weights', async () => {
    const { unet, schedule: trained } = await tinyTrainer()
    const draw = async (word: string): Promise<Float32Array> => {
      const combine = parseCombine(word, trained, HEADS, { statistics })
      const process = trained.respace({ spacing: 'karras', steps: 4 })
      const denoiser = new Denoiser(unet, process, { combine })
      return (await sample({ denoiser, shape: [1, 1, 8, 8], seed: 1, solver: 'euler' })) as Float32Array
    }
    // An untrained network says 0 with every head, which is another xStart for each of them.
    const drawn = await Promise.all(['blue', 'table', 'signal', 'v'].map(draw))
    for (const [i, one] of drawn.entries()) {
      expect(one.every(Number.isFinite)).to.equal(true)
      for (const other of drawn.slice(i + 1)) expect(one).to.not.deep.equal(other)
    }
  })

  it('says what is missing and how to get it', async () => {
    expect(() => parseCombine('blue', schedule, HEADS, { path: 'step-7' })).to.throw(
      'parseCombine: expected statistics of the heads in step-7 for combine blue, got none; checkpoints of runs with ' +
        'several heads hold them, or name a file that trislot measure --head-statistics wrote: blue=FILE (in a program with openCombine)',
    )
    expect(() => parseCombine('blue', schedule, HEADS)).to.throw(
      'parseCombine: expected statistics of the heads for combine blue, got none; ',
    )
    expect(() => parseCombine('blue', schedule, ['v'])).to.throw(
      'for combine blue, got none; a network of one head (v) has nothing to combine',
    )
    expect(() => parseCombine('table', schedule, ['v', 'eps'], { statistics })).to.throw(
      'parseCombine: expected statistics for combine table to be of the network\'s heads (v, eps), got "xStart, v, eps"',
    )
    expect((await rejection(openCombine('blue=nowhere.json', schedule, HEADS))).message).to.equal(
      'readHeadStatistics: expected nowhere.json to hold head statistics, got no file that can be read (ENOENT); ' +
        'trislot measure --head-statistics writes one',
    )
  })
})
