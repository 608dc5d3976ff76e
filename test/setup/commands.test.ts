import { spawnSync } from 'node:child_process'
import { join } from 'node:path'
import { expect } from 'chai'
import { packageRoot } from '../../lib/setup/paths.ts'
import { temporaryFolders } from './support.ts'

describe('trislot setup and trislot doctor', function () {
  this.timeout(60_000)
  const temporary = temporaryFolders()
  const trislot = (...argv: string[]) => {
    const env = { ...process.env, TRISLOT_HOME: join(temporary(), 'home') }
    const { status, stdout, stderr } = spawnSync(
      process.execPath,
      [join(packageRoot(), 'bin/trislot.js'), ...argv],
      { encoding: 'utf8', env },
    )
    return { status, stdout, stderr: stderr.trim() }
  }

  it('refuse unknown options with the nearest name', () => {
    expect(trislot('setup', '--libtroch', 'x')).to.deep.equal({
      status: 2,
      stdout: '',
      stderr:
        'trislot setup: expected options to be among --libtorch, --cuda, --wheel, --mirror, --sha256, --force, --keep-build, --jobs, --help, got unknown --libtroch (did you mean --libtorch?)',
    })
    expect(trislot('doctor', '--jsn').stderr).to.equal(
      'trislot doctor: expected options to be among --json, --help, got unknown --jsn (did you mean --json?)',
    )
  })

  it('refuse wrong values', () => {
    expect(trislot('setup', '--jobs', 'two')).to.deep.include({
      status: 2,
      stderr: 'trislot setup: expected --jobs to be a whole number, got "two"',
    })
    expect(trislot('setup', '--libtorch', '/nowhere')).to.deep.include({
      status: 1,
      stderr:
        'trislot setup: expected --libtorch to be a LibTorch folder (lib/ and include/, with its version file), got "/nowhere"',
    })
  })

  it('show their options', () => {
    expect(trislot('setup', '--help').stdout).to.match(/^trislot setup: finds LibTorch[\s\S]*--keep-build/)
    expect(trislot('doctor', '--help').status).to.equal(0)
  })

  it('let doctor answer in JSON, with exit code 1, when nothing is built', () => {
    const { status, stdout } = trislot('doctor', '--json')
    expect(status).to.equal(1)
    expect(JSON.parse(stdout)).to.deep.include({ ok: false, node: process.version })
  })
})
