import { expect } from 'chai'
import { CLASSIFIER_RECIPES, RECIPES, type Recipe } from '../../lib/model/recipes.ts'
import { UNet } from '../../lib/model/unet.ts'

/** The network without its numbers. */
function shapesOf(recipe: Recipe): Promise<UNet> {
  return UNet.create(recipe.network, { device: 'meta' as 'cpu' })
}

describe('Published networks', () => {
  for (const [name, recipe] of Object.entries<Recipe>(RECIPES)) {
    it(`${name} has ${recipe.parameterCount} weights in ${recipe.tensorCount} tensors`, async () => {
      const unet = await shapesOf(recipe)
      expect(unet.parameterCount).to.equal(recipe.parameterCount)
      expect(unet.parameters()).to.have.length(recipe.tensorCount)
      expect(unet.layout).to.deep.equal({ heads: ['eps'], imageChannels: 3, learnsVariance: true })
      unet.dispose()
    })
  }

  it('have the counts that follow from the original’s code', () => {
    const counts = (names: (keyof typeof RECIPES)[]) => names.map((name) => RECIPES[name].parameterCount)
    // guided-diffusion's table of released files
    expect(counts(['64x64_diffusion', '128x128_diffusion', '256x256_diffusion'])).to.deep.equal([
      295_904_454, 421_529_606, 553_838_086,
    ])
    expect(counts(['512x512_diffusion', '64_256_upsampler', '128_512_upsampler'])).to.deep.equal([
      558_997_638, 311_795_910, 308_835_270,
    ])
    expect(counts(['256x256_diffusion_uncond', 'lsun_bedroom'])).to.deep.equal([552_814_086, 552_814_086])
  })

  it('name classifiers that are there', () => {
    for (const { sampling } of Object.values<Recipe>(RECIPES)) {
      if (sampling.classifier !== undefined) expect(CLASSIFIER_RECIPES).to.have.property(sampling.classifier)
    }
  })
})
