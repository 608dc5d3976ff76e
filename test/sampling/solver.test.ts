import { expect } from 'chai'
import { fittedSlope, keptSpread, solverErrors } from '../../bench/solver-order.ts'
import { memoryCount } from '../../lib/device.ts'
import { DeviceTensor } from '../../lib/device-tensor.ts'
import { Denoiser } from '../../lib/sampling/denoiser.ts'
import { sample } from '../../lib/sampling/sample.ts'
import { ODE_SOLVERS, type SolveOptions, solve } from '../../lib/sampling/solver.ts'
import { NoiseSchedule, type ScheduleName } from '../../lib/schedule/noise-schedule.ts'
import type { SpacingName } from '../../lib/schedule/noise-spacing.ts'
import { expectClose } from '../support/close.ts'
import { fixtureJson } from '../support/fixtures.ts'
import { rejection } from '../support/rejection.ts'
import { tinyTrainer } from '../support/tiny.ts'

interface Case {
  readonly schedule: ScheduleName
  readonly timestepCount: number
  readonly spacing: SpacingName
  readonly steps: number
  readonly t: number[]
  readonly alphaBar: number[]
  readonly [result: string]: unknown
}

const { start, cases } = fixtureJson('solvers.json') as { start: number[]; cases: Case[] }

/** The formula of bench/reference/solvers.py in place of a network. */
function formula(process: NoiseSchedule): SolveOptions['predictXStart'] {
  return async (xt, k) => {
    const { data, shape } = await xt.toHost()
    const t = process.tables.timestepMap[k] as number
    const xStart = (data as Float64Array).map((x) => 0.8 * Math.sin(1.3 * x + 0.002 * t))
    return DeviceTensor.from({ data: xStart, shape })
  }
}

async function solved(
  process: NoiseSchedule,
  solver: SolveOptions['solver'],
  values: Float32Array | Float64Array,
): Promise<ArrayLike<number>> {
  const from = await DeviceTensor.from({ data: values, shape: [1, 1, 4, 6] })
  const options = { process, start: from, solver, predictXStart: formula(process) }
  return (await (await solve(options)).toHost()).data as Float64Array
}

describe('solve, against an independent float64 reference', () => {
  for (const expected of cases) {
    const { schedule: name, timestepCount, spacing, steps } = expected
    it(`visits the timesteps and reaches the images of ${spacing} on ${name}`, async () => {
      const process = NoiseSchedule.create({ name, timestepCount }).respace({ spacing, steps })
      expectClose(process.tables.timestepMap, expected.t, { absolute: 1e-7, what: 't' })
      expectClose(process.tables.alphaBar, expected.alphaBar, { relative: 1e-8, what: 'alphaBar' })
      const runs = [
        ['euler', 'euler'],
        ['heun', 'heun'],
        ['dpmpp2m', { name: 'dpmpp2m', lowerOrderFinal: false }],
        ['dpmpp2mLowerOrderFinal', { name: 'dpmpp2m', lowerOrderFinal: true }],
      ] as const
      for (const [what, solver] of runs) {
        const images = expected[what] as number[]
        expectClose(await solved(process, solver, Float64Array.from(start)), images, {
          absolute: 1e-7,
          what: `${what} in float64`,
        })
        expectClose(await solved(process, solver, Float32Array.from(start)), images, {
          absolute: 2e-5,
          what: `${what} in float32`,
        })
      }
    })
  }

  it('takes the step of dpmpp2m onto the lowest noise with order 1 unless told otherwise', async () => {
    const process = NoiseSchedule.create().respace({ spacing: 'logSnr', steps: 20 })
    const data = Float64Array.from(start)
    const told = (lowerOrderFinal: boolean) => solved(process, { name: 'dpmpp2m', lowerOrderFinal }, data)
    const unsaid = await solved(process, 'dpmpp2m', data)
    expect(unsaid).to.deep.equal(await told(true))
    expect(unsaid).to.not.deep.equal(await told(false))
  })
})

describe('solve', () => {
  it('has order 1 with euler and order 2 with heun and dpmpp2m, where the exact score is known', async () => {
    const stepCounts = [32, 64, 128]
    const errors = await solverErrors(stepCounts)
    for (const [solver, order] of [
      ['euler', 1],
      ['heun', 2],
      ['dpmpp2m', 2],
    ] as const) {
      const slope = -fittedSlope(stepCounts, errors.get(solver)!)
      expect(slope, solver).to.be.within(order - 0.15, order + 0.15)
    }
  })

  it('keeps cos of the angle of each step of the spread of Gaussian data of variance 1, with euler', async () => {
    for (const steps of [5, 10]) {
      const shares = await keptSpread(steps, [0.1, 1, 10])
      for (const spacing of ['uniform', 'trailing'] as const) {
        const { alphaBar } = NoiseSchedule.create().respace({ spacing, steps }).tables
        const angles = [0, ...Array.from(alphaBar, (ab) => Math.acos(Math.sqrt(ab)))] // 0: the clean image
        const kept = angles.slice(1).reduce((product, angle, i) => product * Math.cos(angle - angles[i]!), 1)
        expect(shares.get(spacing)?.get('ddim')?.[1]).to.be.closeTo(kept, 1e-9)
      }
    }
  })

  it('stops at the lowest noise when asked, without the step to the clean image', async () => {
    const process = NoiseSchedule.create().respace({ spacing: 'karras', steps: 6 })
    const from = await DeviceTensor.from({ data: Float64Array.from(start), shape: [24] })
    const seen: number[] = []
    const end = await solve({
      process,
      start: from,
      solver: 'euler',
      until: 'lowestNoise',
      predictXStart: formula(process),
      onStep: ({ done, total }) => seen.push(done / total),
    })
    expect(seen).to.deep.equal([0.2, 0.4, 0.6, 0.8, 1])
    // One more step of Euler would give the prediction itself.
    const clean = await formula(process)(end, 0)
    const whole = await solve({ process, start: from, solver: 'euler', predictXStart: formula(process) })
    expectClose((await whole.toHost()).data as Float64Array, (await clean.toHost()).data as Float64Array, {
      absolute: 1e-12,
    })
  })

  it('starts from a timestep without signal, where the first step has order 1', async () => {
    const process = NoiseSchedule.create({ zeroTerminalSnr: true }).respace({ spacing: 'trailing', steps: 5 })
    expect(process.tables.alphaBar[4]).to.equal(0)
    for (const solver of ODE_SOLVERS) {
      const images = await solved(process, solver, Float64Array.from(start))
      expect(Array.from(images).every(Number.isFinite), solver).to.equal(true)
    }
  })

  it('frees every tensor but its result, also when a prediction fails', async () => {
    const process = NoiseSchedule.create().respace('4')
    const from = await DeviceTensor.from({ data: Float64Array.from(start), shape: [24] })
    const predict = formula(process)
    for (const solver of ODE_SOLVERS) {
      const before = memoryCount().handles
      const result = await solve({ process, start: from, solver, predictXStart: predict })
      result.dispose()
      let calls = 0
      const error = await rejection(
        solve({
          process,
          start: from,
          solver,
          predictXStart: (xt, k) => {
            if (calls++ === 2) throw new Error('no more')
            return predict(xt, k)
          },
        }),
      )
      expect(error.message).to.equal('no more')
      expect(memoryCount().handles, solver).to.be.at.most(before)
    }
  })

  it('says what is wrong with its options', async () => {
    const process = NoiseSchedule.create().respace('1')
    const from = await DeviceTensor.from({ data: Float64Array.from(start), shape: [24] })
    const message = async (options: object) =>
      (
        await rejection(
          solve({ process, start: from, solver: 'heun', predictXStart: formula(process), ...options }),
        )
      ).message
    expect(await message({ solver: 'ddpm' })).to.equal(
      'solve: expected solver to be one of euler, heun, dpmpp2m, got "ddpm"',
    )
    expect(await message({ solver: 'dpm' })).to.equal(
      'solve: expected solver to be one of ddpm, ddim, euler, heun, dpmpp2m, got "dpm"',
    )
    expect(await message({ solver: { name: 'heun', eta: 1 } })).to.equal(
      'solve: expected options to be among name, got unknown eta',
    )
    expect(await message({ until: 'lowestNoise' })).to.equal(
      'solve: expected process to be at least two timesteps, got 1',
    )
  })
})

describe('sample with a solver', () => {
  it('draws with euler what DDIM without noise draws, but for rounding', async () => {
    const { unet, schedule } = await tinyTrainer()
    const denoiser = new Denoiser(unet, schedule.respace('6'), { combine: 'v' })
    const draw = (solver: 'euler' | 'ddim') => sample({ denoiser, shape: [2, 1, 8, 8], seed: 1, solver })
    expectClose(await draw('euler'), await draw('ddim'), { absolute: 2e-5 })
  })

  it('tells the network fractional timesteps, and goes on drawing image k the same in any batch', async () => {
    const { unet, schedule } = await tinyTrainer()
    const process = schedule.respace({ spacing: 'karras', steps: 5 })
    const seen: number[] = []
    const combine = (t: number) => {
      seen.push(t)
      return 'v' as const
    }
    const denoiser = new Denoiser(unet, process, { combine })
    for (const solver of ['ddpm', ...ODE_SOLVERS] as const) {
      const both = await sample({ denoiser, shape: [2, 1, 8, 8], seed: 1, solver })
      const second = await sample({ denoiser, shape: [1, 1, 8, 8], seed: 1, firstImage: 1, solver })
      expectClose(second, both.subarray(64), { absolute: 1e-5, what: solver })
    }
    expect(seen.slice(0, 5)).to.deep.equal(Array.from(process.tables.timestepMap).reverse())
    expect(seen.some((t) => !Number.isInteger(t))).to.equal(true)
  })

  it('takes eta beside solver only inside it', async () => {
    const { unet, schedule } = await tinyTrainer()
    const denoiser = new Denoiser(unet, schedule.respace('2'))
    const error = await rejection(
      sample({ denoiser, shape: [1, 1, 8, 8], seed: 1, solver: 'ddim', eta: 0.5 }),
    )
    expect(error.message).to.equal('sample: expected eta to be given inside solver, got 0.5')
  })
})
