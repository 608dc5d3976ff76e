import { appendFile, mkdir, readFile, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect } from 'chai'
import { writeReport } from '../../lib/report/report.ts'
import { INSTRUMENT, makeRun, reportFolder } from '../support/report-runs.ts'

describe('writeReport', () => {
  let work: Awaited<ReturnType<typeof reportFolder>>
  before(async () => {
    work = await reportFolder()
  })
  after(() => work.remove())

  const page = async (...folders: string[]) => {
    const out = join(work.folder, 'pages', 'page.html')
    expect(await writeReport(folders, { out })).to.equal(out)
    return readFile(out, 'utf8')
  }
  const headings = (html: string) => [...html.matchAll(/<h[123]>([^<]*)</g)].map((match) => match[1])
  const captions = (html: string) =>
    [...html.matchAll(/<figcaption>([^<]*)<\/figcaption>(?!<\/figure>)/g)].map((match) => match[1])

  it('shows a run: facts, curves, timesteps, heads, samples, instruments, options', async () => {
    const run = await makeRun(join(work.folder, 'whole'), {
      previews: [100, 200, 300],
      instruments: { probe: INSTRUMENT },
    })
    const html = await page(run)
    expect(headings(html)).to.deep.equal([
      'whole',
      'Training',
      'Timesteps',
      'Heads',
      'Samples',
      'Held-out loss by timestep',
      'Options',
    ])
    expect(captions(html)).to.deep.equal([
      'Training loss',
      'Error of each head',
      'Gradient norm',
      'Loss over the timesteps as training goes on',
      'Error of xStart over the timesteps as training goes on',
      'Error of v over the timesteps as training goes on',
      'Error of eps over the timesteps as training goes on',
      'Error of each head over the timesteps',
      'Which head is chosen, over training',
      'Which head is chosen, by timestep',
      'Loss',
      'Change',
    ])
    expect(html).to.include('300 of 300').and.include('2,400').and.include('30 s')
    expect(html.match(/src="data:image\/webp;base64,/g)).to.have.length(2 + 6)
    expect(html).to.include('The loss spans a factor of 100.').and.include('trislot probe --run runs/digits')
  })

  it('needs nothing from elsewhere', async () => {
    const html = await page(await makeRun(join(work.folder, 'alone'), { previews: [5] }))
    const outside = [
      ...html.matchAll(/(?:src|href)\s*=\s*"(?!data:|#)[^"]*"|url\(|@import|https?:\/\/(?!www\.w3\.org)/g),
    ]
    expect(outside.map(([text]) => text)).to.deep.equal([])
    expect(html).to.include('default-src &#39;none&#39;')
  })

  it('gives the same bytes for the same folders', async () => {
    const run = await makeRun(join(work.folder, 'same'), {
      previews: [100],
      instruments: { probe: INSTRUMENT },
    })
    expect(await page(run, await makeRun(join(work.folder, 'other')))).to.equal(
      await page(run, join(work.folder, 'other')),
    )
  })

  it('lands in the folder of the run by default', async () => {
    const run = await makeRun(join(work.folder, 'default'))
    expect(await writeReport([run])).to.equal(join(run, 'report.html'))
    expect((await stat(join(run, 'report.html'))).size).to.be.above(1000)
  })

  it('escapes what runs are called and what their options say', async () => {
    const evil = `</script><script>alert(1)</script>"'&<img src=x onerror=alert(2)>`
    const run = await makeRun(join(work.folder, `"quoted" & <b>bold<${'/'.slice(1)}b>`), {
      config: { data: evil, [evil]: evil },
      instruments: {
        evil: {
          ...INSTRUMENT,
          ...{ title: evil, command: evil, summary: [evil] },
          plots: [
            {
              ...INSTRUMENT.plots[0],
              title: evil,
              series: [0, 1].map(() => ({ name: evil, x: [1, 2], y: [1, 2] })),
            },
          ],
          tables: [{ title: evil, columns: [evil, evil], rows: [[evil, evil]] }],
        },
      },
    })
    const html = await page(run, await makeRun(join(work.folder, 'harmless')))
    expect(html.match(/<script/g)).to.have.length(1)
    expect(html).not.to.include('<img src=x').and.not.to.include('<b>bold')
    expect(html).to.include('&lt;/script&gt;&lt;script&gt;alert(1)&lt;/script&gt;&quot;&#39;&amp;&lt;img')
  })

  it('leaves out what is missing, half written or no picture', async () => {
    const run = await makeRun(join(work.folder, 'torn'), { previews: [100, 200] })
    await appendFile(join(run, 'stats.jsonl'), '{"step":310,"loss":0.')
    const torn = join(run, 'previews', 'step-00000200-raw.png')
    await writeFile(torn, (await readFile(torn)).subarray(0, 60))
    await mkdir(join(run, 'instruments'))
    await writeFile(join(run, 'instruments', 'probe.json'), '{"title": "half')
    await writeFile(
      join(run, 'instruments', 'odd.json'),
      '{"title": "Odd", "plots": [{"title": 3}, null, {"title": "no axes"}]}',
    )
    const html = await page(run)
    expect(html).to.include('300 of 300')
    expect(html.match(/<figure><img data-weights/g)).to.have.length(3)
    expect(headings(html)).not.to.include('half').and.not.to.include('Odd')
    await writeFile(join(run, 'stats.jsonl'), '')
    expect(await page(run)).to.include('No step is logged yet.')
  })

  it('shows a run that logged one step, and losses that are not finite', async () => {
    const run = await makeRun(join(work.folder, 'first'))
    await writeFile(join(run, 'stats.jsonl'), '{"step":1,"imagesSeen":8,"loss":null,"gradNorm":1}\n')
    expect(await page(run))
      .to.include('1 of 300')
      .and.include('Nothing to draw yet.')
    await writeFile(join(run, 'stats.jsonl'), '{"step":1,"imagesSeen":8,"loss":0.5}\n')
    expect(await page(run)).to.include('mark-symbol role-mark series-0')
  })

  it('stays small with many steps and previews', async () => {
    const run = await makeRun(join(work.folder, 'long'), {
      previews: Array.from({ length: 40 }, (_, k) => 10 * (k + 1)),
    })
    const line = (step: number) =>
      `${JSON.stringify({ step, loss: 1 + Math.sin(step), gradNorm: 1, lr: step })}\n`
    await writeFile(join(run, 'stats.jsonl'), Array.from({ length: 20_000 }, (_, k) => line(k + 1)).join(''))
    const html = await page(run)
    expect(html.match(/<figure><img data-weights/g)).to.have.length(2 * 16)
    expect(html).to.include('data-step="10"').and.include('data-step="400"')
    expect(html.length).to.be.below(300_000)
  })

  it('compares runs: options that differ, a mean and its interval over seeds', async () => {
    const folders = await Promise.all(
      [0, 1, 2].flatMap((seed) => [
        makeRun(join(work.folder, `min-${seed}`), { config: { seed }, scale: 1 + seed / 10 }),
        makeRun(join(work.folder, `mean-${seed}`), {
          config: { seed, choose: 'mean', run: `x${seed}` },
          scale: 2 + seed / 10,
        }),
      ]),
    )
    const html = await page(...folders)
    expect(headings(html).slice(0, 4)).to.deep.equal([
      '6 runs compared',
      'Runs',
      'Options that differ',
      'Comparison',
    ])
    const options = html.slice(html.indexOf('Options that differ'), html.indexOf('>Comparison<'))
    expect([...options.matchAll(/<th scope="row">([^<]*)/g)].map((match) => match[1])).to.have.members([
      'seed',
      'choose',
    ])
    const comparison = html.slice(html.indexOf('>Comparison<'), html.indexOf('id="run-1"'))
    expect(comparison).to.include('min (3 seeds)').and.include('mean (3 seeds)')
    expect(comparison)
      .to.include('role-mark interval-of-series-0')
      .and.include('role-mark interval-of-series-1')
    // Mean of 1, 1.1 and 1.2 times the same losses, with Student's t of two degrees of freedom.
    const base =
      [28, 29, 30].map((k) => (1 + 0.2 * Math.sin(10 * k)) / Math.sqrt(10 * k)).reduce((a, b) => a + b) / 3
    const half = (4.302653 * 0.1 * base) / Math.sqrt(3)
    expect(comparison).to.include((1.1 * base).toPrecision(4))
    expect(comparison).to.include(
      `${(1.1 * base - half).toPrecision(4)} to ${(1.1 * base + half).toPrecision(4)}`,
    )
  })

  it('counts a run once, however often and by whatever path it is given', async () => {
    const run = await makeRun(join(work.folder, 'once'))
    const html = await page(run, `${run}/`, join(run, '..', 'once'))
    expect(html).to.equal(await page(run))
    expect(html).not.to.include('2 seeds')
    expect(await writeReport([run, run])).to.equal(join(run, 'report.html'))
  })

  it('refuses a folder that holds no run', async () => {
    const failure = await writeReport([work.folder]).catch((error: Error) => error)
    expect(failure).to.be.instanceOf(RangeError)
    expect((failure as Error).message).to.equal(
      `writeReport: expected folders to be folders of runs or studies, which hold config.json, stats.jsonl, study.json, instruments, got ${JSON.stringify(work.folder)}`,
    )
    const none = await writeReport([]).catch((error: Error) => error.message)
    expect(none).to.equal(
      'writeReport: expected folders to be a list of at least one folder of a run, got []',
    )
  })
})
