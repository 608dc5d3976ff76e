import { expect } from 'chai'
import { NoiseSchedule, type ScheduleTables } from '../../lib/schedule/noise-schedule.ts'
import { spaceTimesteps } from '../../lib/schedule/spacing.ts'
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

const total = (table: Float64Array): number => table.reduce((sum, value) => sum + value, 0)

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

  for (const [name, timestepCount, first, second, middle, last, sum, alphaBar] of [
    [
      'linear',
      1000,
      0.0001,
      0.00011991991991991993,
      0.010059959959959959,
      0.02,
      10.049999999999999,
      4.0358297653756761e-5,
    ],
    [
      'linear',
      4000,
      2.5000000000000001e-5,
      2.6244061015253815e-5,
      0.0025131220305076268,
      0.005,
      10.050000000000001,
      4.2466522758022488e-5,
    ],
    [
      'cosine',
      1000,
      4.128422482196914e-5,
      4.6141752736650332e-5,
      0.0031556914415850068,
      0.999,
      12.441496417056296,
      2.4287669070348567e-9,
    ],
    [
      'cosine',
      4000,
      9.8658188136813152e-6,
      1.01694148842979e-5,
      0.0007889355535104503,
      0.999,
      15.210434270813124,
      1.5179804688514517e-10,
    ],
  ] as const) {
    it(`has the betas of ${name} with ${timestepCount} timesteps, their sum and what is left of the signal`, () => {
      const { beta, alphaBar: bars } = NoiseSchedule.create({ name, timestepCount }).tables
      const actual = [
        beta[0],
        beta[1],
        beta[timestepCount / 2],
        beta.at(-1),
        total(beta),
        bars.at(-1),
      ] as number[]
      expectClose(actual, [first, second, middle, last, sum, alphaBar], { relative: 1e-12, what: name })
    })
  }

  it('has the sums and single values of the derived tables', () => {
    const { tables: linear } = NoiseSchedule.create({ name: 'linear' })
    const { tables: cosine } = NoiseSchedule.create({ name: 'cosine' })
    const at = (table: Float64Array, ...k: number[]) => k.map((i) => table[i] as number)
    const logs = linear.posteriorLogVarianceClipped
    const rows: [string, number[], number[]][] = [
      ['sum of alphaBar', [total(linear.alphaBar)], [275.513233396806]],
      ['sum of log variances', [total(logs)], [-4896.90725843247]],
      ['posterior variance', at(linear.posteriorVariance, 1), [5.4531876613006668e-5]],
      ['log variances', at(logs, 0, 1), [-9.8167251352959486, -9.8167251352959486]],
      [
        'factors of xStart',
        at(linear.posteriorMeanXStart, 1, 500, 999),
        [0.54529149951013767, 0.0030580570756296344, 0.00012835148717224693],
      ],
      [
        'factors of xt',
        at(linear.posteriorMeanXt, 1, 500, 999),
        [0.45470849899053029, 0.99410435075672576, 0.98994867826751731],
      ],
      ['sqrt(1 / alphaBar - 1)', at(linear.sqrtRecipAlphaBarMinusOne, 999), [157.40728081040757]],
      ['cosine: sum of alphaBar', [total(cosine.alphaBar)], [495.577512582486]],
      ['cosine: sum of log variances', [total(cosine.posteriorLogVarianceClipped)], [-5746.60176229936]],
    ]
    for (const [what, actual, expected] of rows) expectClose(actual, expected, { relative: 1e-12, what })
  })

  it('has the betas of respaced processes', () => {
    const linear = NoiseSchedule.create({ name: 'linear' }).respace('250').tables.beta
    const cosine = NoiseSchedule.create({ name: 'cosine' }).respace('ddim25').tables.beta
    expectClose(
      [linear[0], linear[1], linear[125], linear.at(-1), cosine[0], cosine[1], cosine.at(-1)] as number[],
      [
        9.9999999999988987e-5, 0.00059906556447564263, 0.049297903634179741, 0.077519344992350026,
        4.128422482196914e-5, 0.0056236640581812658, 0.75535554842484764,
      ],
      { relative: 1e-12, what: 'betas' },
    )
  })

  it('keeps the timesteps of the original for every kind of specification', () => {
    for (const [timestepCount, spec, count, head, tail, sum] of [
      [1000, '250', 250, [0, 4, 8, 12, 16, 20, 24, 28], [979, 983, 987, 991, 995, 999], 124875],
      [1000, '25', 25, [0, 42, 83, 125, 166, 208, 250, 291], [791, 832, 874, 916, 957, 999], 12487],
      [1000, '100', 100, [0, 10, 20, 30, 40, 50, 61, 71], [949, 959, 969, 979, 989, 999], 49950],
      [1000, 'ddim25', 25, [0, 40, 80], [920, 960], 12000],
      [300, '10,15,20', 45, [0, 11, 22, 33, 44, 55, 66, 77], [273, 278, 283, 289, 294, 299], 7727],
      [1000, '10,10,10,10,10', 50, [0, 22, 44, 66, 88, 111, 133, 155], [888, 911, 933, 955, 977, 999], 24975],
      [10, '3', 3, [0, 4, 9], [], 13],
      [4000, '250', 250, [0, 16, 32], [3983, 3999], 499875],
    ] as const) {
      const kept = Array.from(spaceTimesteps(timestepCount, spec))
      const what = `${timestepCount} "${spec}"`
      expect(kept, what).to.have.length(count)
      expect(kept.slice(0, head.length), what).to.deep.equal(head)
      expect(kept.slice(kept.length - tail.length), what).to.deep.equal(tail)
      expect(
        kept.reduce((a, b) => a + b),
        what,
      ).to.equal(sum)
    }
  })

  it('refuses too few timesteps for linear betas', () => {
    expect(() => NoiseSchedule.create({ name: 'linear', timestepCount: 10 })).to.throw(
      RangeError,
      'NoiseSchedule.create: expected timestepCount to be at least 21 for the linear schedule, got 10; with fewer, its betas reach 1; use cosine',
    )
  })
})
