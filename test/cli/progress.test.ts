import { expect } from 'chai'
import { duration, streamProgress } from '../../lib/cli/progress.ts'

function stream(isTTY: boolean) {
  const written: string[] = []
  const fake = { isTTY, columns: 80, write: (text: string) => written.push(text) > 0 }
  return { written, fake: fake as unknown as NodeJS.WriteStream }
}

describe('streamProgress', () => {
  it('moves one line on a terminal, and clears it before a line that stays', () => {
    const { written, fake } = stream(true)
    const progress = streamProgress(fake)
    progress.update(1, 4, 'loss 0.5')
    progress.line('saved')
    progress.update(4, 4)
    progress.end()
    expect(written[0]?.slice(0, 4)).to.equal('\r\u001b[K')
    expect(written[0]?.slice(4)).to.match(/^██████░+ 1\/4 {2}loss 0\.5$/)
    expect(written.slice(1, 3)).to.deep.equal(['\r\u001b[K', 'saved\n'])
    expect(written[3]).to.contain(`${'█'.repeat(24)} 4/4`)
    expect(written[4]).to.equal('\n')
  })

  it('writes plain lines elsewhere: the first, the last, and few between', () => {
    const { written, fake } = stream(false)
    const progress = streamProgress(fake, 'sampling')
    for (let done = 1; done <= 500; done++) progress.update(done, 500)
    progress.end()
    expect(written).to.have.length(2)
    expect(written[0]).to.equal('sampling  1/500\n')
    expect(written[1]).to.equal('sampling  500/500\n')
  })

  it('tells the time that is left once there is a speed, or as it is told', () => {
    const { written, fake } = stream(false)
    streamProgress(fake).update(1, 500, '', 75_000)
    expect(written).to.deep.equal(['1/500  1:15 left\n'])
  })

  it('shows time as people read it', () => {
    expect([0, 59_400, 75_000, 3_675_000].map(duration)).to.deep.equal(['0:00', '0:59', '1:15', '1:01:15'])
  })
})
