import { argumentError, checkFinite, checkNumber } from '../check.ts'

/** A mixture of normal distributions of one number; pixels are independent of each other. */
export interface GaussianMixture {
  readonly weights: readonly number[]
  readonly means: readonly number[]
  readonly deviations: readonly number[]
}

/**
 * The exact prediction of xStart, E[xStart | xt], where pixels come from a Gaussian mixture: what a perfect network would
 * say (math.md, "Gaussian mixture"). For studies of samplers.
 *
 * @param xt - any shape
 * @param alphaBar - in [0, 1) at the timestep of xt
 */
export function gaussianMixtureXStart(
  mixture: GaussianMixture,
  xt: Float64Array,
  alphaBar: number,
): Float64Array {
  const call = 'gaussianMixtureXStart'
  const { weights, means, deviations } = mixture
  if (weights.length === 0 || means.length !== weights.length || deviations.length !== weights.length) {
    throw argumentError(call, 'mixture', 'as many weights as means and deviations, at least one', mixture)
  }
  for (const [i, weight] of weights.entries()) checkNumber(call, `weights[${i}]`, weight, 0)
  for (const [i, deviation] of deviations.entries()) checkNumber(call, `deviations[${i}]`, deviation, 0)
  checkNumber(call, 'alphaBar', alphaBar, 0, 1 - 1e-15)
  checkFinite(call, 'xt', xt)
  const signal = Math.sqrt(alphaBar)
  const variances = deviations.map((deviation) => alphaBar * deviation ** 2 + 1 - alphaBar)
  return xt.map((x) => {
    const logs = weights.map(
      (weight, i) =>
        Math.log(weight) -
        0.5 * Math.log(variances[i]!) -
        (x - signal * means[i]!) ** 2 / (2 * variances[i]!),
    )
    const largest = logs.reduce((a, b) => Math.max(a, b))
    let sum = 0
    let expected = 0
    for (const [i, log] of logs.entries()) {
      const share = Math.exp(log - largest)
      const gain = (signal * deviations[i]! ** 2) / variances[i]!
      sum += share
      expected += share * (means[i]! + gain * (x - signal * means[i]!))
    }
    return expected / sum
  })
}
