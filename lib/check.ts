// The vocabulary of argument checks. Every message reads
// `<call>: expected <name> to be <what>, got <value>`, then the way out if there is one.

/** Shows any value in an error message, short enough for one line. */
export function show(value: unknown): string {
  if (typeof value === 'string') return JSON.stringify(value.length > 80 ? `${value.slice(0, 77)}...` : value)
  if (typeof value === 'number' || typeof value === 'bigint' || value == null) return String(value)
  if (ArrayBuffer.isView(value)) {
    return `${value.constructor.name}(${(value as unknown as ArrayLike<unknown>).length ?? value.byteLength})`
  }
  if (Array.isArray(value)) {
    const head = value.slice(0, 8).map(show).join(', ')
    return `[${head}${value.length > 8 ? `, … ${value.length} in all` : ''}]`
  }
  if (typeof value === 'function') return `a function${value.name ? ` ${value.name}` : ''}`
  if (typeof value === 'object') {
    const name = value.constructor?.name
    return name && name !== 'Object' ? `a ${name}` : showObject(value)
  }
  return String(value)
}

function showObject(value: object): string {
  try {
    return JSON.stringify(value).slice(0, 80)
  } catch {
    return 'an object' // it refers to itself or holds what JSON cannot
  }
}

/** Whether a value is an object with fields, as JSON has them. */
export function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

/** A wrong value (RangeError) or, when the kind itself is wrong, a TypeError. */
export function argumentError(
  call: string,
  name: string,
  expected: string,
  got: unknown,
  options: { kind?: 'type' | 'range'; hint?: string } = {},
): Error {
  const message = `${call}: expected ${name} to be ${expected}, got ${show(got)}${options.hint ? `; ${options.hint}` : ''}`
  return options.kind === 'type' ? new TypeError(message) : new RangeError(message)
}

/** Work with the value of one argument: what it finds wrong is told as that argument's. */
export function ofArgument<T>(
  call: string,
  name: string,
  expected: string,
  value: unknown,
  work: () => T,
): T {
  try {
    return work()
  } catch (error) {
    if (!(error instanceof RangeError || error instanceof TypeError)) throw error
    throw argumentError(call, name, expected, value, { hint: error.message.replace(/^[\w.]+: /, '') })
  }
}

/** Checks a whole number in [min, max]. */
export function checkInteger(
  call: string,
  name: string,
  value: unknown,
  min: number,
  max: number = Number.MAX_SAFE_INTEGER,
): asserts value is number {
  const what = max === Number.MAX_SAFE_INTEGER ? `an integer >= ${min}` : `an integer in [${min}, ${max}]`
  if (typeof value !== 'number') throw argumentError(call, name, what, value, { kind: 'type' })
  if (!Number.isSafeInteger(value) || value < min || value > max) throw argumentError(call, name, what, value)
}

/** Checks a finite number in [min, max]. */
export function checkNumber(
  call: string,
  name: string,
  value: unknown,
  min = Number.NEGATIVE_INFINITY,
  max = Number.POSITIVE_INFINITY,
): asserts value is number {
  const what =
    min === Number.NEGATIVE_INFINITY && max === Number.POSITIVE_INFINITY
      ? 'a finite number'
      : max === Number.POSITIVE_INFINITY
        ? `a number >= ${min}`
        : `a number in [${min}, ${max}]`
  if (typeof value !== 'number') throw argumentError(call, name, what, value, { kind: 'type' })
  if (!Number.isFinite(value) || value < min || value > max) throw argumentError(call, name, what, value)
}

/** Checks that a value is one of some words. */
export function checkOneOf<T extends string>(
  call: string,
  name: string,
  value: unknown,
  words: readonly T[],
): asserts value is T {
  if (typeof value !== 'string' || !words.includes(value as T)) {
    throw argumentError(call, name, `one of ${words.join(', ')}`, value, {
      kind: typeof value === 'string' ? 'range' : 'type',
    })
  }
}

/** Checks a text that is not empty, such as a path. */
export function checkText(call: string, name: string, value: unknown): asserts value is string {
  const kind = typeof value === 'string' ? 'range' : 'type'
  if (kind === 'type' || value === '')
    throw argumentError(call, name, 'a text that is not empty', value, { kind })
}

/** Checks that a value is one of the library's objects, which hold a native handle; a promise of one is not. */
export function checkObject(call: string, name: string, value: unknown, kind: string): void {
  if (typeof value === 'object' && value !== null && 'handle' in value) return
  const hint = value instanceof Promise ? { hint: 'await it first' } : {}
  throw argumentError(call, name, `a ${kind}`, value, { kind: 'type', ...hint })
}

/** Checks timesteps once, at the public boundary; native code trusts them afterwards. */
export function checkTimesteps(
  call: string,
  t: unknown,
  timestepCount: number,
  count?: number,
): asserts t is Int32Array {
  if (!(t instanceof Int32Array))
    throw argumentError(call, 't', 'an Int32Array of timesteps', t, { kind: 'type' })
  if (count !== undefined && t.length !== count) {
    throw argumentError(call, 't', `${count} timesteps, one an example`, t)
  }
  const bad = t.findIndex((value) => value < 0 || value >= timestepCount)
  if (bad !== -1) throw argumentError(call, `t[${bad}]`, `a timestep in [0, ${timestepCount - 1}]`, t[bad])
}

/** Checks that an array holds no NaN or infinity. */
export function checkFinite(call: string, name: string, values: Float32Array | Float64Array): void {
  for (let i = 0; i < values.length; i++) {
    if (!Number.isFinite(values[i])) throw argumentError(call, `${name}[${i}]`, 'finite', values[i])
  }
}

/** The candidate nearest to a misspelt word (edit distance), or undefined when none is near. */
export function nearest(word: string, candidates: readonly string[]): string | undefined {
  let best: string | undefined
  let bestDistance = Math.max(2, Math.floor(word.length / 3)) + 1
  for (const candidate of candidates) {
    const distance = editDistance(word.toLowerCase(), candidate.toLowerCase())
    if (distance < bestDistance) {
      best = candidate
      bestDistance = distance
    }
  }
  return best
}

function editDistance(a: string, b: string): number {
  let previous = Array.from({ length: b.length + 1 }, (_, j) => j)
  for (let i = 1; i <= a.length; i++) {
    const current = [i]
    for (let j = 1; j <= b.length; j++) {
      const substitution = previous[j - 1]! + (a[i - 1] === b[j - 1] ? 0 : 1)
      current.push(Math.min(substitution, previous[j]! + 1, current[j - 1]! + 1))
    }
    previous = current
  }
  return previous[b.length]!
}

/** Refuses options that do not exist, and names the nearest one that does. */
export function checkKnownOptions(call: string, options: object, known: readonly string[]): void {
  const unknown = Object.keys(options).filter((key) => !known.includes(key))
  if (unknown.length === 0) return
  const parts = unknown.map((key) => {
    const guess = nearest(key, known)
    return guess ? `${key} (did you mean ${guess}?)` : key
  })
  throw new TypeError(
    `${call}: expected options to be among ${known.join(', ')}, got unknown ${parts.join(', ')}`,
  )
}
