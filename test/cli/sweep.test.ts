import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect } from 'chai'
import type { CellResult } from '../../lib/study/cell.ts'
import { command } from '../support/command.ts'
import { smallData } from '../support/small-run.ts'

describe('trislot sweep', function () {
  this.timeout(120_000)
  let small: Awaited<ReturnType<typeof smallData>>
  before(async () => {
    small = await smallData()
  })
  after(() => small.remove())

  it('trains every combination at equal images, on the same pictures held out, and says how step losses vary', async () => {
    const out = join(small.folder, 'sweep')
    const { code, err } = await command(
      ...['sweep', '--data', small.data, '--preset', 'tiny', '--model-channels', '16', '--norm-groups', '8'],
      ...[
        '--images',
        '48',
        '--batch-sizes',
        '2,8',
        '--samplers',
        'uniform',
        '--spaces',
        'eps,F',
        '--half-lives',
        'images',
      ],
      ...['--seeds', '3', '--held-out', '4', '--samples', '0', '--out', out, '--jobs', '2'],
    )
    expect(code, err).to.equal(0)
    const arms = [
      'b2-uniform-eps-images',
      'b2-uniform-F-images',
      'b8-uniform-eps-images',
      'b8-uniform-F-images',
    ]
    const cells = arms.map(
      (arm) => JSON.parse(readFileSync(join(out, arm, 'seed-3', 'result.json'), 'utf8')) as CellResult,
    )
    expect(cells.map(({ imagesSeen }) => imagesSeen)).to.deep.equal([48, 48, 48, 48])
    expect(cells.map(({ step }) => step)).to.deep.equal([24, 24, 6, 6])
    for (const { heldOut, alternation } of cells) {
      expect(heldOut.t).to.deep.equal(cells[0]?.heldOut.t)
      expect(alternation?.coefficientOfVariation).to.be.above(0)
      expect(alternation?.consecutiveRatio).to.be.at.least(1)
    }
    // The initial weights say 0: the error of eps in the first step is that of the noise alone.
    const first = arms.slice(0, 2).map((arm) => {
      const [line] = readFileSync(join(out, arm, 'seed-3', 'stats.jsonl'), 'utf8').split('\n')
      return JSON.parse(line as string) as { loss: number }
    })
    expect(first[0]?.loss).to.be.closeTo(1, 0.5)
    const study = JSON.parse(readFileSync(join(out, 'study.json'), 'utf8'))
    expect(study.arms.map(({ arm }: { arm: string }) => arm)).to.deep.equal(arms)
    expect(readFileSync(join(out, 'study.md'), 'utf8')).to.contain('lag-1 autocorrelation')
    expect(readFileSync(join(out, 'report.html'), 'utf8')).to.contain(
      'Scatter of the held-out error over images',
    )
  })

  it('trains every arm in the precision and on the device that are given', async () => {
    const out = join(small.folder, 'bf16')
    const words = [
      '--preset',
      'tiny',
      '--images',
      '8',
      '--batch-sizes',
      '4',
      '--samplers',
      'uniform',
      '--seeds',
      '3',
    ]
    const one = ['--spaces', 'F', '--half-lives', 'images', '--held-out', '4', '--samples', '0', '--out', out]
    const given = ['--precision', 'bf16', '--device', 'cpu', '--jobs', '1']
    const { code, err } = await command('sweep', '--data', small.data, ...words, ...one, ...given)
    expect(code, err).to.equal(0)
    const cell = join(out, 'b4-uniform-F-images', 'seed-3')
    const config = JSON.parse(readFileSync(join(cell, 'config.json'), 'utf8'))
    expect(config).to.include({ precision: 'bf16', device: 'cpu' })
    for (const [option, value, message] of [
      ['--precision', 'fp8', 'expected --precision to be one of fp32, bf16, fp16, got "fp8"'],
      ['--device', 'gpu', 'expected --device to be cpu, cuda or cuda:N, got "gpu"'],
    ] as const) {
      const refused = await command('sweep', '--data', small.data, option, value)
      expect([refused.code, refused.err.split(/;|\n/)[0]]).to.deep.equal([2, `trislot sweep: ${message}`])
    }
  })

  it('refuses words that it does not know before anything is trained', async () => {
    const { code, err } = await command('sweep', '--data', small.data, '--spaces', 'v,w')
    expect(code).to.equal(2)
    expect(err).to.contain('trislot sweep: expected --spaces to be among eps, v, F, got w')
  })

  it('refuses images that are not there, and more held out than there are, before anything is trained', async () => {
    const out = join(small.folder, 'refused')
    const words = ['--preset', 'tiny', '--batch-sizes', '4', '--samplers', 'uniform', '--out', out]
    for (const [more, message] of [
      [
        ['--data', join(small.folder, 'nope')],
        /expected data to be one of .*; got no such file or folder .*nope$/,
      ],
      [
        ['--data', small.data, '--held-out', '24'],
        /expected heldOut to be fewer than the 24 images of .*, got 24$/,
      ],
    ] as const) {
      const { code, err } = await command('sweep', ...words, ...more)
      expect(code).to.equal(1)
      expect(err)
        .to.match(/^runStudy arms\.b4-uniform-eps-steps: /)
        .and.match(message)
      expect(existsSync(join(out, 'b4-uniform-eps-steps'))).to.equal(false)
    }
  })
})
