import type { JsonValue, StepLosses } from '../timesteps/sampler.ts'

/** A mixture of a network's heads whose own error is trained. */
export interface MixtureLoss {
  /** [N, heads] weights of the heads' predictions of xStart; each row adds up to 1. */
  readonly weight: Float32Array
  /** Factor on the mixture's error in the loss, >= 0. */
  readonly factor: number
}

/** What one training step says about the heads; everything that is left out changes nothing (math.md, eq. 60 to 62). */
export interface HeadDecision {
  /**
   * [N, heads] how much of each head's error enters the loss, with `loss.choose: 'given'`; each row adds up to 1, or is 0
   * throughout, so that the mixture alone trains the heads.
   */
  readonly share?: Float32Array
  /** [N, heads] factors >= 0 on each head's error in `loss.space`, after the choice. */
  readonly headWeight?: Float32Array
  /** Of `loss.choose: 'softmin'`, > 0, relative to the smallest error of the example's heads; 1 by default. */
  readonly temperature?: number
  /** Of `loss.choose: 'relaxed'`, in [0, 1]: the part of the loss that the losing heads divide; 0.1 by default. */
  readonly floor?: number
  /** Adds the error of a mixture of the heads, in `loss.space`, which must not be `own`. */
  readonly mixture?: MixtureLoss
}

/** What a policy says about the heads of a batch with these timesteps at one step of its training. */
export type HeadDecider = (t: Int32Array) => HeadDecision

/**
 * Decides, step by step, how much each head is trained.
 *
 * A policy of your own is an object with `name` and `decide`.
 */
export interface HeadPolicy {
  readonly name: string
  /**
   * What the step says about the heads; a pure function of its arguments and what `observe` has learned.
   *
   * @param t - [N] timesteps of the batch
   */
  decide(t: Int32Array, step: number): HeadDecision
  /** Learns from the losses of a finished step. */
  observe?(losses: StepLosses): void
  /** What `observe` has learned, exactly, for checkpoints. */
  state?(): JsonValue
  /** Puts a state back; throws when it belongs to other options. */
  restore?(state: JsonValue): void
}
