import type { Precision } from '../native.ts'

/**
 * @internal What a run says of steps that were not finite and were skipped: the first of them, and how many in the end.
 * Steps of fp16 are also skipped to find the scale of the loss, which is as it should be: nothing is said of those.
 */
export class SkipWarnings {
  readonly #precision: Precision
  readonly #log: (line: string) => void
  #count = 0

  constructor(precision: Precision, log: (line: string) => void) {
    this.#precision = precision
    this.#log = log
  }

  /** @param step - the number of steps done, that one included */
  add(step: number): void {
    if (this.#precision === 'fp16' || ++this.#count > 1) return
    this.#log(
      `warning: step ${step} was skipped, because its loss or gradient was not finite; lower the learning rate`,
    )
  }

  end(): void {
    if (this.#count > 1) this.#log(`warning: ${this.#count} steps were skipped in all`)
  }
}
