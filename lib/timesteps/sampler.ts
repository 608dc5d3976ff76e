import { checkInteger } from '../check.ts'
import type { Head } from '../prediction/heads.ts'

/** What JSON can hold; learned state of a sampler is kept in checkpoints as such. */
export type JsonValue =
  | null
  | boolean
  | number
  | string
  | readonly JsonValue[]
  | { readonly [key: string]: JsonValue }

/** Timesteps of a batch and how much each example counts; both arrays have shape [count]. */
export interface TimestepDraw {
  /** In [0, T). */
  readonly t: Int32Array
  /** Positive factors on the loss of each example. */
  readonly weight: Float32Array
}

/** What a finished training step says to samplers, and to policies of heads, that learn. */
export interface StepLosses {
  /** Timesteps of the batch, [N]. */
  readonly t: Int32Array
  /** The value that is back-propagated for each example, before its weight, [N]. */
  readonly loss: Float32Array
  /** Mean squared error of each head in its own unit, [N, heads], row-major. */
  readonly perHead: Float32Array
  /** The columns of `perHead`. */
  readonly heads: readonly Head[]
  /** Column of the head with the largest share in the loss, -1 where several have it, [N]. */
  readonly chosen?: Int32Array
  /** Mean over pixels of two heads' errors of v, multiplied, [N, heads, heads]; of several heads only. */
  readonly errorProducts?: Float32Array
  /** Mean over pixels of each head's error of xStart, [N, heads]; of several heads only. */
  readonly meanError?: Float32Array
}

/**
 * Decides which timesteps a batch trains, and how much each example counts.
 *
 * A sampler of your own is an object with `name` and `draw`.
 */
export interface TimestepSampler {
  readonly name: string
  /**
   * True when weights make up for the law of the draws: the expected weighted loss is then the mean loss over
   * all timesteps that are ever drawn, each counting the same (math.md, eq. 17).
   */
  readonly unbiased?: boolean
  /** Draws for a training step; a pure function of seed, step and what `observe` has learned. */
  draw(count: number, step: number): TimestepDraw
  /** Learns from the losses of a finished step. */
  observe?(losses: StepLosses): void
  /** What `observe` has learned, exactly, for checkpoints. */
  state?(): JsonValue
  /** Puts a state back; throws when it belongs to other options. */
  restore?(state: JsonValue): void
}

/** Checks the arguments of `draw`; steps are 32-bit words of the random key. */
export function checkDraw(call: string, count: number, step: number): void {
  checkInteger(call, 'count', count, 1)
  checkInteger(call, 'step', step, 0, 2 ** 32 - 1)
}
