import type { Head } from '../prediction/heads.ts'
import type { JsonValue } from '../timesteps/sampler.ts'
import type { StepReport } from './loop.ts'

/** Parts of equal width into which a row of a run's log divides the timesteps. */
export const BIN_COUNT = 10

/**
 * Losses by timestep, of all examples since the row before: bin b holds the timesteps t with floor(10 t / T) = b. Rounded to
 * five digits; null where no example fell into a bin.
 */
export interface LossByBin {
  /** [10] examples with a finite loss. */
  readonly count: readonly number[]
  /** [10] mean of what is back-propagated, before the weight of the timestep. */
  readonly loss: readonly (number | null)[]
  /** [10] mean squared error of each head in its own unit, for networks of several. */
  readonly perHead?: Readonly<Partial<Record<Head, readonly (number | null)[]>>>
  /** [10] examples for which each head was chosen, where heads are chosen. */
  readonly chosen?: Readonly<Partial<Record<Head, readonly number[]>>>
}

/**
 * Collects losses by timestep between two rows of the log. Its sums are kept in checkpoints, so that the row after a resume
 * is that of a run which never stopped.
 */
export class LossBins {
  readonly #heads: readonly Head[]
  readonly #timestepCount: number
  /** [10, 2 + 2 H] examples, sum of losses, sums of the heads' errors, times each head was chosen. */
  #sums: Float64Array

  constructor(heads: readonly Head[], timestepCount: number) {
    this.#heads = heads
    this.#timestepCount = timestepCount
    this.#sums = new Float64Array(BIN_COUNT * this.#width)
  }

  get #width(): number {
    return 2 + 2 * this.#heads.length
  }

  /** Adds the examples of a step, but for those whose loss is not finite. */
  add({
    t,
    exampleLoss,
    perHead,
    chosen,
  }: Pick<StepReport, 't' | 'exampleLoss' | 'perHead' | 'chosen'>): void {
    const headCount = this.#heads.length
    for (let i = 0; i < t.length; i++) {
      const loss = exampleLoss[i] as number
      if (!Number.isFinite(loss)) continue
      const at = this.#width * Math.floor((BIN_COUNT * (t[i] as number)) / this.#timestepCount)
      this.#sums[at]! += 1
      this.#sums[at + 1]! += loss
      for (let h = 0; h < headCount; h++) this.#sums[at + 2 + h]! += perHead[i * headCount + h] as number
      const head = chosen[i] as number
      if (head >= 0) this.#sums[at + 2 + headCount + head]! += 1
    }
  }

  /** What was collected; begins anew. */
  take(): LossByBin {
    const sums = this.#sums
    this.#sums = new Float64Array(sums.length)
    const column = (k: number) => Array.from({ length: BIN_COUNT }, (_, bin) => sums[bin * this.#width + k]!)
    const count = column(0)
    const mean = (k: number) =>
      column(k).map((sum, bin) =>
        count[bin] === 0 || !Number.isFinite(sum) ? null : rounded(sum / count[bin]!),
      )
    const headCount = this.#heads.length
    const perName = <V>(of: (k: number) => V) =>
      Object.fromEntries(this.#heads.map((name, h) => [name, of(2 + h)])) as Record<Head, V>
    const chosen = perName((k) => column(k + headCount))
    const choosesHeads = Object.values(chosen).some((counts) => counts.some((times) => times > 0))
    return {
      count,
      loss: mean(1),
      ...(headCount > 1 && { perHead: perName(mean) }),
      ...(headCount > 1 && choosesHeads && { chosen }),
    }
  }

  /** The sums so far, for a checkpoint. */
  state(): JsonValue {
    return Array.from(this.#sums, (sum) => (Number.isFinite(sum) ? sum : null))
  }

  /** Puts sums back; those of a checkpoint that has none, or of other heads, are left at zero. */
  restore(state: JsonValue | undefined): void {
    if (!Array.isArray(state) || state.length !== this.#sums.length) return
    this.#sums = Float64Array.from(state, (sum) => (typeof sum === 'number' ? sum : Number.NaN))
  }
}

function rounded(value: number): number {
  return Number(value.toPrecision(5))
}
