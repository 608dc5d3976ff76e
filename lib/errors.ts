/** A failure inside the native core: LibTorch, memory, or a use of a disposed handle. */
export class NativeError extends Error {
  override readonly name = 'NativeError'
  /** Stable and machine-readable: `ERR_LIBTORCH`, `ERR_OUT_OF_MEMORY`, `ERR_DISPOSED`, `ERR_NON_FINITE`, `ERR_NATIVE`. */
  readonly code: string

  constructor(message: string, code: string, options?: ErrorOptions) {
    super(message, options)
    this.code = code
  }
}

/** A checkpoint or weight file that cannot be read or does not fit; the lists hold every problem at once. */
export class CheckpointError extends Error {
  override readonly name = 'CheckpointError'
  readonly file: string
  readonly missing: readonly string[]
  readonly unexpected: readonly string[]
  readonly misshapen: readonly string[]

  constructor(
    message: string,
    file: string,
    lists: {
      missing?: readonly string[]
      unexpected?: readonly string[]
      misshapen?: readonly string[]
    } = {},
    options?: ErrorOptions,
  ) {
    super(message, options)
    this.file = file
    this.missing = lists.missing ?? []
    this.unexpected = lists.unexpected ?? []
    this.misshapen = lists.misshapen ?? []
  }
}

/** Images that cannot be found, decoded or used; `file` names the culprit when there is one. */
export class DataError extends Error {
  override readonly name = 'DataError'
  readonly file: string | undefined

  constructor(message: string, file?: string, options?: ErrorOptions) {
    super(message, options)
    this.file = file
  }
}

/** LibTorch or the addon is missing, of another version, or does not load; the message holds the ways out. */
export class SetupError extends Error {
  override readonly name = 'SetupError'
}
