import { existsSync } from 'node:fs'
import { copyFile, mkdtemp, readFile, rm, stat, truncate, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join, relative } from 'node:path'
import { expect } from 'chai'
import { readTensors, writeTensors } from '../../lib/checkpoint-file.ts'
import { writeNpz } from '../../lib/data/npz.ts'
import { memoryCount, resetPeakMemory } from '../../lib/device.ts'
import { CheckpointError } from '../../lib/errors.ts'
import { UNet, type UNetOptions } from '../../lib/model/unet.ts'
import { elementCount } from '../../lib/tensor.ts'
import { listCheckpoints, saveCheckpoint } from '../../lib/training/checkpoint.ts'
import { drawImages } from '../../lib/training/preview.ts'
import { run } from '../../lib/training/run.ts'
import type { RunOptions } from '../../lib/training/run-config.ts'
import { convertWeights } from '../../lib/weights/convert.ts'
import { inspectWeights } from '../../lib/weights/inspect.ts'
import { loadModel } from '../../lib/weights/load-model.ts'
import { torchFile } from '../checkpoint/by-hand.ts'
import { command } from '../support/command.ts'
import { fixturePath } from '../support/fixtures.ts'
import { formulaWeights } from '../support/formula-weights.ts'
import { rejection } from '../support/rejection.ts'
import { TINY, tinyBatch, tinyTimesteps, tinyTrainer } from '../support/tiny.ts'

/** A network like guided-diffusion's, but small: noise and a variance of RGB images. */
const NETWORK: UNetOptions = { ...TINY, imageChannels: 3, heads: ['eps'], learnsVariance: true }
const GIVEN = {
  network: { heads: ['eps'], attentionHeads: 2, newAttentionOrder: false, normGroups: 4 },
  schedule: 'linear',
  timestepCount: 1000,
  variance: 'learnedRange',
} as const
const WORDS = [
  ...['--heads', 'eps', '--attention-heads', '2', '--no-new-attention-order', '--norm-groups', '4'],
  ...['--schedule', 'linear', '--timestep-count', '1000', '--variance', 'learnedRange'],
]

describe('Weights of guided-diffusion', () => {
  let folder: string
  let file: string
  const path = (name: string): string => join(folder, name)

  before(async () => {
    folder = await mkdtemp(join(tmpdir(), 'trislot-model-'))
    file = path('weights.pt')
    const unet = await UNet.create(NETWORK)
    const weights = [...formulaWeights(unet.parameters())]
    unet.dispose()
    const list = weights.map(([name, { data, shape }]) => ({ name, shape, data: data as Float32Array }))
    await writeFile(file, torchFile(list))
  })
  after(() => rm(folder, { recursive: true }))

  async function drawn(name: string, options: Parameters<typeof loadModel>[1]): Promise<Float32Array> {
    const { unet, schedule, model } = await loadModel(name, options)
    const { data } = await drawImages(unet, {
      ...{ schedule, count: 2, image: [3, 8, 8], seed: 3, respacing: '3', combine: 'eps' },
      rescalesTimesteps: model.rescalesTimesteps,
      variance: model.variance,
    })
    unet.dispose()
    schedule.dispose()
    return data as Float32Array
  }

  it('draw the same images bit for bit as .pt, as .safetensors and as .pt again', async () => {
    const [safe, again] = [path('there.safetensors'), path('back.pt')]
    const { config, unknown } = await convertWeights(file, safe, { given: GIVEN })
    expect([config, unknown]).to.deep.equal([path('there.json'), []])
    await convertWeights(safe, again)
    expect(JSON.parse(await readFile(path('back.json'), 'utf8'))).to.deep.equal(
      JSON.parse(await readFile(path('there.json'), 'utf8')),
    )
    const images = await drawn(file, { given: GIVEN })
    expect(images.some((value) => value !== images[0])).to.equal(true)
    expect(await drawn(safe, {})).to.deep.equal(images)
    expect(await drawn(again, {})).to.deep.equal(images)
    expect((await readTensors(again)).tensors).to.deep.equal((await readTensors(file)).tensors)
  })

  it('are sampled by one command, from the file or from what it was converted to', async () => {
    const draw = (...words: string[]) =>
      command(
        ...['sample', '--count', '2', '--steps', '2', '--height', '8', '--width', '8', '--threads', '1'],
        ...words,
      )
    const direct = await draw('--weights', file, '--out', path('direct.png'), ...WORDS)
    expect(direct).to.deep.equal({ code: 0, out: path('direct.png'), err: '' })
    const converted = await command('convert', file, path('cli.safetensors'), ...WORDS)
    expect(converted).to.deep.equal({
      code: 0,
      out: `${path('cli.safetensors')}\n${path('cli.json')}`,
      err: '',
    })
    const second = await draw('--weights', path('cli.safetensors'), '--out', path('second.png'))
    expect(second.code, second.err).to.equal(0)
    expect((await readFile(path('second.png'))).equals(await readFile(path('direct.png')))).to.equal(true)
    const refused = await draw('--weights', file)
    expect(refused.code).to.equal(2)
    expect(refused.err).to.match(
      /^trislot sample: expected what the shapes in .*weights\.pt do not tell to be given, got no\n {2}predictions, .*\(--heads eps, as a rule\)\n/,
    )
    expect(refused.err).to.contain(
      '(--new-attention-order, or --no-new-attention-order for the legacy order)',
    )
  })

  it('are sampled by ancestral steps too, whether they learn a variance or not', async () => {
    const plain = path('plain.pt')
    const unet = await UNet.create({ ...NETWORK, learnsVariance: false })
    await unet.saveWeights(path('no-variance.safetensors'))
    unet.dispose()
    await convertWeights(path('no-variance.safetensors'), plain, { given: GIVEN })
    for (const words of [
      ['--weights', plain],
      ['--weights', file, ...WORDS],
    ]) {
      const size = ['--height', '8', '--width', '8', '--count', '1', '--steps', '2']
      const { code, err } = await command('sample', ...words, ...size, '--ddpm', '--out', path('ddpm.png'))
      expect(code, err).to.equal(0)
    }
  })

  it('are measured on images that are named', async () => {
    const words = ['--weights', file, ...WORDS, '--count', '2', '--timestep-stride', '500', '--threads', '1']
    const measured = await command(
      ...['measure', ...words, '--data', 'emoji', '--size', '8', '--slots', '2', '--out', path('curve.json')],
    )
    expect(measured.code, measured.err).to.equal(0)
    expect(measured.out).to.match(/^ {2}slot {2}1: t .* of the loss$/m)
    expect(await command('measure', ...words)).to.deep.equal({
      code: 2,
      out: '',
      err: 'trislot measure: expected --data to be given with a file of weights, got none',
    })
  })

  it('are measured and bounded as they were trained, also where they are told t x 1000 / T', async () => {
    const words = ['--weights', file, ...WORDS, '--timestep-count', '40', '--rescales-timesteps']
    const images = ['--data', 'emoji', '--size', '8', '--count', '2', '--threads', '1']
    const measured = await command(
      ...['measure', ...words, ...images, '--timestep-stride', '20', '--out', path('rescaled.json')],
    )
    expect(measured.code, measured.err).to.equal(0)
    const nll = await command('nll', ...words, ...images, '--respacing', '4', '--out', path('nll'))
    expect(nll.code, nll.err).to.equal(0)
    expect(nll.out).to.match(/^[\d.]+ bits\/dim over 2 images/)
    const json = JSON.parse(await readFile(join(path('nll'), 'nll.json'), 'utf8'))
    expect(json).to.include({ network: file, variance: 'learnedRange', count: 2 })
  })

  it('that make images larger are sampled from small images, in files that go on from where they stopped', async () => {
    const larger = path('larger.safetensors')
    const unet = await UNet.create({ ...NETWORK, lowRes: true })
    await unet.saveWeights(larger)
    unet.dispose()
    const small = async (name: string, pixel: number) => {
      const data = new Uint8Array(2 * 4 * 4 * 3).fill(pixel)
      await writeNpz(path(name), { arr_0: { data, shape: [2, 4, 4, 3] } })
      return path(name)
    }
    const draw = (from: string, ...more: string[]) =>
      command(
        ...['sample', '--weights', larger, ...WORDS, '--low-res', from, '--height', '8', '--width', '8'],
        ...['--steps', '2', '--threads', '1', '--format', 'npz', '--shard-size', '1', '--out', path('large')],
        ...more,
      )
    const dark = await small('dark.npz', 10)
    const first = await draw(dark)
    expect(first.code, first.err).to.equal(0)
    const bytes = await readFile(first.out)
    expect((await draw(dark)).out).to.equal(first.out)
    expect((await readFile(first.out)).equals(bytes)).to.equal(true)
    for (const other of [await draw(await small('light.npz', 200)), await draw(dark, '--kernels', 'plain')]) {
      expect(other.code).to.equal(1)
      expect(other.err).to.contain('drawSamplesNpz: expected the settings of the samples in')
    }
  })

  it('begin a run of another network: what fits is taken, head by head, and everything is told', async () => {
    const options = {
      ...{ data: 'emoji', size: 8, steps: 1, batchSize: 2, threads: 1, previewEvery: 0 },
      ...{ init: file, schedule: 'linear', timestepCount: 1000, attentionHeads: 2, newAttentionOrder: false },
      ...{ normGroups: 4, heads: ['v', 'eps'], run: path('run') },
    } as const satisfies Partial<RunOptions>
    const missing = await rejection(run(options as unknown as RunOptions))
    expect(missing.message).to.match(
      /^run: expected what .* got no\n {2}predictions, .*\(initHeads eps, as a rule\)\nor all of it in a JSON file by initConfig$/s,
    )
    const lines: string[] = []
    const whole = { ...options, initHeads: ['eps'] } as unknown as RunOptions
    await run(whole, { log: (line) => lines.push(line) })
    expect(lines.slice(0, 2)).to.deep.equal([
      `begins with 128 of 128 tensors of ${file} (the options given)`,
      '  heads that begin anew: v',
    ])
    const { learnsVariance, heads, attentionHeads, channelMult } = JSON.parse(
      await readFile(join(path('run'), 'config.json'), 'utf8'),
    )
    expect({ learnsVariance, heads, attentionHeads, channelMult }).to.deep.equal({
      ...{ learnsVariance: true, heads: ['v', 'eps'], attentionHeads: 2, channelMult: [1, 2] },
    })
    // A run that goes on takes its own weights.
    const more: string[] = []
    await run({ ...whole, steps: 2 }, { log: (line) => more.push(line) })
    expect(more[0]).to.match(/2 steps, from step 1$/)

    // Its checkpoint's average, as a .pt and as the beginning of a run on grey images.
    const [checkpoint] = (await listCheckpoints(path('run'))).slice(-1)
    const told = await command('inspect', path('run'))
    expect(told.out).to.match(
      /^.*step-00000002: a checkpoint of trislot [\d.]+, step 2, 4 images seen; every file is whole\nnetwork:\n/,
    )
    const converted = await command('convert', checkpoint as string, path('mine.pt'))
    expect(converted).to.deep.equal({ code: 0, out: `${path('mine.pt')}\n${path('mine.json')}`, err: '' })
    const other: string[] = []
    const grey = { data: 'digits', steps: 1, batchSize: 2, threads: 1, previewEvery: 0, run: path('grey') }
    await run({ ...grey, init: path('mine.pt') }, { log: (line) => other.push(line) })
    expect(other.slice(0, 3)).to.deep.equal([
      `begins with 125 of 128 tensors of ${path('mine.pt')} (${path('mine.json')})`,
      '  heads that begin anew: v, eps, variance',
      '  tensors that begin anew: input_blocks.0.0.weight: file [8, 3, 3, 3], model [8, 1, 3, 3], out.2.weight, out.2.bias',
    ])

    // The command line, of a checkpoint and of a converted file; and a run like another, by its config.json.
    for (const [k, init] of [checkpoint as string, path('mine.pt')].entries()) {
      const words = ['--data', 'emoji', '--size', '8', '--steps', '1', '--batch-size', '2', '--threads', '1']
      const begun = await command('train', ...words, '--init', init, '--run', path(`by-command-${k}`))
      expect(begun.code, begun.err).to.equal(0)
      const config = JSON.parse(await readFile(join(path(`by-command-${k}`), 'config.json'), 'utf8'))
      expect(config).to.not.have.any.keys('angleSpan', 'nullClass', 'imageChannels', 'dims')
      const again = await command(
        ...['train', '--config', join(path(`by-command-${k}`), 'config.json'), '--run', path(`again-${k}`)],
      )
      expect(again.code, again.err).to.equal(0)
    }
  })

  it('are taken over head by head, and the report holds every name', async () => {
    const unet = await UNet.create({ ...NETWORK, heads: ['xStart', 'v', 'eps'], classCount: 5 }, { seed: 9 })
    const from = { heads: ['eps'], learnsVariance: true, imageChannels: 3 } as const
    const report = await unet.loadWeights(file, { partial: true, from })
    expect(report.fresh).to.deep.equal(['label_emb.weight'])
    expect(report.ignored).to.deep.equal([])
    expect(report.outputs).to.deep.equal({ taken: ['eps', 'variance'], fresh: ['xStart', 'v'] })
    expect(report.loaded).to.have.length(unet.parameters().length - 1)

    const saved = path('taken.safetensors')
    await unet.saveWeights(saved)
    const values = async (name: string, tensor: string) =>
      Array.from((await readTensors(name)).tensors.get(tensor)?.data as Float32Array)
    const [bias, theirs] = [await values(saved, 'out.2.bias'), await values(file, 'out.2.bias')]
    expect(bias).to.deep.equal([0, 0, 0, 0, 0, 0, ...theirs])
    expect(await values(saved, 'middle_block.1.qkv.weight')).to.deep.equal(
      await values(file, 'middle_block.1.qkv.weight'),
    )
    unet.dispose()
  })

  it('are not taken over by channels that mean something else', async () => {
    // 6 rows on both sides: noise and variance of RGB there, xStart and noise here.
    const unet = await UNet.create({ ...NETWORK, heads: ['xStart', 'eps'], learnsVariance: false })
    const from = { heads: ['eps'], learnsVariance: true, imageChannels: 3 } as const
    const { outputs } = await unet.loadWeights(file, { partial: true, from })
    expect(outputs).to.deep.equal({ taken: ['eps'], fresh: ['xStart'] })
    unet.dispose()
    const grey = await UNet.create({ ...NETWORK, imageChannels: 1 })
    const report = await grey.loadWeights(file, { partial: true, from })
    expect(report.outputs).to.deep.equal({ taken: [], fresh: ['eps', 'variance'] })
    expect(report.fresh).to.include('input_blocks.0.0.weight: file [8, 3, 3, 3], model [8, 1, 3, 3]')
    expect(report.loaded).to.not.include('out.2.bias')
    grey.dispose()
  })

  it('are refused when nothing of them fits, or when only a strict load was asked for', async () => {
    const unet = await UNet.create(TINY)
    const module = fixturePath('torch-files/module.pt')
    expect(await rejection(unet.loadWeights(module, { partial: true }))).to.be.instanceOf(CheckpointError)
    const from = { heads: ['eps'], learnsVariance: true, imageChannels: 3 } as const
    expect((await rejection(unet.loadWeights(file, { from }))).message).to.match(
      /^unet\.loadWeights: expected from to be absent unless partial is true, got /,
    )
    unet.dispose()
  })

  it('come from the part of a file that is named, and the report tells which was read', async () => {
    const unet = await UNet.create(TINY)
    const error = await rejection(
      unet.loadWeights(fixturePath('torch-files/torch-2.15.0.pt'), { part: 'nothing' }),
    )
    expect(error.message).to.match(/expected part to name a dict of the file \(model, ema\), got "nothing"$/)
    unet.dispose()
    const { part, otherParts } = await inspectWeights(fixturePath('torch-files/torch-2.15.0.pt'))
    expect({ part, otherParts }).to.deep.equal({ part: 'ema', otherParts: ['model'] })
  })

  it('keep the plain values of a .pt in .safetensors, but not which part they were', async () => {
    const safe = path('plain.safetensors')
    const { contents, config } = await convertWeights(fixturePath('torch-files/torch-2.2.2.pt'), safe)
    expect([contents.part, config]).to.deep.equal(['ema', undefined])
    const { tensors, metadata } = await inspectWeights(safe)
    expect(metadata).to.deep.equal({
      step: '7',
      lr: '0.5',
      name: 'tiny',
      'betas.0': '0.5',
      'betas.1': '0.75',
    })
    expect(tensors.map(({ dtype }) => dtype)).to.deep.equal(['float16', 'float16', 'float16'])
  })

  it('are converted beside a configuration, which stays in its owner’s words, and beside no other JSON', async () => {
    const [source, safe] = [path('own.pt'), path('own.safetensors')]
    await copyFile(file, source)
    const raw = {
      ...{
        model_channels: 8,
        out_channels: 6,
        num_res_blocks: 1,
        attention_resolutions: [2],
        channel_mult: [1, 2],
      },
      ...{ num_heads: 2, use_scale_shift_norm: true, norm_groups: 4, predict_xstart: false },
    }
    await writeFile(path('own.json'), JSON.stringify(raw))
    const { config, unknown } = await convertWeights(source, safe)
    expect(config).to.equal(path('own.json'))
    expect(JSON.parse(await readFile(path('own.json'), 'utf8'))).to.deep.equal(raw)
    expect(unknown.map((line) => line.split(' (')[0])).to.deep.equal([
      ...['noise schedule', 'diffusion timesteps', 'whether the network sees t x 1000 / T'],
    ])
    await convertWeights(source, path('other.safetensors'))
    await convertWeights(source, path('other.safetensors')) // over what it wrote itself
    await writeFile(path('other.json'), '{"something": "else"}')
    const error = await rejection(convertWeights(source, path('other.safetensors')))
    expect(error.message).to.match(
      /^convertWeights: expected .*other\.json to be free or the configuration of a network, got another file; choose another name$/,
    )
  })

  it('are converted to .safetensors and .pt only', async () => {
    expect((await rejection(convertWeights(file, path('x.bin')))).message).to.match(
      /^convertWeights: expected to to be a file name that ends in \.safetensors or \.pt, got ".*x\.bin"$/,
    )
    for (const same of [file, relative('.', file)]) {
      expect((await rejection(convertWeights(file, same))).message).to.match(
        /^convertWeights: expected to to be another file than from, got /,
      )
    }
  })

  it('are neither converted nor described by options that the shapes contradict', async () => {
    const grey = path('three-heads.safetensors')
    const unet = await UNet.create(TINY)
    await unet.saveWeights(grey)
    unet.dispose()
    const why = `expected --heads to fit the tensors of ${grey}, got eps, against out.2.weight [3, 8, 3, 3] instead of [1, 8, 3, 3], out.2.bias [3] instead of [1]`
    expect(await command('convert', grey, path('false.pt'), '--heads', 'eps')).to.deep.equal({
      code: 2,
      out: '',
      err: `trislot convert: ${why}`,
    })
    for (const name of ['false.pt', 'false.json']) expect(existsSync(path(name))).to.equal(false)
    expect(await command('inspect', grey, '--heads', 'eps')).to.deep.equal({
      code: 2,
      out: '',
      err: `trislot inspect: ${why}`,
    })
    const config = await command('convert', grey, path('false.pt'), '--config', 'lsun_cat')
    expect(config.code).to.equal(1)
    expect(config.err).to.contain('to hold the tensors of the network of the published network lsun_cat, got')
    const { code, out } = await command('inspect', grey, '--heads', 'xStart,v,eps')
    expect(code).to.equal(0)
    expect(out).to.contain('heads: xStart, v, eps')
  })

  it('are loaded one tensor at a time: the file is never whole in memory', async () => {
    const unet = await UNet.create({ ...NETWORK, modelChannels: 32, normGroups: 32 })
    const weights = formulaWeights(unet.parameters())
    const sizes = [...weights.values()].map(({ shape }) => 4 * elementCount(shape))
    const safe = path('wide.safetensors')
    await writeTensors(safe, weights)
    for (const name of [safe, path('wide.pt')]) {
      if (name.endsWith('.pt')) await convertWeights(safe, name)
      const before = memoryCount().liveBytes
      await resetPeakMemory()
      await unet.loadWeights(name)
      const more = memoryCount().peakBytes - before
      expect(more).to.be.within(Math.max(...sizes), Math.max(...sizes) + 64)
      expect(more).to.be.lessThan(sizes.reduce((a, b) => a + b, 0) / 5)
    }
    unet.dispose()
  })
})

describe('trislot inspect', () => {
  it('tells format, types, parts, plain values and tensors of a file', async () => {
    const path = fixturePath('torch-files/torch-1.13.1.pt')
    const { code, out } = await command('inspect', path)
    expect(code).to.equal(0)
    expect(out.split('\n')).to.deep.equal([
      `${path}: torch-zip, 3 tensors, 88 numbers, 0.0 MiB`,
      'types: float16 (3)',
      'part: ema; others: model',
      'network: none of guided-diffusion',
      ...[
        '',
        'beside the tensors:',
        '  betas.0: 0.5',
        '  betas.1: 0.75',
        '  lr: 0.5',
        '  name: tiny',
        '  step: 7',
      ],
      ...['', 'tensors:', '  stem.weight  float16 [4, 2, 3, 3]', '  stem.bias    float16 [4]'],
      '  head.weight  float16 [3, 4]',
    ])
  })

  it('gives the same as JSON, of the part that is named', async () => {
    const { out } = await command(
      'inspect',
      '--json',
      fixturePath('torch-files/torch-2.5.1-legacy.pt'),
      '--part',
      'model',
    )
    const { format, tensors, part, otherParts, parameterCount, inferred } = JSON.parse(out)
    expect({ format, part, otherParts, parameterCount, kind: inferred.kind }).to.deep.equal({
      ...{ format: 'torch-legacy', part: 'model', otherParts: ['ema'], parameterCount: 88, kind: 'other' },
    })
    expect(tensors[1]).to.deep.equal({ name: 'stem.bias', dtype: 'float32', shape: [4] })
  })

  it('warns of a newer checkpoint of a run that is damaged', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'trislot-inspect-'))
    try {
      const { trainer, unet, schedule } = await tinyTrainer()
      const first = await saveCheckpoint(trainer, folder)
      await trainer.trainStep({ images: tinyBatch(), t: tinyTimesteps(), lr: 1e-3 })
      const second = await saveCheckpoint(trainer, folder)
      for (const object of [trainer, unet, schedule]) object.dispose()
      const file = join(second, 'model.safetensors')
      const { size } = await stat(file)
      await truncate(file, size - 1)
      const { code, out, err } = await command('inspect', folder)
      expect(code).to.equal(0)
      expect(out.split('\n')[0]).to.match(new RegExp(`^${first}: .*step 0, .*every file is whole$`))
      expect(err).to.equal(
        `warning: readCheckpoint: expected ${second} to hold the files that its state.json lists, got model.safetensors with ${size - 1} bytes instead of ${size}`,
      )
      const json = await command('inspect', folder, '--json')
      expect(JSON.parse(json.out).step).to.equal(0)
      expect(json.err).to.equal(err)
    } finally {
      await rm(folder, { recursive: true })
    }
  })

  it('needs a file, and names one that is not there', async () => {
    expect((await command('inspect')).code).to.equal(2)
    expect(await command('inspect', '/nowhere/x.pt')).to.include({
      code: 1,
      err: 'readTorchFile("/nowhere/x.pt"): expected a readable file, got No such file or directory',
    })
  })
})
