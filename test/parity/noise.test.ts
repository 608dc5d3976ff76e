import { DeviceTensor } from '../../lib/device-tensor.ts'
import { native } from '../../lib/native.ts'
import { PURPOSES } from '../../lib/random.ts'
import { expectClose } from '../support/close.ts'
import { fixtureJson, fixtureTensors, float32 } from '../support/fixtures.ts'

describe('Keyed noise against an independent Philox', () => {
  it('draws the same normal numbers for every key', async () => {
    const fixture = await fixtureTensors('noise.safetensors')
    for (const { name, shape, seed, purpose, step, sample } of fixtureJson('noise.json').normals) {
      const names = {
        [PURPOSES.noise]: 'noise',
        [PURPOSES.startNoise]: 'startNoise',
        [PURPOSES.stepNoise]: 'stepNoise',
        [PURPOSES.probe]: 'probe',
      } as const
      const key = {
        seed,
        purpose: names[purpose as keyof typeof names] as 'noise',
        step,
        firstSample: sample,
      }
      const noise = await DeviceTensor.noise([1, ...shape], key)
      // A few units in the last place of float32 logarithms and cosines.
      expectClose(float32(await noise.toHost()), float32(fixture(`normal.${name}`)), {
        absolute: 2e-6,
        relative: 2e-6,
        what: name,
      })
    }
  })

  it('draws the same dropout mask for every key', async () => {
    const fixture = await fixtureTensors('noise.safetensors')
    for (const { name, shape, p, layer, seed, step, sample } of fixtureJson('noise.json').dropout) {
      const key = { seed, purpose: 'noise', step, firstSample: sample } as const
      const mask = new DeviceTensor(await native().tensorDropoutMask([1, ...shape], p, layer, key))
      expectClose(float32(await mask.toHost()), float32(fixture(`dropout.${name}`)), {
        relative: 1e-7,
        what: name,
      })
    }
  })
})
