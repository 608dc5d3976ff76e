import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect } from 'chai'
import { command, start } from '../support/command.ts'
import { asArguments, SMALL, smallData } from '../support/small-run.ts'

describe('trislot with --mix and --combine', () => {
  let small: Awaited<ReturnType<typeof smallData>>
  let run: string
  const train = async (name: string, mix: string): Promise<string> => {
    const folder = join(small.folder, name)
    const { choose: _, ...rest } = SMALL
    const words = asArguments({ ...rest, data: small.data, steps: 40, run: folder, mix, saveEvery: 0 })
    const trained = await command('train', ...words)
    expect(trained.code, trained.err).to.equal(0)
    return folder
  }
  before(async () => {
    small = await smallData()
    run = await train('r', 'all')
  })
  after(() => small.remove())

  const drawn = async (combine?: string, from = run): Promise<string> => {
    const words = ['--run', from, '--threads', '1', '--count', '2']
    const { code, out, err } = await command('sample', ...words, ...(combine ? ['--combine', combine] : []))
    expect(code, err).to.equal(0)
    return (await readFile(out)).toString('base64')
  }

  it('draws by the table and the best mixture that the checkpoint holds, or a measured file', async () => {
    const file = join(small.folder, 'heads.json')
    const out = join(small.folder, 'loss.json')
    const measure = [
      'measure',
      '--run',
      run,
      '--threads',
      '1',
      '--count',
      '24',
      '--timestep-stride',
      '2',
      '--slots',
      '2',
    ]
    const measured = await command(...measure, '--out', out, '--head-statistics', file)
    expect(measured.code, measured.err).to.equal(0)
    expect(measured.out.split('\n').at(-1)).to.equal(file)
    expect(JSON.parse(await readFile(file, 'utf8')).heads).to.deep.equal(['xStart', 'v', 'eps'])
    const [signal, blue, own] = [await drawn('signal'), await drawn(`blue=${file}`), await drawn('blue')]
    expect(new Set([signal, blue, own]).size).to.equal(3)
    expect(await drawn(`table=${file}`)).to.not.equal(blue)

    const said = async (...words: string[]): Promise<string> =>
      (await start(['sample', '--run', run, '--threads', '1', '--count', '2', ...words]).ended).err
    expect(await said('--combine', `blue=${file}`)).to.not.contain('warning')
    expect(await said('--combine', `blue=${file}`, '--weights', 'raw')).to.contain(
      `warning: ${file} was measured on other weights (`,
    )
    const few = join(small.folder, 'few.json')
    const words = [
      ...measure,
      '--count',
      '8',
      '--timestep-stride',
      '1',
      '--out',
      out,
      '--head-statistics',
      few,
    ]
    expect((await start(words).ended).err).to.match(
      /warning: .*few\.json (is of 8 images, each at several|saw fewer than 20)/,
    )
  })

  it('reads a network that a minimum trained by its best mixture unless told otherwise, others by the signal', async () => {
    expect(await drawn()).to.equal(await drawn('signal'))
    const minimum = await train('minimum', 'paper')
    const found = await drawn(undefined, minimum)
    expect(found).to.equal(await drawn('blue', minimum))
    expect(found).to.not.equal(await drawn('signal', minimum))
    const { code, out } = await command('nll', '--run', minimum, '--threads', '1', '--count', '4')
    expect(code).to.equal(0)
    const { combine } = JSON.parse(await readFile(join(out.split('\n').at(-1) as string, 'nll.json'), 'utf8'))
    expect(combine).to.equal('blue')
  })

  it('reads the weights of one of its own checkpoints as the run is read', async () => {
    const minimum = join(small.folder, 'minimum')
    const [checkpoint] = (await readdir(join(minimum, 'checkpoints'))).map((name) =>
      join(minimum, 'checkpoints', name),
    )
    const file = (await readdir(checkpoint as string)).find((name) => name.startsWith('ema')) as string
    const words = asArguments({
      ...{ weights: join(checkpoint as string, file), out: join(small.folder, 'of-weights.png') },
      ...{ threads: 1, count: 2, height: 8, width: 8 },
    })
    const { code, out, err } = await command('sample', ...words)
    expect(code, err).to.equal(0)
    expect((await readFile(out)).toString('base64')).to.equal(await drawn(undefined, minimum))
  })

  it('leaves behind what another strategy had settled in a config', async () => {
    const config = join(small.folder, 'minimum', 'config.json')
    const again = async (name: string, ...words: string[]) => {
      const folder = join(small.folder, name)
      const trained = await command('train', '--config', config, '--run', folder, '--steps', '2', ...words)
      expect(trained.code, trained.err).to.equal(0)
      return JSON.parse(await readFile(join(folder, 'config.json'), 'utf8'))
    }
    expect(await again('mixed', '--mix', 'table')).to.include({
      choose: 'given',
      space: 'F',
      combine: 'blue',
    })
    const single = await again('single', '--heads', 'v')
    expect(single).to.include({ choose: 'mean', combine: 'signal' })
    expect(single).to.not.have.property('mix')
  })

  it('bounds the likelihood with them too', async () => {
    const bits = async (combine: string): Promise<string> => {
      const words = ['--run', run, '--threads', '1', '--count', '4', '--combine', combine]
      const { code, out, err } = await command('nll', ...words)
      expect(code, err).to.equal(0)
      return /([\d.]+) bits\/dim over 4 images|bits\/dim over 4 images.*/.exec(out)?.[0] ?? out
    }
    expect(await bits('v')).to.not.equal(await bits('xStart'))
  })

  it('refuses words that it does not know, and files that hold something else', async () => {
    const message = async (...words: string[]): Promise<string> =>
      (await command('sample', '--run', run, '--threads', '1', ...words)).err
    expect(await message('--combine', 'bleu')).to.contain(
      'expected combine to be signal, table, blue, mean, gate, one of',
    )
    expect(await message('--combine', `blue=${small.data}`)).to.contain(
      `readHeadStatistics: expected ${small.data} to hold head statistics, got no JSON`,
    )
    const { code, err } = await command('train', '--data', small.data, '--steps', '1', '--mix', 'relaxd')
    expect([code, err.includes('did you mean relaxed?')]).to.deep.equal([2, true])
    expect(await message('--combine', 'gate')).to.contain(
      'expected combine to be another word for a network without a gate',
    )
    const trained = async (...words: string[]) =>
      command('train', '--data', small.data, '--steps', '1', ...words)
    const merged = await trained('--mix', 'merge', '--heads', 'xStart,v,eps')
    expect([merged.code, merged.err]).to.deep.equal([
      2,
      'trislot train: expected --heads to be xStart and eps, which are all that it trains, got ["xStart", "v", "eps"]',
    ])
    const chosen = await trained('--choose', 'v', '--heads', 'xStart,eps')
    expect([
      chosen.code,
      chosen.err.includes('expected --choose to be a head that the network has'),
    ]).to.deep.equal([2, true])
  })
})
