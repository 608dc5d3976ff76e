import { expect } from 'chai'
import { DeviceTensor } from '../../lib/device-tensor.ts'
import { type NativeBatch, type NativeBatchLossConfig, native } from '../../lib/native.ts'
import { HEADS } from '../../lib/prediction/heads.ts'
import { NoiseSchedule } from '../../lib/schedule/noise-schedule.ts'
import type { HostTensor } from '../../lib/tensor.ts'
import type { LossOptions } from '../../lib/training/trainer.ts'
import { expectClose, expectCloseToMax } from '../support/close.ts'
import { fixtureJson, fixtureTensors, int32, numbers } from '../support/fixtures.ts'

interface Case extends Required<Pick<LossOptions, 'choose' | 'compare' | 'space'>> {
  readonly temperature?: number
  readonly floor?: number
  readonly factor?: number
  readonly headWeight?: true
  readonly reference?: true
  readonly gate?: true
  readonly direction?: number
}

const json = fixtureJson('strategies.json')
const cases = (json.cases as Case[]).map((entry, i) => [i, entry] as const)
const name = ({ choose, compare, space, factor, headWeight, reference, gate, direction }: Case) =>
  `${choose}, compared in ${compare}, minimised in ${space}${factor ? ', with a mixture' : ''}${headWeight ? ', with weights' : ''}${reference ? ', with references' : ''}${gate ? ', with a gate' : ''}${direction ? ', with the direction of v' : ''}`

/** The loss of an output in float64, by native code. */
async function lossOf(
  entry: Case,
  fixture: (tensor: string) => HostTensor,
  output: HostTensor,
  share?: HostTensor,
) {
  const { schedule, batch, config } = setting(entry, fixture)
  const handle = await DeviceTensor.from(output)
  const given = share && { share: { data: Float32Array.from(numbers(share)), shape: share.shape } }
  const loss = { ...config.loss, ...(share && { choose: 'given' as const }) }
  return native().lossOfOutput(schedule.handle, { ...config, loss }, handle.handle, { ...batch, ...given })
}

function setting({ choose, compare, space, ...entry }: Case, fixture: (tensor: string) => HostTensor) {
  const schedule = NoiseSchedule.create({ name: 'linear' })
  const config: NativeBatchLossConfig = {
    heads: HEADS,
    imageChannels: 2,
    learnsVariance: false,
    ...(entry.gate && { gate: true }),
    loss: {
      kind: 'mse',
      choose,
      compare,
      space,
      sigmaData: json.sigmaData,
      directionWeight: entry.direction ?? 0,
    },
    variance: 'fixedLarge',
    boundWeight: 1,
  }
  const perHead = (tensor: string) => ({ data: Float32Array.from(numbers(fixture(tensor))), shape: [5, 3] })
  const batch: NativeBatch & { noise: HostTensor } = {
    images: fixture('x_start'),
    noise: fixture('noise'),
    t: int32(fixture('t')),
    ...(choose === 'given' && { share: perHead('share') }),
    temperature: entry.temperature,
    floor: entry.floor,
    ...(entry.headWeight && { headWeight: perHead('head_weight') }),
    ...(entry.factor && { mixture: { weight: perHead('mixture'), factor: entry.factor } }),
    ...(entry.reference && { reference: fixture('reference') }),
  }
  return { schedule, config, batch }
}

describe('Strategies of several heads against their definitions', () => {
  for (const [i, entry] of cases) {
    it(`agrees on ${name(entry)}`, async () => {
      const fixture = await fixtureTensors('strategies.safetensors')
      const expected = (tensor: string) => numbers(fixture(`${i}.${tensor}`))
      const output = fixture(entry.gate ? `${i}.output` : 'output')
      const each = output.data.length / 5
      const result = await lossOf(entry, fixture, output)
      // Tables are float32 when they reach the images.
      const tolerance = { relative: 2e-6, absolute: 1e-6 }
      expectClose(result.loss, expected('loss'), { ...tolerance, what: 'loss' })
      expectClose(result.perHead, expected('perHead'), { ...tolerance, what: 'perHead' })
      expect(Array.from(result.chosen)).to.deep.equal(Array.from(expected('chosen')))
      for (const what of ['errorProducts', 'meanError'] as const) {
        expectClose(result[what] as Float32Array, expected(what), { ...tolerance, what })
      }
      for (let example = 0; example < 5; example++) {
        const of = (values: ArrayLike<number>) =>
          Array.from(values).slice(example * each, (example + 1) * each)
        expectCloseToMax(
          of(result.gradient),
          of(expected('gradient')),
          2e-6,
          `gradient of example ${example}`,
        )
      }
    })

    it(`has the gradient of finite differences for ${name(entry)}`, async () => {
      const fixture = await fixtureTensors('strategies.safetensors')
      const output = fixture(entry.gate ? `${i}.output` : 'output')
      const each = output.data.length / 5
      // Shares of a softmin are constants to the gradient, so they are held here.
      const share = entry.choose === 'softmin' ? fixture(`${i}.share`) : undefined
      const { gradient } = await lossOf(entry, fixture, output, share)
      const step = 1e-4 // the loss is quadratic where the choice stays, so that only rounding is left
      for (let at = 7; at < gradient.length; at += 41) {
        if (entry.gate && at % each < 96) continue // heads are constants to the gate
        const moved = async (by: number) => {
          const data = Float64Array.from(numbers(output))
          data[at]! += by
          const { loss } = await lossOf(entry, fixture, { ...output, data }, share)
          return loss[Math.floor(at / each)] as number
        }
        const slope = ((await moved(step)) - (await moved(-step))) / (2 * step)
        expect(gradient[at] as number, `element ${at}`).to.be.closeTo(slope, 1e-7 + 1e-7 * Math.abs(slope))
      }
    })
  }

  it('moves no target when every reference is the image itself, and stays finite without signal', async () => {
    const fixture = await fixtureTensors('strategies.safetensors')
    const { config, batch } = setting({ choose: 'mean', compare: 'xStart', space: 'F' }, fixture)
    const schedule = NoiseSchedule.create({ name: 'linear', zeroTerminalSnr: true })
    const output = (await DeviceTensor.from(fixture('output'))).handle
    const t = Int32Array.of(0, 1, 500, 998, 999)
    const lossWith = (reference?: HostTensor) =>
      native().lossOfOutput(schedule.handle, config, output, { ...batch, t, ...(reference && { reference }) })
    const without = await lossWith()
    const x = fixture('x_start')
    for (let i = 0; i < 5; i++) {
      const own = { ...x, shape: [1, 2, 4, 4], data: numbers(x).slice(32 * i, 32 * (i + 1)) }
      const result = await lossWith(own)
      expect(result.loss[i]).to.equal(without.loss[i])
    }
    const far = await lossWith(fixture('reference'))
    expect([...far.loss, ...far.gradient].every(Number.isFinite)).to.equal(true)
    // Without signal all images are equally probable.
    const images = [numbers(x).slice(32 * 4), numbers(fixture('reference'))].flatMap((part) => [...part])
    const mean = Array.from(
      { length: 32 },
      (_, p) => images.filter((_, j) => j % 32 === p).reduce((a, b) => a + b) / 7,
    )
    const direct = numbers(fixture('output')).slice(4 * 96, 4 * 96 + 32)
    const error = mean.reduce((sum, value, p) => sum + (value - (direct[p] as number)) ** 2, 0) / 32
    expect(far.perHead[12]).to.be.closeTo(error, 1e-6)
  })

  it('finds the same error of v in every head when all say the same image', async () => {
    const fixture = await fixtureTensors('strategies.safetensors')
    const { schedule, config, batch } = setting({ choose: 'mean', compare: 'xStart', space: 'v' }, fixture)
    const [x, eps] = [numbers(fixture('x_start')), numbers(fixture('noise'))]
    const output = new Float64Array(5 * 96)
    for (let i = 0; i < 160; i++) {
      const n = Math.floor(i / 32)
      const ab = schedule.tables.alphaBar[batch.t[n] as number] as number
      const [signal, noise] = [Math.sqrt(ab), Math.sqrt(1 - ab)]
      const xt = signal * (x[i] as number) + noise * (eps[i] as number)
      const said = 0.9 * (x[i] as number)
      const at = n * 96 + (i % 32)
      output[at] = said
      output[at + 32] = (signal * xt - said) / noise
      output[at + 64] = (xt - signal * said) / noise
    }
    const handle = (await DeviceTensor.from({ data: output, shape: [5, 6, 4, 4] })).handle
    const { errorProducts } = await native().lossOfOutput(schedule.handle, config, handle, batch)
    for (let n = 0; n < 5; n++) {
      const products = Array.from(errorProducts as Float32Array).slice(9 * n, 9 * n + 9)
      expectClose(products, new Array(9).fill(products[0]), { relative: 1e-3, what: `example ${n}` })
    }
  })
})
