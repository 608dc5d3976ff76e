import { DeviceTensor } from '../../lib/device-tensor.ts'
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
})
