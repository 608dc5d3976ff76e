import { existsSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect } from 'chai'
import { UNet } from '../../lib/model/unet.ts'
import { NoiseSchedule } from '../../lib/schedule/noise-schedule.ts'
import { latestCheckpoint, saveCheckpoint } from '../../lib/training/checkpoint.ts'
import { expectClose } from '../support/close.ts'
import { command } from '../support/command.ts'
import { asArguments, SMALL, smallData } from '../support/small-run.ts'
import { TINY, tinyTrainer } from '../support/tiny.ts'

describe('trislot probe, interference and replace', () => {
  let small: Awaited<ReturnType<typeof smallData>>
  let run: string
  before(async () => {
    small = await smallData()
    run = join(small.folder, 'r')
    const options = { ...SMALL, data: small.data, steps: 3, run, heldOut: 6, timestepCount: 30 } as const
    const { code, err } = await command('train', ...asArguments({ ...options, sampler: 'uniform' }))
    expect(code, err).to.equal(0)
  })
  after(() => small.remove())

  const read = async (name: string) => JSON.parse(await readFile(join(run, 'instruments', name), 'utf8'))

  it('write numbers and pictures into the run, and keep the command', async () => {
    const words = ['--run', run, '--count', '4', '--slots', '3', '--resamples', '5', '--threads', '1']
    const { code, out, err } = await command('probe', ...words)
    expect(code, err).to.equal(0)
    expect(out).to.contain('4 held-out images at 30 of 30 timesteps')
    const found = await read('probe-step-3.json')
    expect(found).to.include({ kind: 'probe', command: `trislot probe ${words.join(' ')}` })
    expect(found.data.curves).to.have.length(12)
    expect(existsSync(join(run, 'instruments', 'probe-step-3-4.svg'))).to.equal(true)
    expect(found.data.slots.map(({ rule }: { rule: string }) => rule)).to.include('gradientMoment')
    expect(out.trim().split('\n').at(-1)).to.equal(join(run, 'report.html'))
    expect(await readFile(join(run, 'report.html'), 'utf8')).to.contain(`trislot probe ${words.join(' ')}`)
  })

  it('show one measurement in every space, by factors that are certain, and the Gaussian model beside it', async () => {
    const words = ['--run', run, '--count', '4', '--slots', '2', '--resamples', '2', '--gradient-images', '0']
    const { code, err } = await command('probe', ...words, '--name', 'spaces', '--threads', '1')
    expect(code, err).to.equal(0)
    const { data } = await read('spaces.json')
    expect(data.t).to.deep.equal(Array.from({ length: 30 }, (_, t) => t))
    const schedule = NoiseSchedule.create({ name: 'cosine', timestepCount: 30 })
    const { snr, alphaBar } = schedule.tables
    // Of an error of 1 in xStart; F for a deviation of the pixels of 0.5 (math.md, eq. 14).
    const factors: Record<string, (s: number) => number> = {
      xStart: () => 1,
      v: (s) => 1 + s,
      eps: (s) => s,
      F: (s) => s + 4,
    }
    const curveIn = (
      head: string,
      space: string,
    ): { value: number[]; mean: number; span: number; variation: number } =>
      data.curves.find((one: { head: string; space: string }) => one.head === head && one.space === space)
    for (const head of ['xStart', 'v', 'eps']) {
      const { value: own } = curveIn(head, head)
      for (const space of ['xStart', 'v', 'eps', 'F']) {
        const wanted = own.map((error, t) => (error * factors[space]!(snr[t]!)) / factors[head]!(snr[t]!))
        const { value, mean, span, variation } = curveIn(head, space)
        expectClose(value, wanted, { relative: 1e-9, what: `${head} in ${space}` })
        // All timesteps are measured, so that the sums over them are certain, too.
        const average = wanted.reduce((a, b) => a + b, 0) / 30
        const variance = wanted.reduce((a, b) => a + (b - average) ** 2, 0) / 30
        const spread = [average, Math.max(...wanted) / Math.min(...wanted), Math.sqrt(variance) / average]
        const close = { relative: 1e-9, absolute: 1e-12, what: `spread of ${head} in ${space}` }
        expectClose([mean, span, variation], spread, close)
      }
    }

    const { size, dataVariance, curves } = data.gaussian
    expect(size).to.equal(8)
    const powers = Array.from({ length: 64 }, (_, i) => {
      const [x, y] = [i % 8, Math.floor(i / 8)]
      return 1 / (Math.min(x, 8 - x) ** 2 + Math.min(y, 8 - y) ** 2 || 0.25)
    })
    const sum = powers.reduce((a, b) => a + b, 0)
    const wiener = Array.from(alphaBar, (signal) => {
      const errors = powers.map((power) => {
        const p = (power / sum) * 64 * dataVariance
        return (p * (1 - signal)) / (signal * p + 1 - signal)
      })
      return errors.reduce((a, b) => a + b, 0) / 64
    })
    for (const space of ['xStart', 'v', 'eps', 'F']) {
      const wanted = wiener.map((error, t) => error * factors[space]!(snr[t]!))
      expectClose(curves[space], wanted, { relative: 1e-6, what: `Gaussian model in ${space}` })
    }
    for (let t = 1; t < 30; t++) {
      expect(curves.eps[t]).to.be.below(curves.eps[t - 1])
      expect(curves.xStart[t]).to.be.above(curves.xStart[t - 1])
    }
    expect(curves.xStart[29]).to.be.at.most(dataVariance)
    schedule.dispose()
  })

  it('give back the walk by the sum that DDIM is, with and without noise', async () => {
    const words = ['--run', run, '--count', '2', '--starts', '29,14', '--steps', '5', '--positions', '2']
    for (const eta of ['0', '0.5']) {
      const more = ['--width', '0.5', '--windows', 'steps', '--eta', eta, '--name', 'sum', '--threads', '1']
      const { code, err } = await command('replace', ...words, ...more)
      expect(code, err).to.equal(0)
      const { data } = await read('sum.json')
      expect(data.baselines.map(({ start }: { start: number }) => start)).to.deep.equal([29, 14])
      for (const { identityError } of data.baselines) expect(identityError).to.be.within(0, 1e-5)
    }
  })

  it('measures the heads for sampling on the way', async () => {
    const file = join(small.folder, 'heads.json')
    const words = [
      '--run',
      run,
      '--count',
      '24',
      '--threads',
      '1',
      '--name',
      'heads',
      '--gradient-images',
      '0',
    ]
    const { code, out, err } = await command('probe', ...words, '--head-statistics', file)
    expect(code, err).to.equal(0)
    expect(out.trim().split('\n').at(-1)).to.equal(file)
    const { heads } = JSON.parse(await readFile(file, 'utf8'))
    expect(heads).to.deep.equal(['xStart', 'v', 'eps'])
    const drawn = await command(
      'sample',
      '--run',
      run,
      '--threads',
      '1',
      '--count',
      '1',
      '--combine',
      `blue=${file}`,
    )
    expect(drawn.code, drawn.err).to.equal(0)
    expect(drawn.err).to.not.contain('warning')
  })

  it('train copies with the run’s optimizer and leave the checkpoint as it was', async () => {
    const checkpoint = (await latestCheckpoint(run)) as string
    const state = await readFile(join(checkpoint, 'state.json'), 'utf8')
    const { code, out, err } = await command(
      ...[
        'interference',
        '--run',
        run,
        '--slot-edges',
        '0,5,30',
        '--steps',
        '2',
        '--seeds',
        '1',
        '--count',
        '2',
      ],
      ...['--draws', '4', '--draw-size', '2', '--name', 'two'],
    )
    expect(code, err).to.equal(0)
    expect(out).to.contain('Slots: edges given.').and.to.contain('weights and optimizer continued')
    const { data, plots, tables } = await read('two.json')
    expect(data.interference.matrices).to.have.length(6)
    for (const { relative, control } of data.interference.matrices) {
      expect(relative.map((row: unknown[]) => row.length)).to.deep.equal([2, 2, 2])
      const [a, b] = relative[2].map(({ mean }: { mean: number }) => mean)
      expect(control.mean).to.be.closeTo((a + b) / 2, 1e-12)
    }
    expect(plots[0].rows).to.deep.equal(['trained 0–4', 'trained 5–29', 'trained on all'])
    expect(tables[0].columns.at(-1)).to.equal('control: all timesteps')
    expect(tables[1].rows.map(([trained]: string[]) => trained)).to.deep.equal(['0–4', '5–29', 'all'])
    let known = 0
    for (const { cosine, rawCosine, squaredNorm, noiseScaleError } of data.gradients.spaces) {
      expect([cosine[1], rawCosine[1]]).to.deep.equal([cosine[2], rawCosine[2]])
      for (const k of [0, 1]) {
        expect(rawCosine[3 * k]).to.be.closeTo(1, 1e-12)
        if (squaredNorm[k] > 0) expect(cosine[3 * k]).to.be.closeTo(1, 1e-12)
        else expect(cosine[3 * k]).to.equal(null)
        if (squaredNorm[k] > 0) known++
      }
      expect(noiseScaleError).to.have.length(2)
    }
    expect(known).to.be.above(0)
    expect(data.gradients.spaces.map(({ space }: { space: string }) => space)).to.deep.equal([
      'own',
      'eps',
      'F',
    ])
    expect(await latestCheckpoint(run)).to.equal(checkpoint) // whose hashes are compared
    expect(await readFile(join(checkpoint, 'state.json'), 'utf8')).to.equal(state)
  })

  it('look at slots as training has cut them last', async () => {
    const cut = join(small.folder, 'cut')
    const options = { ...SMALL, data: small.data, steps: 40, run: cut, heldOut: 6, timestepCount: 8 } as const
    const slots = { sampler: 'slots', slots: 2, slotRefresh: 10 } as const
    const trained = await command('train', ...asArguments({ ...options, ...slots }))
    expect(trained.code, trained.err).to.equal(0)
    const state = JSON.parse(
      await readFile(join((await latestCheckpoint(cut)) as string, 'state.json'), 'utf8'),
    )
    const edges = [0, ...state.sampler.state.ends] as number[]
    expect(edges).to.not.deep.equal(state.extra.run.slotEdges)
    const words = [
      'interference',
      '--run',
      cut,
      '--steps',
      '1',
      '--seeds',
      '1',
      '--count',
      '2',
      '--no-gradients',
    ]
    const { code, out, err } = await command(...words)
    expect(code, err).to.equal(0)
    expect(out).to.contain('Slots: edges of the run')
    const found = JSON.parse(await readFile(join(cut, 'instruments', 'interference-step-40.json'), 'utf8'))
    expect(found.data.interference.slots).to.deep.equal(
      edges.slice(1).map((end, k) => ({ begin: edges[k], end })),
    )
  })

  it('measure a file of weights that learns its variance, on images that are named', async () => {
    const weights = join(small.folder, 'w.safetensors')
    const unet = await UNet.create(
      { ...TINY, imageChannels: 3, heads: ['eps'], learnsVariance: true },
      { seed: 2 },
    )
    await unet.saveWeights(weights)
    const words = [
      ...['--weights', weights, '--data', 'emoji', '--size', '8', '--heads', 'eps', '--image-channels', '3'],
      ...['--attention-heads', '2', '--no-new-attention-order', '--norm-groups', '4', '--schedule', 'linear'],
      ...['--variance', 'learnedRange', '--no-rescales-timesteps', '--timestep-count', '60', '--count', '2'],
      ...['--out', small.folder],
    ]
    const windows = ['--positions', '2', '--width', '0.5', '--windows', 'steps']
    for (const more of [
      ['probe', '--sparse', '3', '--dense', '3', '--slots', '2', '--gradient-images', '1'],
      ['interference', '--slots', '2', '--steps', '1', '--seeds', '1', '--draws', '4', '--draw-size', '1'],
      ['replace', '--starts', '59', '--steps', '4', ...windows],
      ['replace', '--starts', '59', '--steps', '4', '--eta', '0.5', '--ranges', '59-30,29-10'],
    ]) {
      const { code, out, err } = await command(...more, ...words)
      expect(code, err).to.equal(0)
      expect(out).to.contain('Nothing is known to be held out of these images')
      expect(existsSync(join(small.folder, 'instruments', `${more[0]}-w.json`))).to.equal(true)
    }
    const page = await readFile(join(small.folder, 'report.html'), 'utf8')
    for (const name of ['probe', 'interference', 'replace']) expect(page).to.contain(`trislot ${name} --`)
    expect(page).to.not.contain('No step is logged')
    expect(await command('interference', '--optimizer', 'continued', ...words)).to.include({
      code: 2,
      err: 'trislot interference: expected --optimizer to be fresh for a file of weights, got "continued"',
    })
  })

  it('measure the checkpoint of a script, on images that are named', async () => {
    const { trainer, unet, schedule } = await tinyTrainer()
    const checkpoint = await saveCheckpoint(trainer, join(small.folder, 'script'))
    for (const object of [trainer, unet, schedule]) object.dispose()
    const words = ['measure', '--checkpoint', checkpoint, '--count', '2', '--timestep-stride', '500']
    const out = join(small.folder, 'script.json')
    expect(await command(...words, '--out', out)).to.include({
      code: 2,
      err: `trislot measure: expected --data to be given for ${checkpoint}, which is not of trislot train, got none; --classes too where its network has classes`,
    })
    const { code, err } = await command(...words, '--out', out, '--data', small.data)
    expect(code, err).to.equal(0)
    expect(JSON.parse(await readFile(out, 'utf8')).timestepCount).to.equal(1000)
  })

  it('refuse options that have no effect, and seeds that would be counted twice', async () => {
    for (const [words, message] of [
      [
        '--no-training --no-gradients',
        'expected --no-training and --no-gradients to be given one at a time, got "both"',
      ],
      ['--no-training --steps 9', 'expected --steps to be absent with --no-training, got 9'],
      ['--no-training --lr 1', 'expected --lr to be absent with --no-training, got 1'],
      ['--no-gradients --draw-size 4', 'expected --draw-size to be absent with --no-gradients, got 4'],
      ['--no-gradients --draws 4', 'expected --draws to be absent with --no-gradients, got 4'],
      ['--seeds 1,1', 'expected --seeds to be a list without repetitions, got [1, 1]'],
    ] as const) {
      expect(await command('interference', '--run', run, ...words.split(' '))).to.deep.equal({
        ...{ code: 2, out: '' },
        err: `trislot interference: ${message}`,
      })
    }
  })

  it('refuse slots that are no slots', async () => {
    const ranges = await command('replace', '--run', run, '--ranges', '7')
    expect(ranges.code).to.equal(2)
    expect(ranges.err).to.contain('expected --ranges to be ranges of timesteps such as 300-100,50-0, got "7"')
    const { code, err } = await command('interference', '--run', run, '--slot-edges', '0,7,5')
    expect(code).to.equal(2)
    expect(err).to.contain('trislot interference: expected slots[1].end to be an integer in [8, 30], got 5')
  })
})
