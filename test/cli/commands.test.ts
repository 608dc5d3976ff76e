import { existsSync } from 'node:fs'
import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect } from 'chai'
import { npz } from '../../lib/data/npz.ts'
import { latestCheckpoint, readCheckpoint } from '../../lib/training/checkpoint.ts'
import { command, start, until } from '../support/command.ts'
import { asArguments, SMALL, smallData } from '../support/small-run.ts'

describe('trislot train, sample and measure', () => {
  let small: Awaited<ReturnType<typeof smallData>>
  before(async () => {
    small = await smallData()
  })
  after(() => small.remove())

  const words = (name: string, steps: number, more: object = {}): string[] =>
    asArguments({ ...SMALL, data: small.data, steps, run: join(small.folder, name), ...more })

  it('trains in plain lines where there is no terminal, and resumes by the same command with more steps', async () => {
    const first = await start(['train', ...words('r', 4)]).ended
    expect(first.code, first.err).to.equal(0)
    const lines = first.err.trim().split('\n')
    expect(lines[0]).to.equal(`run ${join(small.folder, 'r')}`)
    expect(lines[1]).to.match(/^24 images of .*images\.npz, \d+ weights, 4 steps$/)
    expect(lines).to.satisfy((all: string[]) =>
      all.some((line) => /^4\/4 {2}loss \S+ {2}\S+ images\/s$/.test(line)),
    )
    expect(lines.at(-1)).to.equal(`done: 4 steps; next: trislot sample --run ${join(small.folder, 'r')}`)
    const second = await start(['train', ...words('r', 6)]).ended
    expect(second.err).to.contain('6 steps, from step 4')
  })

  it('takes the options of another run from its config.json', async () => {
    const config = join(small.folder, 'r', 'config.json')
    const copy = join(small.folder, 'copy')
    const { code, err } = await start(['train', '--config', config, '--run', copy, '--steps', '2']).ended
    expect(code, err).to.equal(0)
    const [a, b] = await Promise.all(
      [config, join(copy, 'config.json')].map((file) => readFile(file, 'utf8').then(JSON.parse)),
    )
    expect(b).to.deep.equal({ ...a, run: copy, steps: 2 })
    await writeFile(join(small.folder, 'bad.json'), JSON.stringify({ ...a, bachSize: 3 }))
    const refused = await command('train', '--config', join(small.folder, 'bad.json'))
    expect(refused.err).to.contain('got unknown --bach-size (did you mean --batch-size?)')
  })

  it('stops at Ctrl-C with everything saved, and ends with 130', async () => {
    const run = join(small.folder, 'interrupted')
    const { child, ended } = start(['train', ...words('interrupted', 1_000_000, { saveEvery: 0 })])
    const stats = join(run, 'stats.jsonl')
    await until(async () => existsSync(stats) && (await readFile(stats)).length > 500, 'some steps')
    child.kill('SIGINT')
    const { code, err } = await ended
    expect(code).to.equal(130)
    expect(err).to.contain('stopping after this step, then saving; Ctrl-C again leaves at once')
    expect(err).to.match(/stopped at step \d+ of 1000000; the same command goes on/)
    const { step } = await readCheckpoint((await latestCheckpoint(run)) as string)
    expect((await readFile(stats, 'utf8')).trim().split('\n')).to.have.length(step)
  })

  it('leaves at once at a second Ctrl-C', async () => {
    const run = join(small.folder, 'twice')
    const { child, ended } = start([
      'train',
      ...words('twice', 9, { batchSize: 4096, microBatch: 0, modelChannels: 64 }),
    ])
    await until(() => existsSync(join(run, 'stats.jsonl')), 'the start of training')
    child.kill('SIGINT')
    await new Promise((resolve) => setTimeout(resolve, 50))
    child.kill('SIGINT')
    await ended
    expect(child.signalCode).to.equal('SIGINT') // which shells report as 130
    expect(await latestCheckpoint(run)).to.equal(undefined)
  })

  it('samples a grid, single pictures and npz, image k being the same whatever the batch size', async () => {
    const run = join(small.folder, 'r')
    const sample = (...more: string[]) =>
      command(
        'sample',
        '--run',
        run,
        '--count',
        '3',
        '--steps',
        '2',
        '--seed',
        '4',
        '--threads',
        '1',
        ...more,
      )
    const grid = await sample()
    expect(grid).to.include({ code: 0, out: join(run, 'samples', 'step-6-seed-4.png') })
    expect((await readFile(grid.out)).subarray(1, 4).toString()).to.equal('PNG')

    const single = await sample('--format', 'png', '--out', join(small.folder, 'single'))
    const files = ['00000.png', '00001.png', '00002.png', 'samples.json']
    expect((await readdir(single.out)).sort()).to.deep.equal(files)

    const pixels: Uint8Array[] = []
    for (const batchSize of ['1', '3']) {
      const folder = join(small.folder, `npz-${batchSize}`)
      await mkdir(folder)
      const { out } = await sample(
        '--format',
        'npz',
        '--weights',
        '0.99',
        '--batch-size',
        batchSize,
        '--out',
        folder,
      )
      expect(out).to.equal(join(folder, 'samples_3x8x8x1.npz'))
      pixels.push(await (await npz(out)).image(1))
    }
    // The same noise; the sums of a convolution may round differently in another batch.
    const [one, three] = pixels as [Uint8Array, Uint8Array]
    for (const [i, value] of one.entries()) expect(Math.abs(value - (three[i] as number))).to.be.at.most(1)
  })

  it('needs exactly one of a run and a checkpoint', async () => {
    expect(await command('sample')).to.deep.equal({
      code: 2,
      out: '',
      err: 'trislot sample: expected one of --run and --checkpoint to be given, got "neither"',
    })
    const missing = await command('sample', '--run', join(small.folder, 'nowhere'))
    expect(missing).to.include({
      code: 1,
      err: `trislot sample: expected a checkpoint in ${join(small.folder, 'nowhere')}, got none; train first`,
    })
  })

  it('measures a loss curve from which training cuts its slots', async () => {
    const out = join(small.folder, 'curve.json')
    const measured = await command(
      ...[
        'measure',
        '--run',
        join(small.folder, 'r'),
        '--count',
        '4',
        '--timestep-stride',
        '1',
        '--slots',
        '2',
      ],
      ...['--out', out, '--threads', '1'],
    )
    expect(measured.code, measured.err).to.equal(0)
    expect(measured.out).to.match(/^ {2}slot {2}0: t 0 to \d, \d timesteps, +[\d.]+ % of the loss$/m)
    expect(existsSync(join(small.folder, 'curve.svg'))).to.equal(true)
    const { code, err } = await start([
      'train',
      ...words('cut', 2, { sampler: 'slots', slots: 2, lossCurve: out, slotPlan: 'one:1' }),
    ]).ended
    expect(code, err).to.equal(0)
    const { slotEdges } = JSON.parse(await readFile(join(small.folder, 'cut', 'config.json'), 'utf8'))
    expect(slotEdges).to.have.length(3)
    expect([slotEdges[0], slotEdges[2]]).to.deep.equal([0, 4])
  })
})
