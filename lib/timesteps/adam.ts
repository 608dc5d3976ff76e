const [BETA1, BETA2, TINY] = [0.9, 0.99, 1e-8]

/** Adam (0.9, 0.99) over a few numbers of statistics, in float64; what is learned starts at 0. */
export class Adam {
  readonly values: Float64Array
  readonly first: Float64Array
  readonly second: Float64Array
  /** Updates so far. */
  steps = 0
  readonly #lr: number

  constructor(size: number, lr: number) {
    this.values = new Float64Array(size)
    this.first = new Float64Array(size)
    this.second = new Float64Array(size)
    this.#lr = lr
  }

  /** Moves the values against a gradient of as many numbers. */
  update(gradient: Float64Array): void {
    this.steps++
    const { values, first, second } = this
    for (const [i, g] of gradient.entries()) {
      first[i] = BETA1 * first[i]! + (1 - BETA1) * g
      second[i] = BETA2 * second[i]! + (1 - BETA2) * g ** 2
      const deviation = Math.sqrt(second[i]! / (1 - BETA2 ** this.steps))
      values[i]! -= (this.#lr * (first[i]! / (1 - BETA1 ** this.steps))) / (deviation + TINY)
    }
  }
}
