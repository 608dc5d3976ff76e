import { readdirSync, readFileSync } from 'node:fs'
import { expect } from 'chai'
import { parseStudy, type StudyArm, type StudyOptions, settingsHash } from '../../lib/study/study-file.ts'
import { sweepStudy } from '../../lib/study/sweep.ts'

const STUDIES = new URL('../../studies/', import.meta.url)

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
  })

  it('refuses metrics that the evaluation does not measure', async () => {
    const compared = (evaluate: object, metric: string) =>
      message({ evaluate, compare: { metrics: [metric] } })
    const samples = { steps: [5] }
    expect(await compared({ samples }, 'frechet@7')).to.contain('(steps 5), got "frechet@7"')
    expect(await compared({ samples }, 'frechet@5@blue')).to.equal(
      'runStudy: expected compare.metrics to be with a combination of evaluate.combinations (none), got "frechet@5@blue"',
    )
    expect(await compared({}, 'bitsPerDim')).to.contain('without bitsPerDim, which evaluate does not measure')
    expect(await compared({ bitsPerDim: { images: 513 } }, 'F')).to.contain(
      'expected images to be at most the 512 held out, got 513',
    )
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
    expect(await message({ arms: { plain: {}, more: { evaluate: { images: 600 } } } })).to.equal(
      'runStudy arms.more: expected evaluate.images to be at most the 512 that heldOut keeps out of training, got 600',
    )
  })

  it('takes the studies that come with the repository', async () => {
    const files = readdirSync(STUDIES).filter((file) => file.endsWith('.json'))
    expect(files).to.include.members(['small-batch.json', 'slots.json', 'three-heads.json'])
    for (const file of files) {
      const study = await parseStudy(JSON.parse(readFileSync(new URL(file, STUDIES), 'utf8')))
      expect(study.arms.length, file).to.be.above(3)
      const [{ steps, batchSize }] = study.arms as [StudyArm]
      for (const arm of study.arms) {
        // Equal images, up to half a batch.
        if (arm.name.endsWith('equal-steps')) {
          expect(arm.steps, `${file} ${arm.name}`).to.equal(steps)
          continue
        }
        const images = arm.name.endsWith('-third') ? 3 * arm.steps * arm.batchSize : arm.steps * arm.batchSize
        expect(images, `${file} ${arm.name}`).to.be.closeTo(steps * batchSize, arm.batchSize / 2)
      }
    }
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
  })
})
