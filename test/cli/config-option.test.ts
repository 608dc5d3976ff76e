import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect } from 'chai'
import { parseWithConfig } from '../../lib/cli/config-option.ts'
import { text } from '../../lib/options.ts'
import { RUN_SHAPE, type RunConfig, type RunOptions, runConfig } from '../../lib/training/run-config.ts'

describe('--config of a run, with other options beside it', () => {
  let folder: string
  before(async () => {
    folder = await mkdtemp(join(tmpdir(), 'trislot-config-'))
  })
  after(() => rm(folder, { recursive: true }))

  /** The config of a run with these options, and that of one which takes it and words of the command line. */
  const both = async (options: Partial<RunOptions>, ...words: string[]): Promise<[RunConfig, RunConfig]> => {
    const first = await runConfig({ data: 'digits', steps: 1000, run: 'first', ...options })
    const file = join(folder, 'config.json')
    await writeFile(file, JSON.stringify(first))
    const shape = { ...RUN_SHAPE, config: text().optional() }
    const { config: _, ...given } = parseWithConfig('train', ['--config', file, ...words], shape).given
    return [first, await runConfig(given as RunOptions)]
  }
  const message = async (options: Partial<RunOptions>, ...words: string[]): Promise<string> =>
    both(options, ...words).then(
      () => 'no error',
      (error: Error) => error.message.split('\n')[0] as string,
    )

  it('is the same run without them', async () => {
    for (const options of [{ recipe: 'small-batch' }, { recipe: 'paper' }, { sampler: 'edm', weighting: 'min-snr', heads: ['v'] }] as const) {
      const [first, again] = await both(options as Partial<RunOptions>)
      expect(again).to.deep.equal(first)
    } // biome-ignore format: short
  })

  it('has the numbers of another law and weighting, not those of the file', async () => {
    const [, law] = await both({ sampler: 'edm' }, '--sampler', 'logit-normal')
    expect(law.samplerNumbers).to.deep.equal([0, 1])
    const [, weighted] = await both({ weighting: 'min-snr', heads: ['v'] }, '--weighting', 'soft-min-snr')
    expect(weighted.weightingNumbers).to.deep.equal([4])
    const [, plain] = await both({ recipe: 'small-batch' }, '--sampler', 'uniform')
    expect([plain.uniformShare, plain.stream, plain.samplerNumbers]).to.deep.equal(
      new Array(3).fill(undefined),
    )
    const [, given] = await both({ sampler: 'edm' }, '--sampler', 'laplace', '--sampler-numbers', '1,2')
    expect(given.samplerNumbers).to.deep.equal([1, 2])
  })

  it('makes numbers anew of what they were made of, and keeps those that were given', async () => {
    const clts = { sampler: 'clts' } as const
    const shorter = ['--timestep-count', '100']
    expect((await both(clts, ...shorter))[1].samplerNumbers).to.deep.equal([30, 15, 50_000])
    const own = [10, 5, 100]
    expect((await both({ ...clts, samplerNumbers: own }, ...shorter))[1].samplerNumbers).to.deep.equal(own)
    const weighting = { weighting: 'soft-min-snr', heads: ['v'] } as Partial<RunOptions>
    expect((await both(weighting, '--sigma-data', '1'))[1].weightingNumbers).to.deep.equal([1])
    const wide = await both({ sampler: 'cosine-interpolated' }, '--size', '64')
    expect(wide[1].samplerNumbers).to.deep.equal([64, 32, 64])
  })

  it('makes rates of half-lives anew for another batch, or leaves them for rates', async () => {
    const recipe = { recipe: 'small-batch' } as const
    const [first, larger] = await both(recipe, '--batch-size', '16')
    expect(larger.emaHalfLife).to.deep.equal(first.emaHalfLife)
    expect(larger.emaRates?.[0]).to.be.closeTo((first.emaRates?.[0] as number) ** 2, 1e-12)
    expect(larger.beta2).to.be.closeTo((first.beta2 as number) ** 2, 1e-12)
    const [, rates] = await both(recipe, '--ema-rates', '0.99', '--beta2', '0.999')
    expect([rates.emaRates, rates.emaHalfLife, rates.beta2, rates.beta2HalfLife]).to.deep.equal([
      [0.99],
      undefined,
      0.999,
      undefined,
    ])
  })

  it('cuts slots anew where it is said how', async () => {
    const paper = { recipe: 'paper' } as const
    const [, five] = await both(paper, '--slots', '5', '--slot-rule', 'gaussian')
    expect(five.slotEdges).to.have.length(6)
    expect((await both(paper, '--sampler', 'golden'))[1].slotEdges).to.equal(undefined)
    expect(await message(paper, '--slots', '5')).to.match(
      /^train: expected --slots to be beside --slot-rule or --loss-curve, because .*config\.json says where its slots end, not why, got "?5"?$/,
    )
  })

  it('ends the course of another run at its own end, and that of the run itself where it did', async () => {
    const falling = { lrSchedule: 'cosine', mix: 'relaxed' } as const
    const ends = ({ lrSteps, mixSteps }: RunConfig): unknown[] => [lrSteps, mixSteps]
    expect(ends((await both(falling, '--steps', '3000', '--run', 'second'))[1])).to.deep.equal([3000, 3000])
    expect(ends((await both(falling, '--steps', '3000'))[1])).to.deep.equal([1000, 1000])
  })

  it('refuses a recipe or a preset beside it, which would do nothing or half of it', async () => {
    expect(await message({}, '--preset', 'digits')).to.equal(
      'train: expected --preset to be absent when --config is given, whose options are all settled, got "digits"',
    )
    expect(await message({ recipe: 'small-batch' }, '--recipe', 'paper')).to.contain(
      'expected --recipe to be absent',
    )
    expect(await message({ recipe: 'small-batch' }, '--recipe', 'small-batch')).to.equal('no error')
  })
})
