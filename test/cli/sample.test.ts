import { existsSync } from 'node:fs'
import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect } from 'chai'
import { readNpz } from '../../lib/data/npz.ts'
import { command, start, until } from '../support/command.ts'
import { asArguments, SMALL, smallData } from '../support/small-run.ts'

describe('trislot sample', () => {
  let small: Awaited<ReturnType<typeof smallData>>
  let run: string
  before(async () => {
    small = await smallData()
    run = join(small.folder, 'r')
    const trained = await command('train', ...asArguments({ ...SMALL, data: small.data, steps: 2, run }))
    expect(trained.code, trained.err).to.equal(0)
  })
  after(() => small.remove())

  const sample = (...more: string[]): string[] => {
    return ['sample', '--run', run, '--threads', '1', '--count', '3', ...more]
  }

  it('ends with the same npz, byte for byte, after kill -9 and the same command again', async () => {
    const words = sample('--count', '30', '--batch-size', '2', '--steps', '4', '--format', 'npz', '--out')
    const whole = await command(...words, join(small.folder, 'whole'))
    expect(whole.code, whole.err).to.equal(0)
    const folder = join(small.folder, 'killed')
    const parts = join(folder, 'samples_30x8x8x1.parts')
    const { child, ended } = start([...words, folder])
    await until(async () => existsSync(parts) && (await readdir(parts)).length >= 3, 'some shards')
    child.kill('SIGKILL')
    expect((await ended).signal).to.equal('SIGKILL')
    expect(existsSync(join(folder, 'samples_30x8x8x1.npz'))).to.equal(false)
    const again = await command(...words, folder)
    expect(again).to.include({ code: 0, out: join(folder, 'samples_30x8x8x1.npz') })
    expect((await readFile(again.out)).equals(await readFile(whole.out))).to.equal(true)
    const arrays = await readNpz(again.out, ['arr_0', 'arr_1'])
    expect(arrays.get('arr_0')?.shape).to.deep.equal([30, 8, 8, 1])
    expect((await command(...words, folder)).out).to.equal(again.out)
    const other = await command(...words, folder, '--seed', '5')
    expect(other.code).to.equal(1)
    expect(other.err).to.contain('drawSamplesNpz: expected the settings of the samples in')
    expect(other.err).to.contain('got seed 5 instead of 0; give the same again')
    const ancestral = [...words, join(small.folder, 'ancestral'), '--solver', 'ddpm', '--count', '2']
    expect((await command(...ancestral)).code).to.equal(0)
    const narrow = await command(...ancestral, '--variance', 'fixedSmall')
    expect(narrow.err).to.contain('got variance "fixedSmall" instead of "fixedLarge"')
  })

  it('warns of a single step at the cleanest timestep', async () => {
    const one = (...more: string[]) => start(sample('--steps', '1', '--count', '1', ...more)).ended
    expect((await one()).err).to.contain('warning: the only step is at the cleanest timestep')
    expect((await one('--spacing', 'trailing')).err).to.not.contain('the only step')
  })

  it('draws other images with other solvers and spacings, and the same with --ddpm as with --solver ddpm', async () => {
    const drawn = new Map<string, string>()
    for (const options of [
      '--solver ddim',
      '--solver dpmpp2m --spacing karras',
      '--solver dpmpp2m --spacing karras --rho 1',
      '--solver heun --spacing logSnr',
      '--solver euler --spacing quadratic',
      '--solver dpmpp2m --no-lower-order-final',
      '--solver ddpm',
    ]) {
      const { code, out, err } = await command(...sample('--steps', '3', ...options.split(' ')))
      expect(code, `${options}: ${err}`).to.equal(0)
      drawn.set(options, (await readFile(out)).toString('base64'))
    }
    expect(new Set(drawn.values()).size).to.equal(drawn.size)
    const { out } = await command(...sample('--steps', '3', '--ddpm'))
    expect((await readFile(out)).toString('base64')).to.equal(drawn.get('--solver ddpm'))
  })

  it('refuses options that do not belong together', async () => {
    const message = async (options: string) => {
      const { code, err } = await command(...sample(...options.split(' ')))
      expect(code, err).to.equal(2)
      return err
    }
    expect(await message('--solver heun --eta 1')).to.equal(
      'trislot sample: expected --eta to be absent, which belongs to ddim, got 1',
    )
    expect(await message('--lower-order-final')).to.equal(
      'trislot sample: expected --lower-order-final to be absent, which belongs to dpmpp2m, got true',
    )
    expect(await message('--ddpm --solver heun')).to.equal(
      'trislot sample: expected one of --ddpm and --solver heun, got both',
    )
    expect(await message('--respacing 10 --spacing karras')).to.equal(
      'trislot sample: expected one of --spacing and --respacing, got both',
    )
    expect(await message('--steps 5')).to.equal(
      'spaceSteps: expected steps to be an integer in [1, 4], got 5',
    )
  })
})
