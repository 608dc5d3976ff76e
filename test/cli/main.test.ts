import { spawn } from 'node:child_process'
import { closeSync, openSync, readFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect } from 'chai'
import { BIN, command, watch } from '../support/command.ts'

const { version } = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8'))

describe('trislot', () => {
  it('says its version', async () => {
    expect(await command('--version')).to.deep.equal({ code: 0, out: version, err: '' })
  })

  it('lists its commands, and explains each', async () => {
    const { code, out } = await command('help')
    expect(code).to.equal(0)
    for (const name of [
      'quickstart',
      'train',
      'sample',
      'measure',
      'report',
      'watch',
      'forward',
      'setup',
      'doctor',
    ]) {
      expect(out).to.match(new RegExp(`^  ${name} +\\S`, 'm'))
    }
    for (const name of ['quickstart', 'train', 'sample', 'measure', 'report', 'watch', 'forward']) {
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
    expect(out).to.match(/--\[no-\]ema-warms-up +averages begin with small rates \(on by default\)/)
    expect(out).to.match(/--batch-size N +images a step \(default 32\)/)
    expect(out).to.match(/--slot-edges N,N +edges of the slots: 0,12,…,T; or leave them to --loss-curve/)
  })

  it('says that a result could not be written, and goes on where only progress is lost', async function () {
    if (process.platform !== 'linux') this.skip()
    const full = openSync('/dev/full', 'w')
    try {
      const cut = watch(spawn(process.execPath, [BIN, 'help'], { stdio: ['ignore', full, 'pipe'] }))
      expect(await cut.ended).to.include({
        code: 1,
        err: 'trislot: expected the output to be written, got ENOSPC: no space left on device, write\n',
      })
      const mute = watch(spawn(process.execPath, [BIN, '--version'], { stdio: ['ignore', 'pipe', full] }))
      expect(await mute.ended).to.include({ code: 0, out: `${version}\n` })
    } finally {
      closeSync(full)
    }
  })

  it('refuses a command that does not exist and names the nearest', async () => {
    const { code, err } = await command('trian')
    expect(code).to.equal(2)
    expect(err).to.match(
      /^trislot: expected a command among quickstart, train, [a-z, -]+, doctor, help, got "trian" \(did you mean train\?\)$/,
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
      '  expected --choose to be one of min, minBatch, minPixel, mean, relaxed, softmin, given, xStart, v, eps, got "most"',
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
      /^trislot train: expected --data to be one of digits .*; got no such file or folder no-such-folder$/,
    )
  })

  it('ends with 2 where options do not fit the images or the network, which only the run finds', async () => {
    for (const words of [
      ['--size', '32'],
      ['--heads', 'v', '--mix', 'table'],
      ['--held-out', '3000'],
    ]) {
      const run = ['--run', join(tmpdir(), 'trislot-never')]
      const { code, err } = await command('train', '--data', 'digits', '--steps', '1', ...run, ...words)
      expect(err).to.match(/(^|\n)trislot train: expected --/)
      expect(code, err).to.equal(2)
    }
  })

  it('names options as they are typed, also where the library refuses them', async () => {
    const digits = ['train', '--data', 'digits', '--steps', '1']
    for (const [words, message] of [
      [
        [...digits, '--ema-half-life', '100', '--ema-rates', '0.9'],
        'trislot train: expected --ema-rates to be absent when --ema-half-life is given, which makes it, got [0.9]',
      ],
      [
        [...digits, '--slots', '3'],
        'trislot train: expected --slots to be absent unless sampler is slots, got 3',
      ],
      [
        [...digits, '--size', '32'],
        'trislot train: expected --size to be absent with data digits, which is not a folder of pictures, got 32',
      ],
      [
        ['train-classifier', '--data', 'digits', '--val-data', 'nowhere', '--steps', '1'],
        /^trislot train-classifier: expected --val-data to be one of digits .*; got no such file or folder nowhere$/,
      ],
      [
        ['evaluate', '--samples', 'nowhere', '--reference', 'digits'],
        /^trislot evaluate: expected --samples to be one of digits .*; got no such file or folder nowhere$/,
      ],
      [
        ['convert', 'a.pt', 'b.txt'],
        'trislot convert: expected --to to be a file name that ends in .safetensors or .pt, got "b.txt"',
      ],
      [
        ['watch'],
        /^trislot watch: expected RUN \(--run\), the folder of a run or a study, to be given, got none/,
      ],
    ] as const) {
      const { code, err } = await command(...words)
      expect(code).to.be.above(0)
      if (typeof message === 'string') expect(err).to.equal(message)
      else expect(err).to.match(message)
    }
  })

  it('shows the stack with --debug', async () => {
    const { err } = await command('train', '--data', 'no-such-folder', '--steps', '1', '--debug')
    expect(err).to.contain('DataError')
  })
})
