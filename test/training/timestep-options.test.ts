import { join } from 'node:path'
import { expect } from 'chai'
import { gaussianEpsLoss } from '../../lib/analysis/gaussian-model.ts'
import { HEADS } from '../../lib/prediction/heads.ts'
import { NoiseSchedule } from '../../lib/schedule/noise-schedule.ts'
import { STREAMS } from '../../lib/timesteps/stream.ts'
import { WEIGHTING_NAMES } from '../../lib/timesteps/weighting.ts'
import { readCheckpoint } from '../../lib/training/checkpoint.ts'
import { run } from '../../lib/training/run.ts'
import { type RunOptions, runConfig, runWarnings } from '../../lib/training/run-config.ts'
import { runAlphaBar, SAMPLER_NAMES, timestepSampler } from '../../lib/training/timestep-options.ts'
import { rejection } from '../support/rejection.ts'
import { SMALL, smallData } from '../support/small-run.ts'

const config = (options: Partial<RunOptions>) =>
  runConfig({ data: 'digits', steps: 10, heads: ['v'], ...options })

describe('Timestep options of a run', () => {
  it('draw with every sampler on every stream', async () => {
    const isStream = (name: string): boolean => (STREAMS as readonly string[]).includes(name)
    for (const sampler of SAMPLER_NAMES)
      for (const stream of isStream(sampler) ? [undefined] : STREAMS) {
        const drawn = timestepSampler(await config({ sampler, stream })).sampler.draw(4, 2)
        expect(
          [...drawn.t].every((t) => t >= 0 && t < 1000),
          `${sampler} ${stream}`,
        ).to.equal(true)
      }
  })

  it('show the numbers of samplers and weightings, filled in', async () => {
    expect((await config({ sampler: 'clts', timestepCount: 100 })).samplerNumbers).to.deep.equal([
      30, 15, 50_000,
    ])
    expect((await config({ sampler: 'cosine' })).samplerNumbers).to.deep.equal([1])
    expect((await config({ sampler: 'constant-rate' })).samplerNumbers).to.deep.equal([28, 0.25]) // of the digits
    expect((await config({ sampler: 'constant-rate', data: 'emoji', size: 48 })).samplerNumbers![0]).to.equal(
      48,
    )
    const interpolated = { sampler: 'cosine-interpolated', data: 'emoji', size: 48 } as const
    expect((await config(interpolated)).samplerNumbers).to.deep.equal([48, 32, 48])
    expect((await config({ sampler: 'cosine-interpolated' })).samplerNumbers).to.deep.equal([28, 28, 28])
    expect((await config({ sampler: 'constant-rate', sigmaData: 0.3 })).samplerNumbers![1]).to.be.closeTo(
      0.09,
      1e-12,
    )
    expect((await config({ weighting: 'cluster-uncertainty' })).weightingNumbers).to.deep.equal([5])
    expect(
      (await config({ weighting: 'cluster-uncertainty', respacing: '4' })).weightingNumbers,
    ).to.deep.equal([4])
    expect((await config({ weighting: 'edm', sigmaData: 0.25 })).weightingNumbers).to.deep.equal([0.25])
    const monotonic = await config({ weighting: 'edm-monotonic', sigmaData: 0.25 })
    expect(monotonic.weightingNumbers).to.deep.equal([-1.2, 1.2, 0.25])
    const changeAware = { weighting: 'change-aware', timestepCount: 200 } as const
    expect((await config(changeAware)).weightingNumbers).to.deep.equal([0.6, 140])
    expect((await config({ ...changeAware, respacing: '50' })).weightingNumbers).to.deep.equal([0.6, 35])
    expect((await config({ weighting: 'soft-min-snr' })).weightingNumbers).to.deep.equal([4])
    expect((await config({ weighting: 'min-snr', weightingNumbers: [7] })).weightingNumbers).to.deep.equal([
      7,
    ])
  })

  it('are the same when the configuration is read back', async () => {
    const first = await config({
      sampler: 'edm',
      weighting: 'sigmoid',
      stream: 'golden',
      importanceWeights: true,
    })
    expect(await runConfig(first as RunOptions)).to.deep.equal(first)
  })

  it('leave no timestep undrawn where there is no signal', async () => {
    const options = { sampler: 'constant-rate', zeroTerminalSnr: true } as const
    expect((await config(options)).uniformShare).to.equal(0.01)
    const t = new Set<number>()
    const { sampler } = timestepSampler(await config({ ...options, stream: 'systematic' }))
    for (const value of sampler.draw(100_000, 0).t) t.add(value)
    expect(t.size).to.equal(1000)
  })

  it('divide densities out of a learned law with importance weights', async () => {
    const options = {
      sampler: 'time-warping',
      importanceWeights: true,
      weighting: 'sigmoid',
      space: 'F',
    } as const
    const { sampler } = timestepSampler(await config(options))
    expect(sampler.name).to.equal('time-warping')
    expect([...sampler.draw(8, 0).weight].every((value) => value > 0)).to.equal(true)
  })

  it('weigh with every weighting in the space of the loss, of the only head, or of the chosen head', async () => {
    const schedule = NoiseSchedule.create({ name: 'linear', timestepCount: 1000 })
    const { snr } = schedule.tables
    schedule.dispose()
    for (const weighting of WEIGHTING_NAMES) {
      const { weight } = timestepSampler(await config({ weighting, space: 'F' })).sampler.draw(4, 0)
      expect(
        [...weight].every((value) => value > 0),
        weighting,
      ).to.equal(true)
    }
    const head = timestepSampler(await config({ weighting: 'constant' })).sampler.draw(4, 0)
    for (const [i, t] of head.t.entries()) expect(head.weight[i]! * (1 + snr[t]!)).to.be.closeTo(1, 1e-5)
    const eps = timestepSampler(
      await config({ weighting: 'constant', heads: ['xStart', 'eps'], choose: 'eps' }),
    ).sampler.draw(4, 0)
    for (const [i, t] of eps.t.entries()) expect(eps.weight[i]! * snr[t]!).to.be.closeTo(1, 1e-5)
  })

  it('weigh by change with a tau that is given as a timestep', async () => {
    const changeAware = await config({
      weighting: 'change-aware',
      weightingNumbers: [0.6, 300],
      heads: ['eps'],
    })
    const { t, weight } = timestepSampler(changeAware).sampler.draw(64, 0)
    for (const [i, value] of t.entries())
      if (value < 300) expect(weight[i]).to.be.within(0.4, 0.6 + 1e-6)
      else expect(weight[i]).to.be.closeTo(1, 1e-6)
  })

  it('divide a density by how often timesteps are drawn, uniform share included', async () => {
    const densities = ['sigmoid', 'edm-monotonic', 'cosmap'] as const
    for (const weighting of densities) {
      const options = { weighting, space: 'F', sampler: 'laplace' } as const
      const weightAt = async (more: Partial<RunOptions>) => {
        const { t, weight } = timestepSampler(await config({ ...options, ...more })).sampler.draw(256, 0)
        return new Map(Array.from(t, (value, i) => [value, weight[i]!]))
      }
      const [mixed, uniform] = [await weightAt({ uniformShare: 1 }), await weightAt({ sampler: 'uniform' })]
      const both = [...mixed.keys()].filter((t) => uniform.has(t))
      expect(both.length).to.be.above(10)
      for (const t of both) expect(mixed.get(t)! / uniform.get(t)!).to.be.closeTo(1, 1e-5)
    }
  })

  it('are refused where they mean nothing', async () => {
    for (const [options, message] of [
      [{ sampler: 'golden', stream: 'iid' }, 'stream to be absent when sampler is golden, which is a stream, got "iid"'],
      [{ sampler: 'mode', samplerNumbers: [1, 2] }, 'samplerNumbers to be 1 numbers (kappa), got [1, 2]'],
      [{ samplerNumbers: [1] }, 'samplerNumbers to be absent unless sampler is one of logit-normal, mode, beta, laplace, cauchy, edm, cosine, cosine-interpolated, constant-rate, speed, clts, loss-second-moment, adaptive-density, time-warping, curriculum, got [1]'],
      [{ uniformShare: 0.5, sampler: 'slots' }, 'uniformShare to be absent unless sampler is one of logit-normal, mode, beta, laplace, cauchy, edm, cosine, cosine-interpolated, constant-rate, speed, clts, adaptive-density, time-warping, got 0.5'],
      [{ weightingNumbers: [1] }, 'weightingNumbers to be absent without weighting, got [1]'],
      [{ weighting: 'debias', weightingNumbers: [1] }, 'weightingNumbers to be absent, got [1]'],
      [{ weighting: 'debias', heads: ['xStart', 'v'] }, 'space to be one of xStart, v, eps, F when weighting is given and several heads, or xPrev, are trained, got "own"; or give heads v'],
      [{ weighting: 'debias', heads: ['xPrev'] }, 'space to be one of xStart, v, eps, F when weighting is given and several heads, or xPrev, are trained, got "own"; or give heads v'],
      [{ weighting: 'debias', loss: 'kl' }, 'weighting to be absent with loss kl, which weighs timesteps itself, got "debias"'],
      [{ weighting: 'sigmoid', sampler: 'slots' }, 'weighting to be one that needs no density of the timesteps, because sampler is slots, got "sigmoid"; give importanceWeights, or a law that is the same at every step'],
      [{ weighting: 'edm-monotonic', sampler: 'speed' }, 'weighting to be one that needs no density of the timesteps, because sampler is speed, got "edm-monotonic"; give importanceWeights, or a law that is the same at every step'],
      [{ weighting: 'cosmap', sampler: 'clts' }, 'weighting to be one that needs no density of the timesteps, because sampler is clts, got "cosmap"; give importanceWeights, or a law that is the same at every step'],
      [{ weighting: 'change-aware', weightingNumbers: [0.6] }, 'weightingNumbers to be 2 numbers (lambda, tau), got [0.6]'],
      [{ slotRefreshRule: 'loss', sampler: 'slots' }, 'slotRefreshRule to be absent without slotRefresh, got "loss"'],
      [{ slotRefresh: 9 }, 'slotRefresh to be absent unless sampler is slots, got 9'],
      [{ weighting: 'uncertainty', weightingNumbers: [1] }, 'weightingNumbers to be absent, got [1]'],
      [{ weighting: 'sigmoid', sampler: 'time-warping' }, 'weighting to be one that needs no density of the timesteps, because sampler is time-warping, got "sigmoid"; give importanceWeights, or a law that is the same at every step'],
      [{ directionWeight: 1, heads: ['eps'] }, 'directionWeight to be absent where v is not trained (heads eps, choose mean), got 1'],
      [{ directionWeight: 1, heads: undefined, choose: 'eps' }, 'directionWeight to be absent where v is not trained (heads xStart, v, eps, choose eps), got 1'],
      [{ directionWeight: 1, heads: undefined, mix: 'merge' }, 'directionWeight to be absent where v is not trained (heads xStart, eps, choose given), got 1'],
      [{ directionWeight: 1, loss: 'kl' }, 'directionWeight to be absent with loss kl, got 1'],
      [{ sampler: 'time-warping', heads: ['xPrev'] }, 'sampler to be another one for a network of xPrev, got "time-warping"'],
      [{ sampler: 'time-warping', referenceBatch: 8 }, 'referenceBatch to be absent with sampler time-warping, got 8; errors against the mean of many images fall with the noise'],
      [{ referenceBatch: 8, loss: 'kl' }, 'referenceBatch to be absent with loss kl, got 8; the bound has no target but the image'],
      [{ referenceBatch: 8, classes: 'data' }, 'referenceBatch to be absent for a conditional network, got 8; its images would need the condition of every example'],
      [{ slotRule: 'even' }, 'slotRule to be absent unless sampler is slots, got "even"'],
      [{ slotRule: 'even', sampler: 'slots', slotEdges: [0, 1000] }, 'slotRule to be absent when slotEdges is given, got "even"'],
    ] as const) {
      const error = await rejection(config(options as unknown as Partial<RunOptions>))
      expect(error.message).to.equal(`run: expected ${message}`)
    }
  }) // biome-ignore format: one case a line
})

describe('Numbers of a sampler', () => {
  it('are checked before a run begins', async () => {
    for (const [options, message] of [
      [{ sampler: 'mode', samplerNumbers: [9] }, /^modeLaw: expected kappa to be a number in/],
      [
        { sampler: 'curriculum', samplerNumbers: [2.5, 1] },
        /^curriculumSampler: expected clusterCount to be an integer/,
      ],
      [
        { weighting: 'p2', weightingNumbers: [1, -1] },
        /^weightingOf: expected gamma to be a number > 0, got -1/,
      ],
      [
        { weighting: 'change-aware', weightingNumbers: [0.6, 0.7] },
        /^weightingFactors: expected tau to be an integer in \[0, 1000\], got 0.7/,
      ],
    ] as const)
      expect((await rejection(config(options as unknown as Partial<RunOptions>))).message).to.match(message)
  })
})

describe('A run that learns its timesteps', () => {
  let small: Awaited<ReturnType<typeof smallData>>
  before(async () => {
    small = await smallData()
  })
  after(() => small.remove())

  const learners: [name: string, options: Partial<RunOptions>][] = [
    ['adaptive density', { sampler: 'adaptive-density', weighting: 'min-snr' }],
    ['learned uncertainty', { weighting: 'uncertainty', sampler: 'golden' }],
    ['time warping and clusters of uncertainty', { sampler: 'time-warping', samplerNumbers: [4, 0.9], weighting: 'cluster-uncertainty', weightingNumbers: [3], directionWeight: 1 }],
    ['a curriculum', { sampler: 'curriculum', samplerNumbers: [4, 2] }],
    ['refreshed slots', { sampler: 'slots', slots: 2, slotRefresh: 2, slotRefreshRule: 'loss-moment', importanceWeights: true }],
  ] // biome-ignore format: one case a line
  for (const [name, own] of learners) {
    it(`continues bit for bit with ${name}`, async () => {
      const options = (folder: string, steps: number): RunOptions => ({
        ...{ ...SMALL, data: small.data, run: join(small.folder, name + folder), steps },
        ...{ space: 'F', timestepCount: 12, ...own },
      })
      await run(options('twice', 5))
      const twice = await run(options('twice', 11))
      const once = await run(options('once', 11))
      const [a, b] = [
        await readCheckpoint(twice.checkpoint as string),
        await readCheckpoint(once.checkpoint as string),
      ]
      expect(a.files).to.deep.equal(b.files)
      expect(a.sampler).to.deep.equal(b.sampler)
      expect(a.sampler?.state).not.to.equal(null)
    })
  }

  it('continues bit for bit with a stable target field, whose targets are not the images', async () => {
    const options = (folder: string, steps: number, referenceBatch?: number): RunOptions => ({
      ...{ ...SMALL, data: small.data, run: join(small.folder, `field-${folder}`), steps, referenceBatch },
    })
    await run(options('twice', 5, 6))
    const found = [
      await run(options('twice', 11, 6)),
      await run(options('once', 11, 6)),
      await run(options('without', 11)),
    ].map(({ checkpoint }) => readCheckpoint(checkpoint as string))
    const [a, b, without] = await Promise.all(found)
    expect(a?.files).to.deep.equal(b?.files)
    expect(a?.files).not.to.deep.equal(without?.files)
  })

  it('trains on with more steps when what its recipe derived from them is given', async () => {
    const { emaRates: _, warmupSteps: __, ...rest } = SMALL
    const options = (steps: number): RunOptions => ({
      ...{ ...rest, data: small.data, run: join(small.folder, 'longer'), steps },
      ...{ recipe: 'small-batch', choose: undefined },
    })
    await run(options(40))
    const error = await rejection(run(options(80)))
    expect(error.message).to.match(
      /expected warmupSteps to be 2, as when .* began, got 4; .*emaHalfLife to be \[8\]/,
    )
    expect(error.message).to.include(
      'a recipe derives emaHalfLife and warmupSteps from steps; give them as they were',
    )
    const longer = await run({ ...options(42), emaHalfLife: [8], warmupSteps: 2 })
    expect(longer.step).to.equal(42)
  })

  it('says what counts twice, and trains', async () => {
    const lines: string[] = []
    const { emaRates: _, ...rest } = SMALL
    await run(
      {
        ...{ ...rest, data: small.data, run: join(small.folder, 'paper'), steps: 1 },
        ...{ sampler: undefined, recipe: 'paper', timestepCount: 20 },
      },
      { log: (line) => lines.push(line) },
    )
    expect(lines.filter((line) => line.startsWith('warning:'))).to.deep.equal([
      'warning: slots of equal loss without importance weights: timesteps count in proportion to their loss, ' +
        'the objective of the paper; importanceWeights makes them count the same',
    ])
  })
})

describe('Slots that are cut anew', () => {
  const refresh: Partial<RunOptions> = { sampler: 'slots', slots: 4, slotRefresh: 1 }

  it('take the second moment of the gradient as it is weighted', async () => {
    const rule: Partial<RunOptions> = { ...refresh, slotRefreshRule: 'gradient-moment', heads: ['eps'] }
    const ends = async (options: Partial<RunOptions>, moment: (snr: number) => number) => {
      const { refreshed, slots } = timestepSampler(await config({ ...rule, ...options }))
      refreshed!.recut(runAlphaBar({ timestepCount: 1000 }).map((a) => moment(a / (1 - a))))
      return slots!().map(({ end }) => end)
    }
    // 'constant' on xStart is 1 / snr on eps, so its gradient is, too, and the second moment 1 / snr^2.
    const weighed = await ends({ weighting: 'constant' }, (snr) => snr ** 2)
    expect(weighed).to.deep.equal([250, 500, 750, 1000])
    expect(await ends({}, (snr) => snr ** 2)).to.not.deep.equal(weighed)
  })

  it('have an excess over Gaussian images in the unit of the loss', async () => {
    const alphaBar = runAlphaBar({ timestepCount: 1000 })
    const gaussian = gaussianEpsLoss({ size: 28, alphaBar })
    const cut = async (options: Partial<RunOptions>, unit: (t: number) => number) => {
      const given = await config({ ...refresh, slotRefreshRule: 'excess', ...options })
      const { sampler, slots } = timestepSampler({ ...given, slotRefresh: 40 }, 28)
      for (let step = 0; step < 40; step++) {
        const t = Int32Array.from({ length: 100 }, (_, i) => i * 10 + (step % 10))
        const above = (s: number): number => (s >= 600 ? 1.5 : 0.5) // of what Gaussian images leave
        const loss = Float32Array.from(t, (s) => above(s) * unit(s))
        sampler.observe!({ t, loss, heads: ['eps'], perHead: loss, chosen: new Int32Array(100) })
      }
      return slots!()[0]!.end
    }
    const snr = (t: number) => alphaBar[t]! / (1 - alphaBar[t]!)
    expect(await cut({ heads: ['eps'] }, (t) => gaussian[t]!)).to.be.within(600, 800)
    const inF = (t: number) => (gaussian[t]! * (snr(t) + 4)) / snr(t)
    expect(await cut({ heads: ['v'], space: 'F' }, inF)).to.be.within(600, 800)
    const all = (t: number) => (gaussian[t]! * (1 + (1 + snr(t)) + snr(t))) / snr(t) / 3
    expect(await cut({}, all)).to.be.within(600, 800)
    const weighed = await rejection(
      config({ ...refresh, slotRefreshRule: 'excess', weighting: 'uncertainty' }),
    )
    expect(weighed.message).to.include('expected slotRefreshRule to be absent with weighting uncertainty')
  })
})

describe('Double counting', () => {
  it('is refused where it is certain', async () => {
    for (const [options, message] of [
      [
        { sampler: 'loss-second-moment', importanceWeights: true },
        'importanceWeights to be absent with a sampler whose weights are 1 / (T p) already, got true; its weights would be applied twice',
      ],
      [
        { sampler: 'golden', importanceWeights: true },
        'importanceWeights to be absent unless sampler is slots or a law that is not uniform, got true; they would all be 1',
      ],
    ] as const) {
      const error = await rejection(config(options))
      expect(error.message).to.equal(`run: expected ${message}`)
    }
  })

  it('is warned of where it may be meant', async () => {
    const warnings = async (options: Partial<RunOptions>): Promise<string[]> =>
      runWarnings(await config(options)).map((text) => text.split(':')[0]!)
    const heads = [...HEADS]
    const byLoss = { sampler: 'slots', slotRule: 'gaussian' } as const
    const slots = 'slots of equal loss without importance weights'
    const law = 'a law that is part of the objective, and a weighting'
    expect(await warnings(byLoss)).to.deep.equal([slots])
    expect(await warnings({ ...byLoss, weighting: 'min-snr' })).to.deep.equal([
      `${slots}, and a weighting that evens timesteps out`,
      slots,
    ])
    expect(await warnings({ ...byLoss, weighting: 'lsimple' })).to.deep.equal([slots])
    expect(await warnings({ ...byLoss, importanceWeights: true, weighting: 'p2' })).to.deep.equal([])
    expect(await warnings({ sampler: 'slots', slotRefresh: 10 })).to.deep.equal([slots])
    expect(await warnings({ sampler: 'adaptive-density', weighting: 'uncertainty' })).to.deep.equal([
      'learned uncertainty, and draws by the size of the loss',
    ])
    expect(await warnings({ sampler: 'adaptive-density', weighting: 'cluster-uncertainty' })).to.deep.equal([
      'learned uncertainty, and draws by the size of the loss',
    ])
    expect(await warnings({ heads, mix: 'normalised', sampler: 'cosine' })).to.deep.equal([
      'a law that is part of the objective, and a strategy that evens noise levels out',
    ])
    expect(await warnings({ heads, mix: 'normalised', recipe: 'small-batch' })).to.deep.equal([])
    const [unbounded] = await warnings({ heads, mix: 'all-own', space: 'F' })
    expect(unbounded).to.equal('one space for the mean over several heads')
    expect(await warnings({ heads, mix: 'all', space: 'F' })).to.deep.equal([])
    expect(await warnings({ heads, mix: 'uncertainty', weighting: 'cluster-uncertainty' })).to.deep.equal([
      'a strategy that evens noise levels out, and a weighting that does',
    ])
    expect(await warnings({ sampler: 'time-warping', weighting: 'p2' })).to.deep.equal([law])
    expect(
      await warnings({ sampler: 'time-warping', weighting: 'p2', importanceWeights: true }),
    ).to.deep.equal([])
    expect(await warnings({ sampler: 'slots' })).to.deep.equal([])
    expect(await warnings({ sampler: 'edm', weighting: 'edm' })).to.deep.equal([])
    expect(await warnings({ sampler: 'edm', weighting: 'p2' })).to.deep.equal([law])
    expect(await warnings({ sampler: 'speed', weighting: 'change-aware' })).to.deep.equal([])
    expect(await warnings({ sampler: 'cosine', weighting: 'change-aware' })).to.deep.equal([law])
    for (const weighting of ['sigmoid', 'edm-monotonic', 'cosmap'] as const)
      expect(await warnings({ sampler: 'laplace', weighting })).to.deep.equal([])
    expect(await warnings({ sampler: 'laplace', weighting: 'p2', importanceWeights: true })).to.deep.equal([])
    expect(await warnings({ sampler: 'golden', weighting: 'p2' })).to.deep.equal([])
    const evened = { heads, mix: 'normalised:halfLife=100' }
    expect(await warnings({ ...evened, sampler: 'loss-second-moment' })).to.deep.equal([
      'a strategy that evens noise levels out, and draws by the size of the loss',
    ])
    // A weighting of another kind needs a space in common, which such a strategy does not have.
    expect((await rejection(config({ heads, mix: 'uncertainty', weighting: 'min-snr' }))).message).to.contain(
      'expected space to be one of xStart, v, eps, F when weighting is given',
    )
    expect(await warnings({ ...evened, sampler: 'golden' })).to.deep.equal([])
    const crowded: Partial<RunOptions> = { space: 'F', heads: ['xStart', 'v', 'eps'] }
    expect(await warnings(crowded)).to.deep.equal(['one space for the mean over several heads'])
    const harmless: Partial<RunOptions>[] = [
      { heads: ['v'] },
      { space: 'own' },
      { choose: 'min' },
      { mix: 'all' },
    ]
    for (const more of harmless) expect(await warnings({ ...crowded, ...more })).to.deep.equal([])
  })
})
