// Policies against bench/reference/policies.py, which knows them by docs/math.md alone.
import { expect } from 'chai'
import { allHeadsPolicy } from '../../lib/mixing/all-heads.ts'
import { blueWeights } from '../../lib/mixing/blue.ts'
import { consensusPolicy } from '../../lib/mixing/consensus.ts'
import { HeadStatistics } from '../../lib/mixing/head-statistics.ts'
import { mergePolicy } from '../../lib/mixing/merge.ts'
import { minimumPolicy } from '../../lib/mixing/minimum.ts'
import type { MixContext } from '../../lib/mixing/mix-context.ts'
import { normalisedPolicy } from '../../lib/mixing/normalised.ts'
import type { HeadPolicy } from '../../lib/mixing/policy.ts'
import { relaxedPolicy } from '../../lib/mixing/relaxed.ts'
import { softminPolicy } from '../../lib/mixing/softmin.ts'
import { tablePolicy } from '../../lib/mixing/table.ts'
import { uncertaintyPolicy } from '../../lib/mixing/uncertainty.ts'
import { withStatistics } from '../../lib/mixing/with-statistics.ts'
import { HEADS } from '../../lib/prediction/heads.ts'
import { fixtureJson, fixtureTensors, int32, numbers } from '../support/fixtures.ts'

interface Row {
  readonly step: number
  readonly best: number[]
  readonly table: number[][]
  readonly consensus: number[][]
  readonly normalised: number[][]
  readonly uncertainty: number[][]
  readonly blueAt: (number[] | null)[]
  readonly floor: number
  readonly temperature: number
  readonly stopped: number
  readonly warmFloor: number
}

const json = fixtureJson('policies.json')
const rows = json.rows as Row[]
const asked = Int32Array.from(json.asked as number[])

describe('Policies of several heads against an independent version', () => {
  const policies: Record<string, HeadPolicy> = {}
  let statistics: HeadStatistics
  /** What each policy decides before the steps of the fixture, and what the statistics say then. */
  const stopped: number[] = [] // temperature before each step
  const found: { decided: Record<string, ReturnType<HeadPolicy['decide']>>; best: number[]; blueAt: (number[] | undefined)[] }[] = [] // biome-ignore format: one type

  before(async () => {
    const logSnr = Float64Array.from(json.logSnr as number[])
    statistics = new HeadStatistics({ heads: HEADS, logSnr, binCount: json.binCount as number })
    const context: MixContext = { heads: HEADS, logSnr, statistics, space: 'F', courseSteps: 200 }
    policies.all = allHeadsPolicy(context)
    policies.table = tablePolicy(context, { warmup: 40 })
    policies.consensus = consensusPolicy(context, { warmup: 40 })
    policies.normalised = normalisedPolicy({ ...context, space: 'own' }, { halfLife: 100 })
    policies.uncertainty = uncertaintyPolicy({ ...context, space: 'own' })
    policies.relaxed = relaxedPolicy(context)
    policies.softmin = softminPolicy(context)
    policies.stopped = softminPolicy(context, { stop: json.stop as number })
    policies.warm = minimumPolicy(context, { warmup: 40 })
    policies.merge = mergePolicy({ ...context, heads: ['xStart', 'eps'] })
    const learning = withStatistics(
      {
        name: 'all of them',
        decide: () => ({}),
        observe: (losses) => {
          for (const policy of Object.values(policies)) policy.observe?.(losses)
        },
      },
      statistics,
    )
    const fixture = await fixtureTensors('policies.safetensors')
    const [t, products, perHead] = [
      int32(fixture('t')),
      numbers(fixture('products')),
      numbers(fixture('perHead')),
    ]
    const batch = 4
    const part = (values: ArrayLike<number>, width: number, step: number) =>
      Float32Array.from(Array.from(values).slice(step * batch * width, (step + 1) * batch * width))
    const last = Math.max(...rows.map(({ step }) => step))
    for (let step = 0; step <= last; step++) {
      if (rows.some((row) => row.step === step)) {
        found.push({
          decided: Object.fromEntries(
            Object.entries(policies).map(([name, policy]) => [name, policy.decide(asked, step)]),
          ),
          best: Array.from({ length: statistics.binCount }, (_, bin) =>
            HEADS.indexOf(statistics.bestHead(bin) as (typeof HEADS)[number]),
          ),
          blueAt: (json.places as number[]).map((place) => statistics.blueAt(place)),
        })
      }
      stopped.push(policies.stopped.decide(asked, step).temperature as number)
      learning.observe?.({
        ...{ t: t.slice(step * batch, (step + 1) * batch), loss: new Float32Array(batch), heads: HEADS },
        perHead: part(perHead, 3, step),
        errorProducts: part(products, 9, step),
        meanError: new Float32Array(batch * 3),
      })
    }
  })

  const expectRows = (values: Float32Array | undefined, wanted: readonly (readonly number[])[]): void => {
    for (const [i, value] of wanted.flat().entries()) {
      expect(values?.[i], `element ${i}`).to.be.closeTo(value, 1e-6 + 2e-6 * Math.abs(value))
    }
  }

  it('cuts noise levels as it does', () => {
    expect(statistics.bins.edges).to.deep.equal(json.edges)
  })

  for (const [i, row] of rows.entries()) {
    it(`decides alike before step ${row.step}`, () => {
      const { decided, best, blueAt } = found[i] as (typeof found)[number]
      expect(best).to.deep.equal(row.best)
      for (const name of ['all', 'table', 'consensus', 'relaxed', 'softmin'])
        expectRows(decided[name]?.headWeight, json.capped as number[][])
      expectRows(decided.table?.share, row.table)
      expectRows(decided.consensus?.mixture?.weight, row.consensus)
      expectRows(decided.normalised?.headWeight, row.normalised)
      expectRows(decided.uncertainty?.headWeight, row.uncertainty)
      expect(decided.relaxed?.floor).to.be.closeTo(row.floor, 1e-12)
      expect(decided.softmin?.temperature).to.be.closeTo(row.temperature, 1e-12)
      expect(decided.stopped?.temperature).to.be.closeTo(row.stopped, 1e-12)
      expect(decided.warm?.floor).to.be.closeTo(row.warmFloor, 1e-12)
      expectRows(decided.merge?.mixture?.weight, json.merge as number[][])
      expect(Math.max(...(decided.merge?.share ?? [1]))).to.equal(0)
      for (const [k, weights] of row.blueAt.entries()) {
        if (weights === null) expect(blueAt[k]).to.equal(undefined)
        else for (const [h, weight] of weights.entries()) expect(blueAt[k]?.[h]).to.be.closeTo(weight, 1e-6)
      }
    })
  }

  it('stays at the temperature at which the least win rate falls to the stop', () => {
    const expected = (json.stoppedTemperatures as number[]).slice(0, stopped.length)
    for (const [step, temperature] of expected.entries())
      expect(stopped[step], `step ${step}`).to.be.closeTo(temperature, 1e-12)
    expect(stopped.at(-1)).to.be.above(0.1) // it did stop: the course ends at 0.03
  })

  it('finds the same best mixtures within limits', () => {
    for (const { products, weights } of json.limited as { products: number[]; weights: number[] }[]) {
      const ours = blueWeights(products)
      for (const [h, weight] of weights.entries()) expect(ours[h]).to.be.closeTo(weight, 1e-7)
    }
  })
})
