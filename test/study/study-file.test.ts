import { expect } from 'chai'
import { parseStudy, type StudyOptions, settingsHash } from '../../lib/study/study-file.ts'
import { sweepStudy } from '../../lib/study/sweep.ts'

describe('parseStudy', () => {
  const given: StudyOptions = {
    name: 'small',
    images: 100,
    stopAt: [10, 50, 500],
    base: { data: 'digits', preset: 'tiny', batchSize: 4, lr: 1e-3 },
    arms: { plain: {}, wide: { batchSize: 10, lr: null, evaluate: { combine: 'v', images: 32 } } },
    seeds: [3, 4],
  }
  async function message(changes: Partial<Record<keyof StudyOptions, unknown>>): Promise<string> {
    try {
      await parseStudy({ ...given, ...changes } as StudyOptions)
    } catch (error) {
      return (error as Error).message
    }
    throw new Error('expected a failure')
  }

  it('gives every arm the same images, held-out images and stops, whatever its batch size', async () => {
    const { arms, compare, out } = await parseStudy(given)
    const [plain, wide] = arms
    expect(plain).to.deep.include({ batchSize: 4, steps: 25, stops: [3, 13, 25] })
    expect(wide).to.deep.include({ batchSize: 10, steps: 10, stops: [1, 5, 10] })
    expect(plain?.options).to.deep.include({ lr: 1e-3, heldOut: 512, splitSeed: 0, previewEvery: 0 })
    expect(wide?.options).to.not.have.property('lr')
    expect(wide?.evaluate).to.include({ combine: 'v', images: 32, curveImages: 32, timesteps: 17 })
    expect([compare.control, out]).to.deep.equal(['plain', 'studies/small'])
  })

  it('names what it does not know, and the nearest that it does', async () => {
    expect(await message({ seedz: [1] } as never)).to.contain('unknown seedz (did you mean seeds?)')
    expect(await message({ base: { ...given.base, batchsize: 4 } })).to.contain(
      'runStudy arms.plain: expected an option that exists, got unknown batchsize (did you mean batchSize?)',
    )
    expect(await message({ evaluate: { imagez: 3 } })).to.contain(
      'runStudy evaluate: expected an option that exists, got unknown imagez (did you mean images?)',
    )
    expect(await message({ evaluate: { samples: { stepz: [5] } } })).to.contain('(did you mean steps?)')
    expect(await message({ evaluate: { samples: { solver: 'dpm' } } })).to.contain('expected solver to be ')
  })

  it('refuses metrics that the evaluation does not measure', async () => {
    const compared = (evaluate: object, metric: string) =>
      message({ evaluate, compare: { metrics: [metric] } })
    const samples = { steps: [5] }
    expect(await compared({ samples }, 'frechet@7')).to.contain('(steps 5), got "frechet@7"')
    expect(await compared({ samples }, 'frechet@5@blue')).to.equal(
      'runStudy: expected compare.metrics to be with a combination of some arm or of evaluate.combinations (signal, v), got "frechet@5@blue"',
    )
    expect(await compared({}, 'bitsPerDim')).to.contain('without bitsPerDim, which evaluate does not measure')
    expect(await compared({ bitsPerDim: { images: 513 } }, 'F')).to.contain(
      'expected images to be at most the 512 held out, got 513',
    )
    expect(await compared({ bothWeights: false }, 'F.clipped.raw')).to.equal(
      'runStudy: expected compare.metrics to be of weights that evaluate measures; bothWeights is false, got "F.clipped.raw"',
    )
  })

  it('compares raw weights as well unless it is told otherwise, where they are measured', async () => {
    const metrics = async (evaluate: Record<string, unknown>) =>
      (await parseStudy({ ...given, evaluate })).compare.metrics
    expect(await metrics({})).to.deep.equal(['F', 'v', 'F.raw'])
    expect(await metrics({ bothWeights: false })).to.deep.equal(['F', 'v'])
  })

  it('takes images beside a learning rate that falls after a warm-up', async () => {
    const falling = { heads: ['v'], batchSize: 8, warmupSteps: 20, lrSchedule: 'cosine' } as const
    const { arms } = await parseStudy({ ...given, images: 24_000, stopAt: [], arms: { falling } })
    expect(arms[0]?.config).to.include({ steps: 3000, lrSteps: 3000, warmupSteps: 20 })
    expect(await message({ images: 80, stopAt: [], arms: { falling } })).to.contain(
      'expected lrSteps to be more than the warmupSteps 20, got 10',
    )
  })

  it('refuses evaluations that a trained network could not have', async () => {
    const of = (options: object, evaluate: object) =>
      message({ arms: { one: { heads: ['v'] }, more: { ...options, evaluate } } })
    const three = { heads: ['xStart', 'v', 'eps'] }
    for (const [options, evaluate, expected] of [
      [three, { combinations: ['mean', 'gate'] }, 'expected evaluate.combinations[1] to be a way to combine the arm\'s heads (xStart, v, eps), got "gate"; parseCombine: expected combine to be another word for a network without a gate, got "gate"'],
      [{ heads: ['xStart', 'eps'] }, { combinations: ['v'] }, 'expected evaluate.combinations[0] to be a way to combine the arm\'s heads (xStart, eps), got "v"; parseCombine: expected combine to be among the network\'s heads (xStart, eps), got "v"'],
      [three, { combinations: ['blue=absent.json'] }, 'expected evaluate.combinations[0] to be a way to combine the arm\'s heads (xStart, v, eps), got "blue=absent.json"; '],
      [three, { combine: 'v=0.5,eps=0.6' }, 'expected evaluate.combine to be a way to combine the arm\'s heads (xStart, v, eps), got "v=0.5,eps=0.6"; parseCombine: expected combine to be weights that add up to 1, got 1.1'],
      [three, { combine: 'blu' }, 'expected evaluate.combine to be a way to combine'],
      [{ heads: ['v'] }, { combine: 'blue' }, 'expected evaluate.combine to be a way to combine the arm\'s heads (v), got "blue"; parseCombine: expected statistics of the heads in a run of one head'],
      [{ heads: ['xPrev'] }, {}, 'expected heads to be among xStart, v, eps, F, whose errors are comparable, got ["xPrev"]'],
      [{ respacing: '16' }, {}, 'expected evaluate.timesteps to be an integer in [2, 16], got 17'],
      [{}, { timesteps: [0, 1000] }, 'expected evaluate.timesteps[1] to be an integer in [0, 999], got 1000'],
      [{}, { timesteps: [] }, 'expected evaluate.timesteps.length to be an integer >= 1, got 0'],
      [{}, { samples: { steps: [5, 0] } }, 'expected evaluate.samples.steps[1] to be an integer in [2, 1000], got 0'],
      [{}, { samples: { lowerOrderFinal: false } }, 'expected evaluate.samples.lowerOrderFinal to be absent, which belongs to dpmpp2m (evaluate.samples.solver is ddim), got false'],
      [{ zeroTerminalSnr: true }, { samples: { spacing: 'logSnr' } }, 'expected evaluate.samples.spacing to be one of the arm\'s schedule, got "logSnr"; spaceSteps: expected spacing to be uniform, trailing or quadratic, got "logSnr"; the last timestep of this schedule holds no signal'],
      [{}, { bitsPerDim: { steps: 1001 } }, 'expected evaluate.bitsPerDim.steps to be an integer in [2, 1000], got 1001'],
      [{ superResolution: 4 }, { samples: { count: 513 } }, 'expected evaluate.samples.count to be at most the 512 held-out images of the evaluation, which super-resolution makes larger, got 513'],
    ] as const) // biome-ignore format: one case a line
      expect(await of(options, evaluate)).to.contain(`runStudy arms.more: ${expected}`)
  })

  it('takes every way to combine that the arms have, whatever their number of heads', async () => {
    const gated = { gate: true, evaluate: { combinations: ['gate', 'xStart=0.3,v=0.7'] } }
    const samples = { steps: [5] }
    const study = await parseStudy({
      ...given,
      arms: { one: { heads: ['v'] }, three: { heads: ['xStart', 'v', 'eps'] }, gated },
      evaluate: { combinations: ['blue', 'table', 'mean'], bitsPerDim: {}, samples },
      compare: { metrics: ['frechet@5@gate', 'bitsPerDim@xStart=0.3,v=0.7'] },
    })
    expect(study.arms.map(({ evaluate }) => evaluate.combinations?.length)).to.deep.equal([3, 3, 2])
  })

  it('refuses values that cannot be meant', async () => {
    expect(await message({ compare: { control: 'none' } })).to.equal(
      'runStudy: expected compare.control to be an arm (plain, wide), got "none"',
    )
    expect(await message({ seeds: [1, 1] })).to.equal(
      'runStudy: expected seeds[1] to be a whole number that is not there twice, got 1',
    )
    expect(await message({ arms: { 'a/b': {} } })).to.contain('expected arms to be named with letters')
    expect(await message({ arms: { plain: { seed: 1 } } })).to.equal(
      'runStudy arms.plain: expected seed to be absent: a study names folders and seeds, got 1',
    )
    expect(await message({ arms: { plain: { steps: 5 } } })).to.contain(
      'expected steps to be absent where the study says images, got 5',
    )
    expect(await message({ images: undefined })).to.contain('expected steps to be given here or as images')
    expect(await message({ compare: { metrics: ['fid'] } })).to.contain('expected compare.metrics to be F')
    const samples = { samples: { steps: [5, 10] } }
    expect(await message({ evaluate: samples, compare: { metrics: ['kid@25'] } })).to.equal(
      'runStudy: expected compare.metrics to be of samples that evaluate.samples draws (steps 5, 10), got "kid@25"',
    )
    expect(await message({ evaluate: samples, compare: { metrics: ['mse@5'] } })).to.equal(
      'runStudy: expected compare.metrics to be another, because no arm is of super-resolution, got "mse@5"',
    )
    expect(await message({ arms: { plain: {}, more: { evaluate: { images: 600 } } } })).to.equal(
      'runStudy arms.more: expected evaluate.images to be at most the 512 that heldOut keeps out of training, got 600',
    )
  })
})

describe('settingsHash', () => {
  it('depends on values, not on the order of names or on what is undefined', () => {
    expect(settingsHash({ a: 1, b: [2] })).to.equal(settingsHash({ b: [2], c: undefined, a: 1 }))
    expect(settingsHash({ a: 1 })).to.not.equal(settingsHash({ a: 2 }))
  })
})

describe('sweepStudy', () => {
  it('is a study of every combination at equal images', async () => {
    const study = await parseStudy(
      sweepStudy({ images: 640, batchSizes: [4, 64], base: { data: 'digits', preset: 'tiny' } }),
    )
    expect(study.arms.length).to.equal(2 * 2 * 3 * 2)
    const images = study.arms.find(({ name }) => name === 'b4-systematic-F-images')
    expect(images).to.include({ steps: 160, batchSize: 4 })
    expect(images?.options).to.deep.include({
      emaHalfLife: [32],
      beta2HalfLife: 20_000,
      space: 'F',
      logEvery: 1,
    })
    expect(study.arms.find(({ name }) => name === 'b64-uniform-eps-steps')?.options).to.deep.include({
      heads: ['eps'],
      emaRates: [0.9999],
    })
    expect(study.compare.metrics).to.include('F.clipped.raw')
    const evaluate = { bothWeights: false }
    const one = await parseStudy(
      sweepStudy({ images: 640, base: { data: 'digits', preset: 'tiny' }, evaluate }),
    )
    expect(one.compare.metrics).to.deep.equal(['F.clipped', 'F.geometric', 'v.clipped'])
  })
})
