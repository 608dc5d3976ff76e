import { expect } from 'chai'
import type { SamplingNetwork } from '../../lib/cli/network-for-sampling.ts'
import { instrumentSlots } from '../../lib/cli/slots-for-instrument.ts'
import { allSlots } from '../../lib/curriculum/plan.ts'
import { NoiseSchedule } from '../../lib/schedule/noise-schedule.ts'
import { refreshedSlotSampler } from '../../lib/timesteps/refreshed-slots.ts'
import { uncertaintySampler } from '../../lib/timesteps/uncertainty.ts'

describe('slots of an instrument', () => {
  it('are those that training has cut anew, also beside a learned weighting', async () => {
    const schedule = NoiseSchedule.create({ timestepCount: 40 })
    const slots = [{ begin: 0, end: 15 }, { begin: 15, end: 40 }] // biome-ignore format: short
    const refreshed = () =>
      refreshedSlotSampler({ slots, plan: allSlots(2), seed: 0, every: 10, rule: 'loss' })
    for (const sampler of [
      refreshed(),
      uncertaintySampler(refreshed(), { alphaBar: schedule.tables.alphaBar }),
    ]) {
      const state = { sampler: { name: sampler.name, state: sampler.state?.() } }
      const network = { schedule, state } as unknown as SamplingNetwork
      const found = await instrumentSlots(
        'trislot probe',
        { slots: 10, slotEdges: undefined, lossCurve: undefined },
        {},
        network,
        8,
      )
      expect(found).to.deep.equal({ slots, source: 'edges of the run' })
    }
    schedule.dispose()
  })
})
