import { appendFile } from 'node:fs/promises'
import { request } from 'node:http'
import { connect, createServer } from 'node:net'
import { join } from 'node:path'
import { expect } from 'chai'
import { type Watch, watchRun } from '../../lib/report/watch.ts'
import { start } from '../support/command.ts'
import { makeRun, makeStudy, reportFolder } from '../support/report-runs.ts'

/** The answer to a request, whatever its Host says. */
function ask(
  port: number,
  path: string,
  host = `127.0.0.1:${port}`,
  method = 'GET',
): Promise<{ status: number; text: string }> {
  return new Promise((resolve, reject) => {
    const asked = request({ port, path, method, host: '127.0.0.1', headers: { host } }, (response) => {
      let text = ''
      response.setEncoding('utf8').on('data', (part: string) => (text += part))
      response.on('end', () => resolve({ status: response.statusCode ?? 0, text }))
    })
    asked.on('error', reject).end()
  })
}

describe('watchRun', () => {
  let work: Awaited<ReturnType<typeof reportFolder>>
  let watch: Watch | undefined
  before(async () => {
    work = await reportFolder()
  })
  afterEach(async () => {
    await watch?.close()
    watch = undefined
  })
  after(() => work.remove())

  it('serves the page of a run, with a script that renews it and no access elsewhere', async () => {
    watch = await watchRun(await makeRun(join(work.folder, 'run')))
    const { status, text } = await ask(watch.port, '/')
    expect(status).to.equal(200)
    expect(text)
      .to.include('<h1>run</h1>')
      .and.include("new EventSource('events')")
      .and.include('connect-src &#39;self&#39;')
    expect((await ask(watch.port, '/../config.json')).status).to.equal(404)
    expect((await ask(watch.port, '/', undefined, 'POST')).status).to.equal(405)
  })

  it('refuses requests for other hosts, as of a page that has its name resolved to 127.0.0.1', async () => {
    watch = await watchRun(work.folder)
    const { port } = watch
    for (const host of ['evil.example', `evil.example:${port}`, '127.0.0.1', `127.0.0.1:${port + 1}`])
      expect((await ask(port, '/', host)).status).to.equal(403)
    expect((await ask(port, '/', `localhost:${port}`)).status).to.equal(200)
  })

  it('takes a free port where the wanted one is taken', async () => {
    const other = createServer()
    await new Promise<void>((resolve) => other.listen(0, '127.0.0.1', resolve))
    const { port } = other.address() as { port: number }
    watch = await watchRun(work.folder, { port })
    expect(watch.port).to.not.equal(port)
    expect((await ask(watch.port, '/')).status).to.equal(200)
    await new Promise((resolve) => other.close(resolve))
  })

  it('tells of a change once something in the folder changes', async () => {
    const folder = join(work.folder, 'changing')
    watch = await watchRun(folder, { everyMs: 10 })
    const versions = new Set<string>()
    const socket = connect(watch.port, '127.0.0.1')
    socket.write(`GET /events HTTP/1.1\r\nHost: 127.0.0.1:${watch.port}\r\n\r\n`)
    const changed = new Promise<void>((resolve) => {
      socket.setEncoding('utf8').on('data', (text: string) => {
        for (const [, version] of text.matchAll(/data: (\w+)/g)) versions.add(version!)
        if (versions.size === 1) makeRun(folder)
        if (versions.size > 1) resolve()
      })
    })
    await changed
    socket.destroy()
    expect(versions.size).to.be.above(1)
  })

  it('tells of a change in a cell of a study', async () => {
    const study = await makeStudy(join(work.folder, 'study'))
    watch = await watchRun(study)
    const version = async () => /data-version="(\w+)"/.exec((await ask(watch!.port, '/')).text)?.[1]
    const before = await version()
    expect(await version()).to.equal(before)
    await appendFile(join(study, 'better', 'seed-2', 'stats.jsonl'), '{"step":310,"loss":0.1}\n')
    expect(await version())
      .to.match(/^\w+$/)
      .and.not.equal(before)
  })

  it('refuses a port that is none', async () => {
    const message = await watchRun('x', { port: 70_000 }).catch((error: Error) => error.message)
    expect(message).to.equal('watchRun: expected port to be an integer in [0, 65535], got 70000')
  })
})

describe('trislot watch', () => {
  it('ends at Ctrl-C', async () => {
    const { child, ended } = start(['watch', 'runs/none', '--port', '0'])
    await new Promise((resolve) => child.stdout?.once('data', resolve))
    child.kill('SIGINT')
    const { code, out } = await ended
    expect(out).to.match(/^runs\/none: http:\/\/127\.0\.0\.1:\d+\/ \(Ctrl-C ends\)\n$/)
    expect(code).to.equal(0)
  })
})
