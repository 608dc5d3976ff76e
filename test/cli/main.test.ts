import { readFileSync } from 'node:fs'
import { expect } from 'chai'
import { command } from '../support/command.ts'

const { version } = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8'))

describe('trislot', () => {
  it('says its version', async () => {
    expect(await command('--version')).to.deep.equal({ code: 0, out: version, err: '' })
  })

  it('lists its commands, and explains each', async () => {
    const { code, out } = await command('help')
    expect(code).to.equal(0)
    for (const name of ['quickstart', 'train', 'sample', 'measure', 'forward', 'setup', 'doctor']) {
      expect(out).to.match(new RegExp(`^  ${name} +\\S`, 'm'))
    }
    for (const name of ['quickstart', 'train', 'sample', 'measure', 'forward']) {
      const [first, second] = [await command('help', name), await command(name, '--help')]
      expect(first.code).to.equal(0)
      expect(first.out).to.contain(`trislot ${name}`)
      expect(second.out).to.equal(first.out)
    }
  })

  it('shows names, values and defaults in the help of a command', async () => {
    const { out } = await command('train', '--help')
    expect(out).to.match(/--steps N +optimizer updates in all; more of them continue a run\s+\(required\)/)
    expect(out).to.match(/--sampler WORD +who draws timesteps \(uniform \| stratified \| systematic/)
    expect(out).to.match(/--no-ema-warms-up +averages begin with small rates \(on by default\)/)
    expect(out).to.match(/--batch-size N +images a step \(default 32\)/)
  })

  it('refuses a command that does not exist and names the nearest', async () => {
    const { code, err } = await command('trian')
    expect(code).to.equal(2)
    expect(err).to.equal(
      'trislot: expected a command among quickstart, train, train-classifier, sample, evaluate, measure, nll, study, sweep, bench, forward, inspect, convert, setup, doctor, help, got "trian" (did you mean train?)',
    )
  })

  it('refuses options that do not exist with the nearest name, and lists everything that is wrong', async () => {
    const { code, err } = await command(
      'train',
      '--data',
      'digits',
      '--bach-size',
      '4',
      '--lr',
      'fast',
      '--seed',
    )
    expect(code).to.equal(2)
    expect(err).to.equal(
      [
        'trislot train: expected an option that exists, got unknown --bach-size (did you mean --batch-size?)',
        '  expected --seed to be given a value, got none',
        '  expected --steps, an integer >= 1, to be given, got none',
        '  expected --lr to be a number > 0, got "fast"',
        '',
        'See trislot train --help',
      ].join('\n'),
    )
  })

  it('shows what an option takes', async () => {
    const { err } = await command(
      'train',
      '--data',
      'digits',
      '--steps',
      '1.5',
      '--choose',
      'most',
      '--flip=yes',
    )
    expect(err.split('\n').slice(0, 3)).to.deep.equal([
      'trislot train: expected --flip without a value, got "yes"',
      '  expected --choose to be one of min, minBatch, mean, xStart, v, eps, got "most"',
      '  expected --steps to be an integer >= 1, got 1.5',
    ])
  })

  it('refuses words that are no options', async () => {
    const { code, err } = await command('sample', 'runs/digits')
    expect(code).to.equal(2)
    expect(err).to.contain('trislot sample: expected options only, got "runs/digits"')
  })

  it('prints a failure as one message without a stack and ends with 1', async () => {
    const { code, err } = await command('train', '--data', 'no-such-folder', '--steps', '1')
    expect(code).to.equal(1)
    expect(err).to.match(
      /^openDataset: expected source to be one of digits .*; got no such file or folder no-such-folder$/,
    )
  })

  it('shows the stack with --debug', async () => {
    const { err } = await command('train', '--data', 'no-such-folder', '--steps', '1', '--debug')
    expect(err).to.contain('DataError')
  })
})
