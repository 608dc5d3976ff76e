import { expect } from 'chai'
import { command } from '../support/command.ts'

const TINY = ['--preset', 'tiny', '--size', '8', '--channels', '1', '--batch-size', '2', '--threads', '1']

describe('trislot bench', () => {
  it('prints estimate, speed and memory of the given options', async () => {
    const { code, out, err } = await command('bench', ...TINY, '--timed-steps', '2')
    expect(code, err).to.equal(0)
    const lines = out.split('\n')
    expect(lines[0]).to.match(/^network {3}[\d,]+ weights; images 8x8, 1 channels$/)
    expect(lines[1]).to.equal('batch     2, fp32')
    expect(lines[2]).to.match(
      /^estimate {2}\d+ MiB of tensors at the peak \(weights, optimizer, averages \d+ MiB; /,
    )
    expect(lines[3]).to.match(/^fits {6}batch \d+ in [\d.]+ GiB of free memory; with --recompute \d+$/)
    expect(lines[4]).to.match(/^speed {5}[\d.]+ ms a step \([\d.]+ to [\d.]+\), [\d.]+ images\/s, 1 threads$/)
    expect(lines[5]).to.match(/^memory {4}\d+ MiB of tensors at the peak; \d+ MiB the process$/)
  })

  it('takes size and channels from the data of a train command', async () => {
    const words = ['--data', 'digits', '--preset', 'digits', '--steps', '2000', '--estimate', '--json']
    const { code, out, err } = await command('bench', ...words)
    expect(code, err).to.equal(0)
    const facts = JSON.parse(out)
    expect(facts.image).to.deep.equal([1, 28, 28])
    expect(facts.batchSize).to.equal(32)
    expect(facts.parameterCount).to.equal(1191811)
    expect(facts).not.to.have.property('stepMs')
  })

  it('takes what train takes: recipes, presets, half-lives and strategies, with nothing but what is given', async () => {
    const facts = async (...words: string[]) => {
      const { code, out, err } = await command('bench', ...words, '--json')
      expect(code, err).to.equal(0)
      return JSON.parse(out)
    }
    expect((await facts('--recipe', 'small-batch', '--estimate')).batchSize).to.equal(8)
    const lives = ['--ema-half-life', '100000', '--beta2-half-life', '20000', '--estimate']
    expect((await facts(...lives)).batchSize).to.equal(32)
    for (const mix of ['table', 'merge', 'paper'])
      expect((await facts(...TINY, '--timed-steps', '1', '--mix', mix)).stepMs, mix).to.be.above(0)
  })

  it('refuses a batch whose estimate does not fit', async () => {
    const { code, out } = await command('bench', '--size', '1024', '--batch-size', '65536', '--json')
    expect(code).to.equal(1)
    expect(JSON.parse(out)).not.to.have.property('stepMs')
  })

  it('says which option is wrong', async () => {
    const { code, err } = await command('bench', '--bach-size', '2')
    expect(code).to.equal(2)
    expect(err).to.contain('--bach-size (did you mean --batch-size?)')
    const narrow = await command('bench', '--model-channels', '20')
    expect(narrow.code).to.equal(2)
    expect(narrow.err).to.contain('divisible by the 32 norm groups')
  })
})
