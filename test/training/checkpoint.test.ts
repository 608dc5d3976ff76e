import { spawn } from 'node:child_process'
import {
  chmod,
  mkdir,
  mkdtemp,
  readdir,
  readFile,
  rename,
  rm,
  symlink,
  truncate,
  writeFile,
} from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { basename, join } from 'node:path'
import { expect } from 'chai'
import { CheckpointError } from '../../lib/errors.ts'
import { lossSecondMomentSampler } from '../../lib/timesteps/loss-second-moment.ts'
import {
  latestCheckpoint,
  listCheckpoints,
  loadCheckpoint,
  loadForSampling,
  readCheckpoint,
  restoreCheckpoint,
  saveCheckpoint,
} from '../../lib/training/checkpoint.ts'
import { Trainer } from '../../lib/training/trainer.ts'
import { watch } from '../support/command.ts'
import { oneStep, smallTrainer } from '../support/one-step.ts'

const names = (folders: readonly string[]): string[] => folders.map((folder) => basename(folder))

async function failure(work: Promise<unknown>): Promise<Error> {
  try {
    await work
  } catch (error) {
    return error as Error
  }
  throw new Error('expected a failure')
}

/** Tries to save one more step in a child whose files may not grow, or whose folder it may not write. */
async function failingSave(
  folder: string,
  mode: 'full' | 'read-only',
): Promise<{ name: string; message: string }> {
  const script = new URL('../support/failing-save.ts', import.meta.url).pathname
  const limit = mode === 'full' ? 'ulimit -f 256; ' : ''
  const command = `${limit}exec "$0" --import tsx "$1" "$2" "$3"`
  const child = spawn('bash', ['-c', command, process.execPath, script, folder, mode], {
    cwd: new URL('../..', import.meta.url).pathname,
  })
  const { out, err } = await watch(child).ended
  const line = out.trim().split('\n').at(-1)
  if (!line) throw new Error(err)
  return JSON.parse(line)
}

describe('checkpoints', () => {
  let run: string
  let trainer: Trainer

  before(async () => {
    trainer = await smallTrainer(1)
  })
  after(() => trainer.dispose())
  beforeEach(async () => {
    run = await mkdtemp(join(tmpdir(), 'trislot-checkpoint-'))
  })
  afterEach(() => rm(run, { recursive: true, force: true }))

  it('are a folder of weights, averages, optimizer and state, named after the step', async () => {
    const folder = await saveCheckpoint(trainer, run, { imagesSeen: 2, extra: { note: 'mine' } })
    expect(folder).to.equal(join(run, 'checkpoints', 'step-00000001'))
    expect((await readdir(folder)).sort()).to.deep.equal([
      'ema-0.9.safetensors',
      'ema-0.9995.safetensors',
      'model.safetensors',
      'optimizer.safetensors',
      'state.json',
    ])
    const state = await readCheckpoint(folder)
    expect(state).to.include({ format: 1, step: 1, imagesSeen: 2 })
    expect(state.extra).to.deep.equal({ note: 'mine' })
    expect(state.schedule).to.include({ name: 'cosine', timestepCount: 50 })
    expect(state.versions.libtorch).to.match(/^2\./)
    expect(await readdir(join(run, 'checkpoints'))).to.deep.equal(['step-00000001'])
  })

  it('bring everything back: the loaded trainer goes on bit for bit', async () => {
    const original = await smallTrainer(2)
    const { trainer: loaded } = await loadCheckpoint(await saveCheckpoint(original, run))
    expect(loaded.step).to.equal(2)
    await oneStep(original)
    await oneStep(loaded)
    const [a, b] = [join(run, 'a'), join(run, 'b')]
    const [first, second] = [await saveCheckpoint(original, a), await saveCheckpoint(loaded, b)]
    for (const file of (await readCheckpoint(first)).files) {
      expect(await readFile(join(second, file.name)), file.name).to.deep.equal(
        await readFile(join(first, file.name)),
      )
    }
    original.dispose()
    loaded.dispose()
  })

  it('keep how many steps were skipped in a row, so that a restarted run gives up as one that never stopped', async () => {
    const { unet, schedule } = trainer
    const own = await Trainer.create(unet, schedule, { nonFinite: 'skip', nonFiniteLimit: 2, emaRates: [] })
    const bad = (of: Trainer) => oneStep(of, new Float32Array(2).fill(3e38))
    await bad(own)
    const folder = await saveCheckpoint(own, run)
    expect((await readCheckpoint(folder)).skips).to.equal(1)
    const { trainer: loaded } = await loadCheckpoint(folder)
    expect((await failure(bad(loaded))).message).to.contain('got 2 skipped steps in a row at step 1')
    await restoreCheckpoint(folder, own)
    await oneStep(own)
    const after = await readCheckpoint(await saveCheckpoint(own, run))
    expect(after).to.not.have.property('skips')
    own.dispose()
    loaded.dispose()
  })

  it('bring back what a sampler has learned, and refuse another sampler', async () => {
    const sampler = lossSecondMomentSampler({ timestepCount: 50, historyLength: 2 })
    const observed = {
      t: Int32Array.of(4),
      loss: Float32Array.of(0.7),
      perHead: new Float32Array(3),
      heads: [],
    }
    sampler.observe?.(observed)
    const folder = await saveCheckpoint(trainer, run, { sampler })
    const fresh = lossSecondMomentSampler({ timestepCount: 50, historyLength: 2 })
    await restoreCheckpoint(folder, trainer, fresh)
    expect(fresh.state?.()).to.deep.equal(sampler.state?.())
    const other = { ...fresh, name: 'other' }
    expect((await failure(restoreCheckpoint(folder, trainer, other))).message).to.equal(
      `restoreCheckpoint: expected a sampler named loss-second-moment, which ${folder} was trained with, got other`,
    )
  })

  it('give raw weights or any average for sampling, and name those they have', async () => {
    const folder = await saveCheckpoint(trainer, run)
    for (const weights of ['raw', 'ema', 0.9995] as const) {
      const { unet } = await loadForSampling(folder, { weights })
      expect(unet.parameterCount).to.equal(trainer.unet.parameterCount)
      unet.dispose()
    }
    const error = await failure(loadForSampling(folder, { weights: 0.5 }))
    expect(error.message).to.equal(
      'loadForSampling: expected weights to be raw, ema or an average that was kept (0.9, 0.9995), got 0.5',
    )
  })

  it('keep the newest N', async () => {
    const own = await smallTrainer(0)
    for (let i = 0; i < 4; i++) {
      await oneStep(own)
      await saveCheckpoint(own, run, { keep: 2 })
    }
    expect(names(await listCheckpoints(run))).to.deep.equal(['step-00000003', 'step-00000004'])
    own.dispose()
  })

  it('are replaced when the same step is saved again', async () => {
    await saveCheckpoint(trainer, run, { extra: 1 })
    const folder = await saveCheckpoint(trainer, run, { extra: 2, keep: 1 })
    expect((await readCheckpoint(folder)).extra).to.equal(2)
    expect(await readdir(join(run, 'checkpoints'))).to.deep.equal(['step-00000001'])
  })

  it('leave nothing of a killed save behind at the next one', async () => {
    await mkdir(join(run, 'checkpoints', '.partial-step-00000009-x'), { recursive: true })
    await saveCheckpoint(trainer, run)
    expect(await readdir(join(run, 'checkpoints'))).to.deep.equal(['step-00000001'])
  })

  it('fall back to the one before when the newest is damaged, and say so', async () => {
    const own = await smallTrainer(1)
    const good = await saveCheckpoint(own, run)
    await oneStep(own)
    const bad = await saveCheckpoint(own, run)
    await truncate(join(bad, 'model.safetensors'), 100)
    const told: string[] = []
    const found = await latestCheckpoint(run, { onUnreadable: (_, error) => told.push(error.message) })
    expect(found).to.equal(good)
    expect(told).to.have.length(1)
    expect(told[0]).to.match(
      /^readCheckpoint: expected .*step-00000002 to hold the files that its state\.json lists/,
    )
    own.dispose()
  })

  it('are not passed over for an error that may pass', async () => {
    const own = await smallTrainer(1)
    await saveCheckpoint(own, run)
    await oneStep(own)
    const newest = await saveCheckpoint(own, run)
    own.dispose()
    for (const name of ['state.json', 'model.safetensors']) {
      const file = join(newest, name)
      await rename(file, join(run, 'aside'))
      await symlink(file, file) // ELOOP, as EACCES or EMFILE no word on the content, also for root
      const told: string[] = []
      const error = await failure(latestCheckpoint(run, { onUnreadable: (folder) => told.push(folder) }))
      expect(error).to.be.instanceOf(CheckpointError)
      expect(error.message).to.equal(`readCheckpoint: expected ${file} to be readable, got ELOOP`)
      expect(told).to.deep.equal([])
      await rename(join(run, 'aside'), file)
    }
    expect(await latestCheckpoint(run)).to.equal(newest)
  })

  it('list everything that is wrong with a damaged one', async () => {
    const folder = await saveCheckpoint(trainer, run)
    const optimizer = join(folder, 'optimizer.safetensors')
    const bytes = await readFile(optimizer)
    bytes[bytes.length - 1] = 1 ^ (bytes.at(-1) as number)
    await writeFile(optimizer, bytes)
    await rm(join(folder, 'ema-0.9.safetensors'))
    await truncate(join(folder, 'model.safetensors'), 100)
    const { bytes: size } = (await readFile(join(folder, 'state.json'), 'utf8').then(JSON.parse)).files.find(
      (file: { name: string }) => file.name === 'model.safetensors',
    )
    const error = await failure(readCheckpoint(folder))
    expect(error).to.be.instanceOf(CheckpointError)
    expect(error.message).to.equal(
      `readCheckpoint: expected ${folder} to hold the files that its state.json lists, got ema-0.9.safetensors missing, ` +
        `model.safetensors with 100 bytes instead of ${size}, optimizer.safetensors with another sha256`,
    )
    const whole = JSON.parse(await readFile(join(folder, 'state.json'), 'utf8'))
    for (const files of [{}, [null], [{ bytes: 3 }]]) {
      await writeFile(join(folder, 'state.json'), JSON.stringify({ ...whole, files }))
      const odd = await failure(readCheckpoint(folder))
      expect(odd).to.be.instanceOf(CheckpointError)
      expect(odd.message).to.contain('to be a list of files with their names, got')
    }
    const { network: _, ...rest } = whole
    const parts = { ...rest, network: 5, step: '1', skips: -1, schedule: {}, trainer: [] }
    await writeFile(join(folder, 'state.json'), JSON.stringify(parts))
    const malformed = await failure(readCheckpoint(folder))
    expect(malformed).to.be.instanceOf(CheckpointError)
    expect(malformed.message).to.equal(
      `readCheckpoint: expected ${join(folder, 'state.json')} to hold network as an object, got 5; ` +
        'trainer as an object, got []; step as an integer >= 0, got "1"; skips as an integer >= 0, got -1; ' +
        'schedule.betas as a list of numbers, got undefined; trainer.emaRates as a list of numbers, got undefined',
    )
    await writeFile(join(folder, 'state.json'), '{ "format": 7 }')
    expect((await failure(readCheckpoint(folder))).message).to.equal(
      `readCheckpoint: expected ${join(folder, 'state.json')} to have format 1, got 7`,
    )
  })

  for (const [mode, reason] of [
    ['full', /File too large/],
    ['read-only', /permission denied|EACCES/i],
  ] as const) {
    it(`survive a save that fails because the ${mode === 'full' ? 'disk is full' : 'folder is read-only'}`, async () => {
      const folder = await saveCheckpoint(trainer, run)
      await chmod(run, 0o755)
      if (mode === 'read-only') await chmod(join(run, 'checkpoints'), 0o555)
      const error = await failingSave(folder, mode)
      expect(error.name).to.equal('CheckpointError')
      const path = join(run, 'checkpoints', 'step-00000002')
      expect(error.message.startsWith(`saveCheckpoint: expected ${path} to be written, got `)).to.equal(true)
      expect(error.message).to.match(reason)
      expect(error.message.endsWith('; the checkpoints before it are untouched')).to.equal(true)
      expect(await readdir(join(run, 'checkpoints'))).to.deep.equal(['step-00000001'])
      expect(await latestCheckpoint(run)).to.equal(folder)
      await chmod(join(run, 'checkpoints'), 0o755)
    })
  }
})
