// Options of runs and commands: one zod schema gives command-line options, help, checks of config.json, and types.
import { z } from 'zod'
import { isObject, nearest, show } from './check.ts'
import { DEVICE, type Device } from './device.ts'

/** A schema of flat options. */
export type OptionShape = z.ZodRawShape

/** Whole number; the text of its error is what the message says it should be. */
export function integer(min: number, max: number = Number.MAX_SAFE_INTEGER) {
  const what = max === Number.MAX_SAFE_INTEGER ? `an integer >= ${min}` : `an integer in [${min}, ${max}]`
  return z.number(what).int(what).min(min, what).max(max, what)
}

/** Number in [min, max]. */
export function decimal(min: number, max: number = Number.POSITIVE_INFINITY) {
  const what = max === Number.POSITIVE_INFINITY ? `a number >= ${min}` : `a number in [${min}, ${max}]`
  const number = z.number(what).min(min, what)
  return max === Number.POSITIVE_INFINITY ? number : number.max(max, what)
}

/** Number greater than 0. */
export function positive() {
  return z.number('a number > 0').positive('a number > 0')
}

/** One of some words. */
export function oneOf<const W extends readonly [string, ...string[]]>(words: W) {
  return z.enum(words, `one of ${words.join(', ')}`)
}

/** Text that is not empty. */
export function text(what = 'a text') {
  return z.string(what).min(1, what)
}

/** On or off. */
export function flag() {
  return z.boolean('true or false')
}

/** cpu, cuda or cuda:N. */
export function device() {
  return z.string().regex(DEVICE, 'cpu, cuda or cuda:N') as unknown as z.ZodType<Device>
}

/** Non-empty list of numbers. */
export function numbers(what: string) {
  return z.array(z.number('a number'), what)
}

/** What kind of value an option takes, for reading it from text. */
export interface OptionKind {
  readonly type: 'number' | 'string' | 'boolean' | 'enum' | 'numberList' | 'list'
  readonly words: readonly string[]
  readonly isRequired: boolean
  readonly standard: unknown
  readonly description: string
  readonly group: string
}

/** Looks through `optional` and `default` of a schema. */
export function kindOf(schema: z.core.$ZodType): OptionKind {
  const meta = z.globalRegistry.get(schema) as { description?: string; group?: string } | undefined
  let inner = schema
  let isRequired = true
  let standard: unknown
  let description = meta?.description
  let group = meta?.group
  for (;;) {
    const def = inner._zod.def as { type: string; innerType?: z.core.$ZodType; defaultValue?: unknown }
    if ((def.type !== 'optional' && def.type !== 'default') || !def.innerType) break
    isRequired = false
    if (def.type === 'default') standard = def.defaultValue
    inner = def.innerType
    const below = z.globalRegistry.get(inner) as typeof meta
    description ??= below?.description
    group ??= below?.group
  }
  interface Definition {
    readonly type: string
    readonly entries?: Record<string, string>
    readonly element?: z.core.$ZodType
  }
  const def = inner._zod.def as Definition
  const words = Object.values(def.entries ?? (def.element?._zod.def as Definition | undefined)?.entries ?? {})
  const type =
    def.type === 'array' ? (def.element?._zod.def.type === 'number' ? 'numberList' : 'list') : def.type
  return {
    type: type as OptionKind['type'],
    words,
    isRequired,
    standard,
    description: description ?? '',
    group: group ?? '',
  }
}

/**
 * Checks options against a schema: unknown names, missing ones and wrong values, all in one message.
 *
 * @param call - what the message begins with
 * @param nameOf - how a key is shown, `--batch-size` on a command line
 */
export function checkOptions<S extends OptionShape>(
  call: string,
  shape: S,
  options: object,
  nameOf: (key: string) => string = (key) => key,
): z.output<z.ZodObject<S>> {
  if (!isObject(options)) {
    throw new TypeError(`${call}: expected options to be an object, got ${show(options)}`)
  }
  const values = options
  const known = Object.keys(shape)
  const problems = Object.keys(values)
    .filter((key) => !known.includes(key))
    .map((key) => unknownOption(nameOf(key), known.map(nameOf)))
  const result = z.object(shape).safeParse(options)
  for (const { path, message } of result.error?.issues ?? []) {
    const key = String(path[0])
    const value = path.reduce<unknown>(
      (at, part) => (at as Record<PropertyKey, unknown> | undefined)?.[part],
      options,
    )
    const name = path.slice(1).reduce<string>((at, part) => `${at}[${String(part)}]`, nameOf(key))
    const { words } = kindOf(shape[key] as z.core.$ZodType)
    const guess = typeof value === 'string' && value.length > 2 ? nearest(value, words) : undefined
    problems.push(
      value === undefined
        ? `expected ${name}, ${message}, to be given, got none`
        : `expected ${name} to be ${message}, got ${show(value)}${guess === undefined ? '' : `; did you mean ${guess}?`}`,
    )
  }
  const distinct = [...new Set(problems)]
  if (distinct.length > 0) throw new RangeError(`${call}: ${distinct.join('\n  ')}`)
  return (result as { data: z.output<z.ZodObject<S>> }).data
}

/** More names than these are no help in a message. */
const MOST_LISTED = 20

/** The words for an option that does not exist. */
export function unknownOption(name: string, known: readonly string[]): string {
  const guess = nearest(name, known)
  return guess
    ? `expected an option that exists, got unknown ${name} (did you mean ${guess}?)`
    : `expected an option that exists, got unknown ${name}${known.length <= MOST_LISTED ? `; known are ${known.join(', ')}` : ''}`
}
