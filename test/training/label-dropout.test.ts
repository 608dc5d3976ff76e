import { expect } from 'chai'
import { UNet } from '../../lib/model/unet.ts'
import { Denoiser } from '../../lib/sampling/denoiser.ts'
import { runConfig } from '../../lib/training/run-config.ts'
import { Trainer } from '../../lib/training/trainer.ts'
import { loadFormulaWeights } from '../support/formula-weights.ts'
import { rejection } from '../support/rejection.ts'
import { TINY, tinyBatch, tinyTimesteps, tinyTrainer } from '../support/tiny.ts'

const CLASSES = { classCount: 3, nullClass: true } as const

/** Losses of the first steps with given labels. */
async function losses(labels: readonly number[], training = {}) {
  const { trainer, unet } = await tinyTrainer(training, CLASSES)
  await loadFormulaWeights(unet) // a fresh network does not look at classes
  const images = { ...tinyBatch(labels.length), labels: Int32Array.from(labels) }
  const list: number[][] = []
  for (let step = 0; step < 3; step++) {
    const t = tinyTimesteps(labels.length)
    list.push(Array.from((await trainer.trainStep({ images, t, lr: 1e-2 })).exampleLoss))
  }
  trainer.dispose()
  unet.dispose()
  return list
}

describe('Label dropout', () => {
  const labels = [0, 1, 2, 0, 1, 2, 0, 1]
  const nulls = labels.map(() => 3)

  it('gives the network one row of class embeddings more', async () => {
    const rows = async (options: object) => {
      const unet = await UNet.create({ ...TINY, ...options })
      const found = unet.parameters().find(({ name }) => name === 'label_emb.weight')?.shape[0]
      unet.dispose()
      return found
    }
    expect(await rows({ classCount: 3 })).to.equal(3)
    expect(await rows(CLASSES)).to.equal(4)
  })

  it('trains every example without its class at 1, and none at 0', async () => {
    expect(await losses(labels, { labelDropout: 1 })).to.deep.equal(await losses(nulls))
    expect(await losses(labels, { labelDropout: 0 })).to.deep.equal(await losses(labels))
  })

  it('draws from (seed, step, example), whatever the micro-batch: some examples of some steps', async () => {
    const some = await losses(labels, { labelDropout: 0.5 })
    expect(await losses(labels, { labelDropout: 0.5 })).to.deep.equal(some)
    const parts = await losses(labels, { labelDropout: 0.5, microBatch: 3 })
    for (const [step, row] of parts.entries())
      for (const [i, loss] of row.entries()) expect(loss).to.be.closeTo(some[step]![i]!, 1e-4)
    const [own, free] = [(await losses(labels))[0]!, (await losses(nulls))[0]!]
    const dropped = some[0]!.map((loss, i) => Math.abs(loss - free[i]!) < Math.abs(loss - own[i]!))
    for (const [i, loss] of some[0]!.entries())
      expect(loss).to.be.closeTo((dropped[i] ? free : own)[i]!, 1e-6)
    expect(dropped).to.include(true).and.to.include(false)
  })

  it('drops the same classes whether steps are awaited one by one or queued', async () => {
    const steps = async (together: boolean) => {
      const { trainer, unet } = await tinyTrainer({ labelDropout: 0.5 }, CLASSES)
      await loadFormulaWeights(unet)
      const images = { ...tinyBatch(labels.length), labels: Int32Array.from(labels) }
      const step = () => trainer.trainStep({ images, t: tinyTimesteps(labels.length), lr: 1e-2 })
      if (together) return (await Promise.all([step(), step(), step()])).map(({ loss }) => loss)
      return [(await step()).loss, (await step()).loss, (await step()).loss]
    }
    expect(await steps(true)).to.deep.equal(await steps(false))
  })

  it('needs a null class, which needs classes', async () => {
    const { unet, schedule } = await tinyTrainer({}, { classCount: 3 })
    const refused = async (work: Promise<unknown>) => (await rejection(work)).message
    expect(await refused(Trainer.create(unet, schedule, { labelDropout: 0.1 }))).to.equal(
      'Trainer.create: expected labelDropout to be 0 for a network without a null class, got 0.1; create it with nullClass: true',
    )
    expect(await refused(UNet.create({ ...TINY, nullClass: true }))).to.equal(
      'UNet.create: expected nullClass to be false for a network without classes, got true',
    )
    expect(await refused(runConfig({ data: 'digits', steps: 1, labelDropout: 0.1 }))).to.equal(
      'run: expected labelDropout to be absent unless classes are trained, got 0.1',
    )
    expect(() => new Denoiser(unet, schedule, { guidanceScale: 3 })).to.throw(
      'Denoiser: expected guidanceScale to be 1 for a network without a null class, got 3; train one with labelDropout',
    )
  })
})
