// A command's options from its schema: names in kebab-case, values from text, help.
import { parseArgs } from 'node:util'
import type { z } from 'zod'
import { argumentError } from '../check.ts'
import { checkOptions, kindOf, type OptionShape, unknownOption } from '../options.ts'
import { UsageError } from './usage.ts'

/** `batchSize` to `batch-size`. */
export function kebab(key: string): string {
  return key.replaceAll(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)
}

/** A text of the library with options as the command line has them: `--batch-size` for batchSize, `expected --seed to be` for `expected seed to be`. */
export function inOptionNames(text: string, shape: OptionShape): string {
  const keys = Object.keys(shape)
  const long = keys.filter((key) => /[A-Z]/.test(key)) // which are no words of English
  const option = (key: string): string => `--${kebab(key)}`
  return text
    .replace(new RegExp(`(?<=expected |; )(${keys.join('|')})(?= to (be|have) )`, 'g'), option)
    .replace(new RegExp(`(?<![\\w"'/.=-])(${long.join('|') || '$.'})(?![\\w=/])`, 'g'), option)
}

/** Work of the library for a command: its errors name the command, and options as the command line has them. */
export async function inWordsOf<T>(call: string, shape: OptionShape, work: () => T | Promise<T>): Promise<T> {
  try {
    return await work()
  } catch (error) {
    if (error instanceof Error)
      error.message = inOptionNames(error.message.replace(/^run(Classifier)?: /, `${call}: `), shape)
    throw error
  }
}

/** Shorter names that are understood too. */
const ALIASES: Record<string, string> = {
  attention: 'attentionResolutions',
  ema: 'emaRates',
  predict: 'combine',
  'res-blocks': 'resBlockCount',
  warmup: 'warmupSteps',
}

/** What a command line says. */
export interface Parsed<S extends OptionShape> {
  readonly options: z.output<z.ZodObject<S>>
  /** The options as they were given, without defaults. */
  readonly given: Record<string, unknown>
  readonly wantsHelp: boolean
}

/**
 * Reads a command line by a schema. Lists are given with commas, switches as `--flip` or `--no-flip`.
 *
 * @param base - values that the command line overrides, from a configuration file
 * @param words - keys of the options that words without a name are taken for, in this order; a list takes all that follow
 * @throws UsageError that names everything that is wrong, with the nearest name for an unknown option
 */
export function parseOptions<S extends OptionShape>(
  call: string,
  argv: readonly string[],
  shape: S,
  base: (given: Record<string, unknown>) => Record<string, unknown> = (given) => given,
  words: readonly (keyof S & string)[] = [],
): Parsed<S> {
  const keys = new Map(Object.keys(shape).map((key) => [kebab(key), key]))
  for (const [alias, key] of Object.entries(ALIASES)) if (key in shape) keys.set(alias, key)
  const table: Record<string, { type: 'boolean' | 'string' }> = { help: { type: 'boolean' } }
  for (const [name, key] of keys) {
    const isSwitch = kindOf(shape[key] as z.ZodType).type === 'boolean'
    table[name] = { type: isSwitch ? 'boolean' : 'string' }
    if (isSwitch) table[`no-${name}`] = { type: 'boolean' }
  }
  const problems: string[] = []
  const given: Record<string, unknown> = {}
  let wantsHelp = false
  const { tokens } = parseArgs({
    args: [...argv],
    options: table,
    strict: false,
    allowPositionals: true,
    tokens: true,
  })
  let unknownAt = -2
  for (const token of tokens) {
    // The word after an unknown option is most likely its value.
    if (token.kind === 'positional' && token.index === unknownAt + 1) continue
    const isList = (key: keyof S) => kindOf(shape[key] as z.ZodType).type === 'list'
    const word = words.find((key) => given[key] === undefined || isList(key))
    if (token.kind === 'positional' && word !== undefined)
      given[word] = isList(word)
        ? [...((given[word] as string[] | undefined) ?? []), token.value]
        : token.value
    else if (token.kind === 'positional')
      problems.push(`expected options only, got ${JSON.stringify(token.value)}`)
    if (token.kind !== 'option') continue
    const { name, value } = token
    const key = keys.get(name) ?? (name.startsWith('no-') ? keys.get(name.slice(3)) : undefined)
    if (name === 'help' || token.rawName === '-h') wantsHelp = true
    else if (!table[name] || !key) {
      const known = [...keys.keys(), 'help'].map((other) => `--${other}`)
      problems.push(unknownOption(token.rawName, known))
      unknownAt = token.index
    } else if (table[name].type === 'boolean') {
      if (value !== undefined)
        problems.push(`expected --${name} without a value, got ${JSON.stringify(value)}`)
      given[key] = keys.has(name) // else it is the --no- form
    } else if (value === undefined || (value.startsWith('--') && !token.inlineValue)) {
      problems.push(`expected --${name} to be given a value, got none`)
    } else given[key] = fromText(value, shape[key] as z.ZodType)
  }
  if (wantsHelp) return { options: {} as z.output<z.ZodObject<S>>, given, wantsHelp }
  try {
    const nameOf = (key: string): string =>
      words.includes(key) ? `${kebab(key).toUpperCase()} (--${kebab(key)})` : `--${kebab(key)}`
    const options = checkOptions(call, shape, base(given), nameOf)
    if (problems.length === 0) return { options, given, wantsHelp }
  } catch (error) {
    if (!(error instanceof RangeError)) throw error
    problems.push(error.message.slice(call.length + 2))
  }
  throw new UsageError(`${call}: ${problems.join('\n  ')}\n\nSee ${call} --help`)
}

/** Text stays text where it is no number, so that the schema's message shows it. */
function fromText(value: string, schema: z.ZodType): unknown {
  const { type } = kindOf(schema)
  const number = (part: string): number | string => {
    const parsed = part.trim() === '' ? Number.NaN : Number(part)
    return Number.isNaN(parsed) ? part : parsed
  }
  if (type === 'number') return number(value)
  if (type === 'numberList') return value.trim() === '' ? [] : value.split(',').map(number)
  if (type === 'list') return value.split(',').map((part) => part.trim())
  return value
}

/** The text of `--help`. */
export function helpText(title: string, usage: string, shape: OptionShape, notes = ''): string {
  const groups = new Map<string, string[]>()
  for (const [key, schema] of Object.entries(shape)) {
    const { type, words, isRequired, standard, description, group } = kindOf(schema as z.ZodType)
    const metavar = {
      boolean: '',
      number: ' N',
      numberList: ' N,N',
      list: ' A,B',
      enum: ' WORD',
      string: ' TEXT',
    }[type]
    const isOnByDefault = type === 'boolean' && standard === true
    const name = `--${isOnByDefault ? '[no-]' : ''}${kebab(key)}${metavar}`
    const facts = [
      ...(words.length > 0 ? [words.join(' | ')] : []),
      ...(isRequired ? ['required'] : []),
      ...(standard !== undefined && type !== 'boolean' ? [`default ${String(standard)}`] : []),
      ...(isOnByDefault ? ['on by default'] : []),
    ]
    const text = `${inOptionNames(description, shape)}${facts.length > 0 ? ` (${facts.join('; ')})` : ''}`
    const list = groups.get(group) ?? []
    groups.set(group, list)
    list.push(wrapped(name, text))
  }
  const parts = [...groups].map(([group, list]) => `${group ? `${group}:\n` : ''}${list.join('\n')}`)
  return `${title}\n\nUsage: ${usage}\n\n${parts.join('\n\n')}${notes ? `\n\n${notes}` : ''}`
}

function wrapped(name: string, text: string): string {
  const indent = 30
  const width = 100 - indent
  const lines: string[] = []
  let line = ''
  for (const word of text.split(' ')) {
    if (line && line.length + 1 + word.length > width) {
      lines.push(line)
      line = word
    } else line = line ? `${line} ${word}` : word
  }
  lines.push(line)
  const head = `  ${name}`.padEnd(indent)
  const first = head.length > indent ? `${head}\n${' '.repeat(indent)}` : head
  return first + lines.join(`\n${' '.repeat(indent)}`)
}

/** Exactly one of two options must be given. */
export function exactlyOne(call: string, given: Record<string, unknown>, a: string, b: string): void {
  if ((given[a] === undefined) !== (given[b] === undefined)) return
  const got = given[a] === undefined ? 'neither' : 'both'
  throw new UsageError(argumentError(call, `one of --${kebab(a)} and --${kebab(b)}`, 'given', got).message)
}
