/** A command line that is wrong; the exit code is 2. */
export class UsageError extends Error {
  override readonly name = 'UsageError'
}

/** Turns wrong values found before any work began into a usage error. */
export async function asUsage<T>(work: () => T | Promise<T>): Promise<T> {
  try {
    return await work()
  } catch (error) {
    throw usageOf(error)
  }
}

/** A wrong value as a usage error; any other error as it is. */
export function usageOf(error: unknown): unknown {
  if (!(error instanceof RangeError || error instanceof TypeError)) return error
  return new UsageError(error.message, { cause: error })
}
