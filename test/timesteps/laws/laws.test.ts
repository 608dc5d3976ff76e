import { expect } from 'chai'
import { gaussianSpectrum } from '../../../lib/analysis/gaussian-model.ts'
import { normalCdf } from '../../../lib/timesteps/distributions.ts'
import { clippedSnr, logSnrDensity, logSnrEdges, type TimestepLaw } from '../../../lib/timesteps/law.ts'
import { lawSampler } from '../../../lib/timesteps/law-sampler.ts'
import { betaLaw } from '../../../lib/timesteps/laws/beta.ts'
import { cltsLaw } from '../../../lib/timesteps/laws/clts.ts'
import { constantRateLaw } from '../../../lib/timesteps/laws/constant-rate.ts'
import {
  cauchyLaw,
  cosineInterpolatedLaw,
  cosineLaw,
  edmLaw,
  laplaceLaw,
} from '../../../lib/timesteps/laws/log-snr.ts'
import { logitNormalLaw } from '../../../lib/timesteps/laws/logit-normal.ts'
import { modeLaw } from '../../../lib/timesteps/laws/mode.ts'
import { speedLaw } from '../../../lib/timesteps/laws/speed.ts'
import { uniformLaw } from '../../../lib/timesteps/laws/uniform.ts'
import { fulfilsTheContract } from '../contract.ts'
import { cosineAlphaBar, linearAlphaBar } from '../schedules.ts'

const sum = (values: Float64Array, from = 0, to = values.length): number =>
  values.slice(from, to).reduce((a, b) => a + b, 0)

const linear = linearAlphaBar()
const laws: [name: string, law: TimestepLaw][] = [
  ['uniform', uniformLaw(1000)],
  ['logit-normal', logitNormalLaw(1000, -0.8, 1)],
  ['mode', modeLaw(1000, 1.29)],
  ['mode below 0', modeLaw(1000, -1)],
  ['beta', betaLaw(1000, 0.7, 2)],
  ['laplace', laplaceLaw(linear, 0, 0.5)],
  ['cauchy', cauchyLaw(linear, 0, 1)],
  ['edm', edmLaw(linear)],
  ['cosine', cosineLaw(linear)],
  ['cosine-interpolated', cosineInterpolatedLaw(linear, 256)],
  ['constant-rate', constantRateLaw(linear, gaussianSpectrum({ size: 32 }))],
  ['speed', speedLaw(linear)],
  ['clts', cltsLaw(1000)],
]

describe('A timestep law', () => {
  for (const [name, law] of laws) {
    it(`${name} has probabilities that add up to 1`, () => {
      for (const step of [0, 25_000, 90_000]) {
        const p = law.at(step)
        expect(p).to.have.length(law.timestepCount)
        expect(sum(p)).to.be.closeTo(1, 1e-12)
        expect(p.every((value) => value >= 0)).to.equal(true)
      }
    })
  }

  it('logit-normal puts half of the mass below the timestep of its mean, and 68.27 % within one deviation', () => {
    const sigmoid = (z: number): number => 1 / (1 + Math.exp(-z))
    const p = logitNormalLaw(10_000, -0.8, 0.5).at(0)
    const at = (z: number): number => Math.round(10_000 * sigmoid(-0.8 + 0.5 * z))
    expect(sum(p, 0, at(0))).to.be.closeTo(0.5, 1e-4)
    expect(sum(p, at(-1), at(1))).to.be.closeTo(0.682689, 2e-4)
  })

  it('logit-normal (0, 1) of four timesteps has the masses of the normal law', () => {
    const [a, b, c, d] = logitNormalLaw(4).at(0)
    expect(a).to.be.closeTo(normalCdf(-Math.log(3)), 1e-15)
    expect(a).to.be.closeTo(0.13596861, 1e-8)
    expect(b).to.be.closeTo(0.36403139, 1e-8)
    expect([c, d]).to.deep.equal([b, a])
  })

  it('mode is uniform at kappa 0, and has the masses of its map at kappa 1', () => {
    for (const p of modeLaw(50, 0).at(0)) expect(p).to.be.closeTo(0.02, 1e-14)
    // kappa = 1: t / T = 1 - u - cos^2(pi u / 2) + 1 - u; at u = 3/4 it is 0.5 - 0.14644661.
    const p = modeLaw(100_000, 1).at(0)
    expect(sum(p, 0, 35_355)).to.be.closeTo(0.25, 1e-5)
    expect(sum(p, 0, 50_000)).to.be.closeTo(0.5, 1e-12)
  })

  it('beta (1, 2) and (2, 1) have the masses of their polynomials, and (0.5, 0.5) of the arcsine', () => {
    for (const [t, p] of betaLaw(8, 1, 2).at(0).entries()) expect(p).to.be.closeTo((15 - 2 * t) / 64, 1e-14)
    for (const [t, p] of betaLaw(8, 2, 1).at(0).entries()) expect(p).to.be.closeTo((1 + 2 * t) / 64, 1e-14)
    const arcsine = (x: number): number => (2 / Math.PI) * Math.asin(Math.sqrt(x))
    for (const [t, p] of betaLaw(8, 0.5, 0.5).at(0).entries())
      expect(p).to.be.closeTo(arcsine((t + 1) / 8) - arcsine(t / 8), 1e-13)
  })

  it('laplace, cauchy, edm and cosine have their densities on log snr', () => {
    const edges = logSnrEdges('test', linear)
    const middle = (t: number): number => (edges[t]! + edges[t + 1]!) / 2
    const inside = (mass: (x: number) => number): number => mass(edges[0]!) - mass(edges[1000]!)
    const cases: [law: TimestepLaw, density: (x: number) => number, kept: number][] = [
      [laplaceLaw(linear, 1, 2), (x) => Math.exp(-Math.abs(x - 1) / 2) / 4, inside((x) => (x > 1 ? 1 - Math.exp((1 - x) / 2) / 2 : Math.exp((x - 1) / 2) / 2))],
      [cauchyLaw(linear, 1, 2), (x) => 2 / (Math.PI * ((x - 1) ** 2 + 4)), inside((x) => Math.atan((x - 1) / 2) / Math.PI)],
      [edmLaw(linear), (x) => Math.exp(-((x - 2.4) ** 2) / (2 * 2.4 ** 2)) / (2.4 * Math.sqrt(2 * Math.PI)), inside((x) => normalCdf((x - 2.4) / 2.4))],
      [cosineLaw(linear, 0.5), (x) => 1 / (2 * Math.PI * Math.cosh((x - 2 * Math.log(2)) / 2)), inside((x) => 1 - (2 / Math.PI) * Math.atan(2 * Math.exp(-x / 2)))],
    ] // biome-ignore format: one case a line
    for (const [law, density, kept] of cases) {
      const measured = logSnrDensity(law.at(0), linear)
      for (let t = 100; t < 1000; t += 50)
        expect(measured[t]! / (density(middle(t)) / kept), `${law.name} ${t}`).to.be.closeTo(1, 1e-3)
    }
  })

  it('uniform draws on the cosine schedule have the density sech(log snr / 2) / (2 pi)', () => {
    const alphaBar = cosineAlphaBar()
    const snr = clippedSnr('test', alphaBar)
    const density = logSnrDensity(uniformLaw(1000).at(0), alphaBar)
    for (let t = 100; t <= 900; t += 100) {
      const expected = 1 / (2 * Math.PI * Math.cosh(Math.log(snr[t]!) / 2))
      expect(density[t]! / expected, `t = ${t}`).to.be.closeTo(1, 0.03) // the schedule's offset of 0.008 is left out
    }
  })

  it('cosine on the cosine schedule is nearly uniform, and follows its sigmaData', () => {
    const alphaBar = cosineAlphaBar()
    const p = cosineLaw(alphaBar).at(0)
    for (let t = 100; t <= 900; t += 100) expect(1000 * p[t]!, `t = ${t}`).to.be.closeTo(1, 0.03) // the schedule's offset of 0.008 is left out
    const half = cosineLaw(alphaBar, 0.5).at(0)
    // sqrt(1 / snr) = tan(angle): half of the mass is on either side of sigmaData.
    const middle = (2 / Math.PI) * Math.atan(0.5)
    expect(sum(half, 0, Math.round(1000 * middle))).to.be.closeTo(0.5, 0.01)
  })

  it('give every timestep a cell where several hold hardly any signal, or hardly any noise', () => {
    const logSnr = [20, 16, 15, 10, 0, -10, -14, -17, Number.NEGATIVE_INFINITY] // kept within 13.8 and -13.8
    const alphaBar = Float64Array.from(logSnr, (value) => 1 / (1 + Math.exp(-value)))
    const edges = logSnrEdges('test', alphaBar)
    const [top, step] = [Math.log(1e6), Math.log(1e6) - 10]
    const middles = [...edges.slice(1)].map((edge, t) => (edge + edges[t]!) / 2)
    expect(middles[0]).to.be.closeTo(top + 2 * step, 1e-9)
    expect(middles[1]).to.be.closeTo(top + step, 1e-9)
    expect(middles[7]).to.be.closeTo(-top - step, 1e-9)
    expect(middles[8]).to.be.closeTo(-top - 2 * step, 1e-9)
    expect(middles[4]).to.be.closeTo(0, 1e-9)
    for (const law of [edmLaw(alphaBar), cosineLaw(alphaBar), laplaceLaw(alphaBar), cauchyLaw(alphaBar)])
      expect(Math.min(...law.at(0)), law.name).to.be.above(0)
  })

  it('cosine has the masses of sigmaData tan(pi u / 2) for u drawn evenly', () => {
    const wide = Float64Array.from({ length: 60 }, (_, t) => 1 / (1 + Math.exp(-(12 - (24 * t) / 59))))
    const edges = logSnrEdges('test', wide)
    const p = cosineLaw(wide, 0.7).at(0)
    const counts = new Float64Array(60)
    const drawn = 400_000
    for (let i = 0; i < drawn; i++) {
      const logSnr = -2 * Math.log(0.7 * Math.tan((Math.PI * (i + 0.5)) / drawn / 2))
      const cell = edges.findIndex((edge) => edge < logSnr) - 1 // edges fall
      if (cell >= 0) counts[cell]!++
    }
    const inside = sum(counts)
    expect(inside / drawn).to.be.above(0.99)
    for (const [t, count] of counts.entries()) expect(count, `t = ${t}`).to.be.closeTo(inside * p[t]!, 1.5)
  })

  it('cosine-interpolated has the masses of simple diffusion’s log snr for u drawn evenly', () => {
    const wide = Float64Array.from({ length: 60 }, (_, t) => 1 / (1 + Math.exp(-(13 - (26 * t) / 59))))
    const edges = logSnrEdges('test', wide)
    const p = cosineInterpolatedLaw(wide, 256, 32, 256).at(0)
    // The shifted schedule's ends are those of the unshifted one: sigma from 1e-3 to 1e3.
    const shifted = (u: number, noise: number): number => {
      const ratio = noise / 256
      const [first, last] = [Math.atan(1e-3 * ratio), Math.atan(1e3 * ratio)]
      return -2 * Math.log(Math.tan(first + u * (last - first)) / ratio)
    }
    const counts = new Float64Array(60)
    const drawn = 400_000
    for (let i = 0; i < drawn; i++) {
      const u = (i + 0.5) / drawn
      const logSnr = (1 - u) * shifted(u, 32) + u * shifted(u, 256)
      const cell = edges.findIndex((edge) => edge < logSnr) - 1
      if (cell >= 0) counts[cell]!++
    }
    const inside = sum(counts)
    expect(inside / drawn).to.be.above(0.99)
    for (const [t, count] of counts.entries()) expect(count, `t = ${t}`).to.be.closeTo(inside * p[t]!, 1.5)
    const plain = cosineLaw(linear).at(0)
    for (const [t, mass] of cosineInterpolatedLaw(linear, 64, 64, 64).at(0).entries())
      expect(mass).to.be.closeTo(plain[t]!, 1e-9)
    expect(sum(p, 0, 30)).to.be.below(sum(cosineLaw(wide).at(0), 0, 30)) // more noise
  })

  it('edm has mean 2.4 and deviation 2.4 on log snr where the schedule reaches', () => {
    const wide = Float64Array.from({ length: 4000 }, (_, t) => 1 / (1 + Math.exp(-(13 - (26 * t) / 3999))))
    const p = edmLaw(wide).at(0)
    const logSnr = clippedSnr('test', wide).map(Math.log)
    const mean = sum(p.map((value, t) => value * logSnr[t]!))
    const variance = sum(p.map((value, t) => value * (logSnr[t]! - mean) ** 2))
    expect(mean).to.be.closeTo(2.4, 1e-3)
    expect(Math.sqrt(variance)).to.be.closeTo(2.4, 2e-3)
  })

  it('on log snr is finite for a schedule that ends without signal or begins without noise', () => {
    const ends = Float64Array.of(1, 0.999, 0.5, 0.001, 0)
    const interpolated = cosineInterpolatedLaw(ends, 64)
    for (const law of [laplaceLaw(ends), cauchyLaw(ends), edmLaw(ends), cosineLaw(ends), interpolated]) {
      expect(sum(law.at(0))).to.be.closeTo(1, 1e-14)
    }
    expect(clippedSnr('test', ends)[0]).to.equal(1e6)
    expect(clippedSnr('test', ends)[4]).to.equal(1e-6)
  })

  it('speed draws the first 70 % twice as often and mirrors the rest of the batch', () => {
    const law = speedLaw(linear)
    const p = law.at(0)
    expect(p[0]! / p[999]!).to.be.closeTo(2, 1e-12)
    expect(p[699]).to.equal(p[0])
    expect(p[700]).to.equal(p[999])
    const { t } = lawSampler({ law, seed: 2 }).draw(9, 4)
    const mirror = t[0]! + t[5]!
    const others = [...t.slice(5)].map((value, i) => Math.abs(value - law.partner!(t[i]!)))
    expect(others).to.deep.equal([0, 0, 0, 0])
    expect(law.partner!(law.partner!(0))).to.equal(0)
    expect(mirror).to.be.below(2000)
    // From timestep 693 on sqrt(1 - alphaBar) grows by less than 1e-4 a step on the linear schedule.
    const noise = Float64Array.from(linear, (signal) => Math.sqrt(1 - signal))
    const m = law.partner!(0)
    expect((noise[m]! - noise[m - 2]!) / 2).to.be.below(1e-4)
    expect((noise[m - 1]! - noise[m - 3]!) / 2).to.be.at.least(1e-4)
  })

  it('constant-rate follows the variance of a component, whose logarithm is its distance', () => {
    const edges = [...logSnrEdges('test', linear)]
    const distance = (power: number): number[] =>
      edges.map((logSnr) => Math.log((power * Math.exp(logSnr) + 1) / (Math.exp(logSnr) + 1)))
    for (const power of [40, 0.01]) {
      const at = distance(power)
      const p = constantRateLaw(linear, [{ power, share: 1 }]).at(0)
      for (const t of [3, 200, 500, 900])
        expect(sum(p, 0, t) * (at[1000]! - at[0]!)).to.be.closeTo(at[t]! - at[0]!, 1e-9)
    }
    // Of two components the squares add up, each with its share.
    const [many, few] = [distance(40), distance(0.01)]
    const p = constantRateLaw(linear, [
      { power: 40, share: 0.1 },
      { power: 0.01, share: 0.9 },
    ]).at(0)
    const step = (t: number): number =>
      Math.sqrt(0.1 * (many[t + 1]! - many[t]!) ** 2 + 0.9 * (few[t + 1]! - few[t]!) ** 2)
    expect(p[300]! / p[700]!).to.be.closeTo(step(300) / step(700), 1e-9)
  })

  it('constant-rate stays away from both ends, and refuses images that are noise themselves', () => {
    const p = constantRateLaw(linear, gaussianSpectrum({ size: 32 })).at(0)
    const density = logSnrDensity(p, linear)
    const top = density.indexOf(Math.max(...density))
    expect(Math.log(linear[top]! / (1 - linear[top]!))).to.be.within(-2, 4)
    expect(density[0]! / density[top]!).to.be.below(0.01)
    expect(density[999]! / density[top]!).to.be.below(0.05)
    expect(() => constantRateLaw(linear, [{ power: 1, share: 1 }])).to.throw(
      RangeError,
      'constantRateLaw: expected the law to be one that gives some timestep a chance, got "a total mass of 0"',
    )
    expect(() => constantRateLaw(linear, [{ power: 0, share: 1 }])).to.throw(
      RangeError,
      'constantRateLaw: expected spectrum[0].power to be a number > 0, got 0',
    )
  })

  it('clts goes from uniform to normal around 0.3 T', () => {
    const law = cltsLaw(1000)
    expect(law.at(0)[700]).to.be.closeTo(1e-3, 1e-15)
    const p = law.at(50_000)
    expect(p.indexOf(Math.max(...p))).to.equal(300)
    expect(p[450]! / p[300]!).to.be.closeTo(Math.exp(-0.5), 1e-4)
    expect(law.at(1e6)).to.deep.equal(p)
    expect(law.at(25_000)[700]).to.be.closeTo((1e-3 + p[700]!) / 2, 1e-15)
  })

  it('refuses numbers that make no law', () => {
    for (const [make, message] of [
      [() => logitNormalLaw(10, 0, 0), 'logitNormalLaw: expected deviation to be a number > 0, got 0'],
      [() => modeLaw(10, 2), /modeLaw: expected kappa to be a number in \[-1, 1.75/],
      [() => betaLaw(10, 1, -1), 'betaLaw: expected b to be a number > 0, got -1'],
      [() => cauchyLaw(linear, 0, 0), 'cauchyLaw: expected gamma to be a number > 0, got 0'],
      [() => edmLaw(Float64Array.of(0.5, 2)), 'edmLaw: expected alphaBar[1] to be in [0, 1], got 2'],
      [() => cosineLaw(linear, 0), 'cosineLaw: expected sigmaData to be a number > 0, got 0'],
      [
        () => cosineInterpolatedLaw(linear, 0),
        'cosineInterpolatedLaw: expected size to be a number > 0, got 0',
      ],
      [
        () => cosineInterpolatedLaw(linear, 64, 2, 64),
        'cosineInterpolatedLaw: expected noiseHigh to be a number in [0, 40], got 64',
      ],
      [() => speedLaw(linear, 2, 1001), 'speedLaw: expected tau to be an integer in [0, 1000], got 1001'],
    ] as const) {
      expect(make).to.throw(RangeError, message as string)
    }
  })
})

describe('lawSampler', () => {
  const law = betaLaw(12, 1.5, 2)
  describe('with importance weights', () => {
    fulfilsTheContract((seed) => lawSampler({ law, seed, importanceWeights: true }), {
      timestepCount: 12,
      steps: 3000,
    })
  })
  for (const stream of ['iid', 'stratified', 'systematic', 'golden'] as const) {
    describe(`on the ${stream} stream`, () => {
      fulfilsTheContract((seed) => lawSampler({ law, seed, stream }), { timestepCount: 12, steps: 200 })
    })
  }

  it('draws each timestep as often as its mass says, to one of a systematic batch', () => {
    for (const [name, each] of laws.filter(([, { partner }]) => !partner)) {
      const p = each.at(7)
      const counts = new Float64Array(1000)
      for (const t of lawSampler({ law: each, stream: 'systematic' }).draw(100_000, 7).t) counts[t]!++
      for (const [t, count] of counts.entries())
        expect(count, `${name} ${t}`).to.be.closeTo(100_000 * p[t]!, 1.0001)
    }
  })

  it('has weights 1 / (T p), so that p times weight is 1 / T for every timestep', () => {
    for (const [name, each] of laws.filter(([, { partner }]) => !partner)) {
      const p = each.at(0).map((value) => 0.999 * value + 1e-6)
      const { t, weight } = lawSampler({ law: each, importanceWeights: true }).draw(64, 0)
      for (const [i, value] of t.entries()) expect(p[value]! * weight[i]! * 1000, name).to.be.closeTo(1, 1e-6)
    }
  })

  it('counts partners of a mirrored law in its weights', () => {
    const count = 20_000
    const law = speedLaw(linear)
    const { t, weight } = lawSampler({ law, stream: 'systematic', importanceWeights: true }).draw(count, 0)
    const mass = new Float64Array(10)
    for (const [i, value] of t.entries()) mass[Math.floor(value / 100)]! += weight[i]! / count
    for (const [k, value] of mass.entries()) expect(value, `tenth ${k}`).to.be.closeTo(0.1, 0.001)
  })

  it('mirrors every stratum of a stratified batch equally often', () => {
    const sampler = lawSampler({ law: speedLaw(linear), stream: 'stratified', importanceWeights: true })
    const mass = new Float64Array(10)
    for (let step = 0; step < 3000; step++) {
      const { t, weight } = sampler.draw(4, step)
      for (const [i, value] of t.entries()) mass[Math.floor(value / 100)]! += weight[i]! / 12_000
    }
    for (const [k, value] of mass.entries()) expect(value, `tenth ${k}`).to.be.closeTo(0.1, 0.008)
  })

  it('claims nothing and weighs nothing without importance weights', () => {
    const sampler = lawSampler({ law })
    expect(sampler.unbiased).to.equal(false)
    expect([...sampler.draw(3, 0).weight]).to.deep.equal([1, 1, 1])
  })

  it('refuses importance weights where a timestep has no chance', () => {
    const never = { name: 'half', timestepCount: 2, at: () => Float64Array.of(1, 0) }
    expect(() => lawSampler({ law: never, importanceWeights: true, uniformShare: 0 }).draw(1, 0)).to.throw(
      RangeError,
      'lawSampler: expected law to be one that gives every timestep a chance, for importanceWeights, got "half"; give a uniformShare',
    )
  })
})
