import { expect } from 'chai'
import { NETWORK_PRESETS } from '../../lib/model/presets.ts'
import { unetConfig } from '../../lib/model/unet.ts'

describe('network presets', () => {
  for (const [name, options] of Object.entries(NETWORK_PRESETS)) {
    it(`${name} is a network that can be made`, () => {
      expect(unetConfig(options).channelMult).to.deep.equal(options.channelMult)
    })
  }
})
