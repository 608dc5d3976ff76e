import { expect } from 'chai'
import { type RunOptions, runConfig } from '../../lib/training/run-config.ts'
import { RUN_RECIPES, rateOfHalfLife } from '../../lib/training/run-recipes.ts'
import { rejection } from '../support/rejection.ts'

const base = { data: 'digits', steps: 6000 } as const

describe('Recipes of a run', () => {
  it('guided-diffusion is one eps head, uniform timesteps, and averages per step without warm-up or clipping', async () => {
    const config = await runConfig({ ...base, recipe: 'guided-diffusion', batchSize: 4 })
    expect(config).to.deep.include({
      ...{ heads: ['eps'], sampler: 'uniform', choose: 'mean', space: 'own', lr: 1e-4, batchSize: 4 },
      ...{ emaRates: [0.9999], emaWarmsUp: false, clipNorm: 0, weightDecay: 0, beta2: 0.999, warmupSteps: 0 },
    })
  })

  it('paper is three heads, the smallest raw error, and ten slots of equal loss of Gaussian images in turn', async () => {
    const config = await runConfig({ ...base, recipe: 'paper' })
    expect(config).to.deep.include({
      ...{ heads: ['xStart', 'v', 'eps'], choose: 'min', compare: 'own', space: 'own' },
      ...{ sampler: 'slots', slots: 10, slotPlan: 'round-robin', importanceWeights: false },
      slotEdges: [0, 12, 26, 40, 57, 78, 104, 138, 189, 275, 1000], // of 28 x 28 pixels; math.md has those of 32 and 64
    })
  })

  it('small-batch is three heads, each with its own error and eps above all, half of the timesteps by the cosine law, and half-lives in images', async () => {
    const config = await runConfig({ ...base, recipe: 'small-batch', batchSize: 4 })
    expect(config).to.deep.include({
      heads: ['xStart', 'v', 'eps'],
      ...{ mix: 'all-own:eps=4', choose: 'mean', space: 'own', combine: 'blue' },
      sampler: 'cosine',
      stream: 'golden',
      uniformShare: 0.5,
      clipNorm: 1,
      emaHalfLife: [1200],
    })
    expect(config.emaRates).to.deep.equal([0.5 ** (4 / 1200)])
    expect(config.beta2).to.equal(0.5 ** (4 / config.beta2HalfLife!))
    const learned = await runConfig({ ...base, recipe: 'small-batch', weighting: 'uncertainty' })
    expect([learned.heads?.length, learned.mix]).to.deep.equal([3, undefined])
    expect(learned.sampler).to.equal('golden') // a law would count a second time
    for (const one of [{ space: 'F' }, { weighting: 'min-snr' }] as const) {
      const { heads, space, mix } = await runConfig({ ...base, recipe: 'small-batch', ...one })
      expect([heads, space, mix]).to.deep.equal([['v'], 'space' in one ? 'F' : 'own', undefined])
    }
    for (const one of [{ heads: ['v', 'eps'] }, { choose: 'mean' }, { gate: true }] as const) {
      const { mix, combine } = await runConfig({ ...base, recipe: 'small-batch', ...(one as object) })
      expect([mix, combine], Object.keys(one)[0]).to.deep.equal([undefined, 'signal'])
    }
    const long = await runConfig({ ...base, steps: 10_000_000, recipe: 'small-batch' })
    expect(long.emaHalfLife).to.deep.equal([500_000])
  })

  it('small-batch trains each head above all where it is the best for super-resolution, unless heads are given', async () => {
    const larger = { ...base, recipe: 'small-batch', superResolution: 4 } as const
    const config = await runConfig(larger)
    const found = { mix: 'table', choose: 'given', space: 'own', combine: 'blue' }
    expect(config).to.deep.include({ ...found, heads: ['xStart', 'v', 'eps'] })
    expect(await runConfig(config as RunOptions)).to.deep.equal(config)
    for (const [given, heads] of [
      [{ heads: ['xStart'] }, ['xStart']],
      [{ choose: 'mean' }, ['xStart', 'v', 'eps']],
      [{ space: 'F' }, ['v']],
    ] as const) {
      const other = await runConfig({ ...larger, ...(given as object) })
      expect([other.mix, other.choose, other.heads]).to.deep.equal([undefined, 'mean', heads])
    }
    expect((await runConfig({ ...larger, mix: 'all-own' })).combine).to.equal('signal')
  })

  it('give way to options, and their half-lives to rates', async () => {
    const config = await runConfig({
      ...{ ...base, recipe: 'small-batch', lr: 3e-4, sampler: 'systematic' },
      ...{ emaRates: [0.99], beta2: 0.9 },
    })
    expect(config).to.deep.include({
      lr: 3e-4,
      sampler: 'systematic',
      emaRates: [0.99],
      beta2: 0.9,
      space: 'own',
    })
    expect(config.emaHalfLife).to.equal(undefined)
    expect([config.stream, config.uniformShare]).to.deep.equal([undefined, undefined])
    const spread = await runConfig({
      ...base,
      recipe: 'small-batch',
      stream: 'systematic',
      uniformShare: 0.2,
    })
    expect(spread).to.deep.include({ sampler: 'cosine', stream: 'systematic', uniformShare: 0.2 })
    const images = await runConfig({ ...base, recipe: 'guided-diffusion', emaHalfLife: [2000] })
    expect(images.emaRates).to.deep.equal([rateOfHalfLife(2000, 32)])
    const unslotted = await runConfig({ ...base, recipe: 'paper', sampler: 'uniform' })
    expect(unslotted.slots).to.equal(undefined)
    const edges = await runConfig({ ...base, recipe: 'paper', slotEdges: [0, 100, 1000] })
    expect(edges.slots).to.equal(2)
  })

  it('combine with a preset: the preset is the network, the recipe the training', async () => {
    const config = await runConfig({ ...base, recipe: 'small-batch', preset: 'tiny' })
    const network = await runConfig({ ...base, preset: 'tiny' })
    expect(config.modelChannels).to.equal(network.modelChannels)
    expect(config.heads).to.deep.equal(['xStart', 'v', 'eps'])
  })

  it('give the same configuration when it is read back', async () => {
    for (const recipe of RUN_RECIPES) {
      const config = await runConfig({ ...base, recipe })
      expect(await runConfig(config as RunOptions)).to.deep.equal(config)
    }
  })

  it('are refused by name, and rates beside half-lives', async () => {
    for (const [options, message] of [
      [
        { recipe: 'smallbatch' },
        'recipe to be one of small-batch, paper, guided-diffusion, got "smallbatch"; did you mean small-batch?',
      ],
      [
        { emaHalfLife: [9], emaRates: [0.5] },
        'emaRates to be absent when emaHalfLife is given, which makes it, got [0.5]',
      ],
      [
        { beta2HalfLife: 9, beta2: 0.5 },
        'beta2 to be absent when beta2HalfLife is given, which makes it, got 0.5',
      ],
      [{ emaHalfLife: [0] }, 'emaHalfLife[0] to be a number > 0, got 0'],
    ] as const) {
      const error = await rejection(runConfig({ ...base, ...options } as unknown as RunOptions))
      expect(error.message).to.equal(`run: expected ${message}`)
    }
  })
})

describe('rateOfHalfLife', () => {
  it('halves what is left after as many images', () => {
    expect(rateOfHalfLife(1000, 4) ** 250).to.be.closeTo(0.5, 1e-12)
    expect(rateOfHalfLife(4, 4)).to.equal(0.5)
  })
})
