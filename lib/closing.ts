/** What ends the use of resources, in the order in which they were opened. */
export type Closing = (() => unknown)[]

/** Does work that opens resources, and closes them in the opposite order, also those of work that fails half-way. */
export async function closingAfter<T>(work: (closing: Closing) => Promise<T>): Promise<T> {
  const closing: Closing = []
  try {
    return await work(closing)
  } finally {
    for (const close of closing.reverse()) await close()
  }
}
