import { expect } from 'chai'
import { memoryCount } from '../../lib/device.ts'
import { DeviceTensor } from '../../lib/device-tensor.ts'
import { Denoiser } from '../../lib/sampling/denoiser.ts'
import { sample } from '../../lib/sampling/sample.ts'
import { runChild } from '../support/child.ts'
import { rejection } from '../support/rejection.ts'
import { tinyBatch, tinyTimesteps, tinyTrainer } from '../support/tiny.ts'

const SETUP = `
  const { tinyTrainer, tinyBatch, tinyTimesteps } = await import('test/support/tiny.ts')
  const step = (trainer) => trainer.trainStep({ images: tinyBatch(), t: tinyTimesteps(), lr: 1e-3 })
`

describe('Lifecycle', () => {
  it('frees every native tensor when objects are disposed of', async () => {
    const { stdout, stderr } = await runChild(`${SETUP}
      const { memoryCount } = await import('lib/device.ts')
      const { Denoiser } = await import('lib/sampling/denoiser.ts')
      const { sample } = await import('lib/sampling/sample.ts')
      const work = async () => {
        const { unet, schedule, trainer } = await tinyTrainer()
        await step(trainer)
        const average = await trainer.averaged()
        const process = schedule.respace('ddim10')
        await sample({ denoiser: new Denoiser(average, process), shape: [2, 1, 8, 8], seed: 1, eta: 0 })
        for (const object of [average, process, trainer, unet, schedule]) object.dispose()
      }
      const alive = () => {
        const { handles, liveAllocations, liveBytes } = memoryCount()
        return { handles, liveAllocations, liveBytes }
      }
      await work() // the first time, LibTorch keeps a few small things for good
      const before = alive()
      for (let i = 0; i < 5; i++) await work()
      console.log(JSON.stringify([before, alive()]))
    `)
    expect(stderr).to.equal('')
    const [before, after] = JSON.parse(stdout)
    expect(before).to.have.all.keys('handles', 'liveAllocations', 'liveBytes')
    expect(after).to.deep.equal(before)
  })

  it('frees tensors when sampling is aborted or fails half-way', async () => {
    const { unet, schedule } = await tinyTrainer()
    const denoiser = new Denoiser(unet, schedule.respace('ddim10'), {
      combine: (t) => (t < 500 ? 'eps' : { xStart: 2 }),
    })
    const before = memoryCount()
    const failed = await rejection(sample({ denoiser, shape: [2, 1, 8, 8], seed: 1, eta: 0 }))
    expect(failed.message).to.equal(
      'denoiser.predictXStart: expected combine to be weights that add up to 1, got 2',
    )
    const controller = new AbortController()
    const aborted = await rejection(
      sample({
        denoiser: new Denoiser(unet, schedule.respace('ddim10')),
        shape: [2, 1, 8, 8],
        seed: 1,
        signal: controller.signal,
        onStep: ({ done }) => done === 3 && controller.abort(new Error('enough')),
      }),
    )
    expect(aborted.message).to.equal('enough')
    expect(memoryCount().handles).to.be.at.most(before.handles + 1) // the respaced schedule, left to the collector
  })

  it('finishes work under way on an object that is disposed of meanwhile', async () => {
    const { trainer } = await tinyTrainer()
    const pending = trainer.trainStep({ images: tinyBatch(), t: tinyTimesteps(), lr: 1e-3 })
    trainer.dispose()
    expect((await pending).loss).to.be.greaterThan(0)
  })

  it('keeps the order of calls', async () => {
    const { trainer } = await tinyTrainer()
    const together = await Promise.all(
      [0, 1, 2].map(() => trainer.trainStep({ images: tinyBatch(), t: tinyTimesteps(), lr: 1e-2 })),
    )
    const { trainer: other } = await tinyTrainer()
    for (const result of together) {
      const alone = await other.trainStep({ images: tinyBatch(), t: tinyTimesteps(), lr: 1e-2 })
      expect(alone.loss).to.equal(result.loss)
    }
  })

  it('copies its input before the call returns', async () => {
    const { trainer } = await tinyTrainer()
    const { trainer: other } = await tinyTrainer()
    const images = tinyBatch()
    const pending = trainer.trainStep({ images, t: tinyTimesteps(), lr: 0 })
    images.data.fill(0)
    const untouched = await other.trainStep({ images: tinyBatch(), t: tinyTimesteps(), lr: 0 })
    expect((await pending).loss).to.equal(untouched.loss)
  })

  it('leaves the event loop free while a step runs', async () => {
    const { trainer } = await tinyTrainer({}, { modelChannels: 32, normGroups: 32, channelMult: [1, 2, 2] })
    const images = tinyBatch(16, 1, 32)
    const t = tinyTimesteps(16)
    await trainer.trainStep({ images, t, lr: 0 })
    let ticksDuringStep = 0
    const timer = setInterval(() => ticksDuringStep++, 1)
    await trainer.trainStep({ images, t, lr: 0 })
    clearInterval(timer)
    expect(ticksDuringStep).to.be.greaterThan(3)
  })

  it('exits cleanly while a step runs', async () => {
    for (let i = 0; i < 4; i++) {
      const result = await runChild(`${SETUP}
        const { trainer } = await tinyTrainer()
        step(trainer); step(trainer); step(trainer)
        setImmediate(() => process.exit(7))
      `)
      expect(result).to.deep.equal({ code: 7, signal: null, stdout: '', stderr: '' })
    }
  })

  it('stays alive for a call in flight and ends by itself afterwards', async () => {
    const { code, stdout } = await runChild(`${SETUP}
      const { trainer } = await tinyTrainer()
      Promise.all([step(trainer), step(trainer)]).then((results) => console.log(results.length))
    `)
    expect(stdout).to.equal('2\n')
    expect(code).to.equal(0)
  })

  it('works in worker threads, and survives one that is terminated at work', async () => {
    const { code, stdout, stderr } = await runChild(`
      const { Worker } = await import('node:worker_threads')
      const source = (body) => 'import("tsx/esm/api").then(async ({ register }) => { register(); ' + body + ' })'
      const body = \`
        const { tinyTrainer, tinyBatch, tinyTimesteps } = await import('test/support/tiny.ts')
        const { parentPort } = await import('node:worker_threads')
        const { trainer } = await tinyTrainer()
        const step = () => trainer.trainStep({ images: tinyBatch(), t: tinyTimesteps(), lr: 1e-3 })
        const { loss } = await step()
        parentPort.postMessage(loss)
        for (let i = 0; i < 1000; i++) step()
      \`
      const start = () => new Promise((resolve, reject) => {
        const worker = new Worker(source(body), { eval: true })
        worker.on('message', (loss) => resolve({ worker, loss }))
        worker.on('error', reject)
      })
      const [a, b] = await Promise.all([start(), start()])
      await Promise.all([a.worker.terminate(), b.worker.terminate()])
      console.log(a.loss === b.loss && a.loss > 0)
    `)
    expect(stderr).to.equal('')
    expect(stdout).to.equal('true\n')
    expect(code).to.equal(0)
  })

  it('survives workers that are terminated as results arrive, and keeps nothing of theirs', async () => {
    const { code, stdout, stderr } = await runChild(`
      const { Worker } = await import('node:worker_threads')
      const { once } = await import('node:events')
      const { native } = await import('lib/native.ts')
      const body = \`
        const { native } = await import('lib/native.ts')
        const { parentPort } = await import('node:worker_threads')
        const key = { seed: 1, purpose: 'noise', step: 0, firstSample: 0 }
        parentPort.postMessage('at work')
        for (;;) await Promise.all(Array.from({ length: 50 }, () => native().tensorNoise([1, 1000], key, 'cpu')))
      \`
      const source = 'import("tsx/esm/api").then(async ({ register }) => { register(); ' + body + ' })'
      native().memoryCount()
      for (let i = 0; i < 10; i++) {
        const worker = new Worker(source, { eval: true })
        await once(worker, 'message')
        await new Promise((resolve) => setTimeout(resolve, i))
        await worker.terminate()
      }
      const { liveBytes, handles } = native().memoryCount()
      console.log(liveBytes, handles)
    `)
    expect(stderr).to.equal('')
    expect(stdout).to.equal('0 0\n')
    expect(code).to.equal(0)
  })

  it('frees what nobody disposed of when it is collected', async () => {
    const { stdout, stderr } = await runChild(
      `${SETUP}
      const { memoryCount } = await import('lib/device.ts')
      const work = async () => { const { trainer } = await tinyTrainer(); await step(trainer) }
      await work()
      for (let i = 0; i < 20; i++) await work()
      for (let i = 0; i < 10; i++) { globalThis.gc(); await new Promise((resolve) => setTimeout(resolve, 20)) }
      const { handles, liveBytes } = memoryCount()
      console.log(handles, liveBytes < 1e6)
    `,
      { nodeOptions: ['--expose-gc'] },
    )
    expect(stderr).to.equal('')
    expect(stdout).to.equal('0 true\n')
  })

  it('trains two runs in one process as it would train each alone', async () => {
    const losses = async (count: number) => {
      const trainers = await Promise.all(Array.from({ length: count }, (_, seed) => tinyTrainer({ seed })))
      const results = []
      for (let step = 0; step < 3; step++) {
        results.push(
          await Promise.all(
            trainers.map(({ trainer }) =>
              trainer.trainStep({ images: tinyBatch(), t: tinyTimesteps(), lr: 1e-3 }),
            ),
          ),
        )
      }
      return results.map((row) => row[0]?.loss)
    }
    expect(await losses(2)).to.deep.equal(await losses(1))
  })

  it('refuses a handle of another kind', async () => {
    const { native } = await import('../../lib/native.ts')
    const tensor = await DeviceTensor.from({ data: new Float32Array(4), shape: [4] })
    expect(() => native().unetParameters(tensor.handle as never)).to.throw(
      TypeError,
      'expected a handle of a UNet',
    )
    tensor.dispose()
    expect(() => tensor.handle).to.throw('tensor: expected a live object, got one that has been disposed of')
  })
})
