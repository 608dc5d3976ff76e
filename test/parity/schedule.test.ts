import { expect } from 'chai'
import { NoiseSchedule, type ScheduleTables } from '../../lib/schedule/noise-schedule.ts'
import { expectClose } from '../support/close.ts'
import { fixtureJson, fixtureTensors, numbers } from '../support/fixtures.ts'

const TABLES: [string, keyof ScheduleTables][] = [
  ['betas', 'beta'],
  ['alphas_cumprod', 'alphaBar'],
  ['alphas_cumprod_prev', 'alphaBarPrev'],
  ['alphas_cumprod_next', 'alphaBarNext'],
  ['sqrt_alphas_cumprod', 'sqrtAlphaBar'],
  ['sqrt_one_minus_alphas_cumprod', 'sqrtOneMinusAlphaBar'],
  ['log_one_minus_alphas_cumprod', 'logOneMinusAlphaBar'],
  ['sqrt_recip_alphas_cumprod', 'sqrtRecipAlphaBar'],
  ['sqrt_recipm1_alphas_cumprod', 'sqrtRecipAlphaBarMinusOne'],
  ['posterior_variance', 'posteriorVariance'],
  ['posterior_log_variance_clipped', 'posteriorLogVarianceClipped'],
  ['posterior_mean_coef1', 'posteriorMeanXStart'],
  ['posterior_mean_coef2', 'posteriorMeanXt'],
]

describe('NoiseSchedule against the original', () => {
  for (const [name, timestepCount] of [
    ['cosine', 50],
    ['linear', 100],
  ] as const) {
    it(`has every table of ${name} with ${timestepCount} timesteps`, async () => {
      const tensor = await fixtureTensors('schedules.safetensors')
      const { tables } = NoiseSchedule.create({ name, timestepCount })
      for (const [original, ours] of TABLES) {
        expectClose(tables[ours], numbers(tensor(`${name}${timestepCount}.${original}`)), {
          relative: 1e-12,
          what: `${name} ${original}`,
        })
      }
    })
  }

  for (const name of ['linear', 'cosine'] as const) {
    it(`has the betas and products of ${name} with 1000 timesteps`, async () => {
      const tensor = await fixtureTensors('schedules.safetensors')
      const { tables } = NoiseSchedule.create({ name })
      expectClose(tables.beta, numbers(tensor(`${name}1000.betas`)), { relative: 1e-12, what: 'betas' })
      expectClose(tables.alphaBar, numbers(tensor(`${name}1000.alphas_cumprod`)), {
        relative: 1e-12,
        what: 'alphaBar',
      })
    })
  }

  for (const [fixture, options] of [
    ['scaledLinear', { name: 'scaledLinear' }],
    ['sigmoid', { name: 'sigmoid' }],
    ['linearZeroTerminal', { name: 'linear', zeroTerminalSnr: true }],
  ] as const) {
    it(`agrees with an independent ${fixture}`, async () => {
      const tensor = await fixtureTensors('schedules-extra.safetensors')
      for (const timestepCount of [50, 1000]) {
        const { tables } = NoiseSchedule.create({ ...options, timestepCount })
        const tolerance = { relative: 1e-10, absolute: 1e-15 }
        expectClose(tables.beta, numbers(tensor(`${fixture}${timestepCount}.betas`)), {
          ...tolerance,
          what: 'betas',
        })
        expectClose(tables.alphaBar, numbers(tensor(`${fixture}${timestepCount}.alphas_cumprod`)), {
          ...tolerance,
          what: 'alphaBar',
        })
      }
    })
  }

  it('keeps the timesteps and makes the betas of every respacing', () => {
    const schedule = NoiseSchedule.create({ name: 'linear', timestepCount: 1000 })
    const golden = fixtureJson('respacing.json') as Record<string, { timesteps: number[]; betas: number[] }>
    for (const [spec, { timesteps, betas }] of Object.entries(golden)) {
      const { tables } = schedule.respace(spec)
      expect(Array.from(tables.timestepMap), spec).to.deep.equal(timesteps)
      expectClose(tables.beta, betas, { relative: 1e-12, what: `betas of "${spec}"` })
    }
  })

  it('refuses too few timesteps for linear betas', () => {
    expect(() => NoiseSchedule.create({ name: 'linear', timestepCount: 10 })).to.throw(
      RangeError,
      'NoiseSchedule.create: expected timestepCount to be at least 21 for the linear schedule, got 10; with fewer, its betas reach 1; use cosine',
    )
  })
})
