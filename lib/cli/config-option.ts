// --config: the options of a run as another's, with what they had settled of one another left to be settled again.
import { readFileSync } from 'node:fs'
import type { z } from 'zod'
import { argumentError } from '../check.ts'
import { isDefaultNumbers, type TimestepConfig } from '../training/timestep-options.ts'
import { parseOptions } from './options.ts'

type Fields = Record<string, unknown>

/** `parseOptions` of a command that takes `--config`: what that file says is given, too, and overridden by the command line. */
export function parseWithConfig<S extends Record<string, z.ZodType>>(
  call: string,
  argv: readonly string[],
  shape: S,
) {
  let all: Fields = {}
  const parsed = parseOptions(call, argv, shape, (given) => {
    all = given.config === undefined ? given : overridden(call, String(given.config), given)
    return all
  })
  return { ...parsed, given: all }
}

function overridden(call: string, file: string, given: Fields): Fields {
  const config = readConfig(call, file)
  for (const name of ['preset', 'recipe']) {
    if (given[name] === undefined || given[name] === config[name]) continue
    throw argumentError(call, `--${name}`, 'absent when --config is given, whose options are all settled', given[name]) // biome-ignore format: short
  }
  if (
    given.slots !== undefined &&
    isUnset(given, 'slotRule', 'lossCurve') &&
    config.slotEdges !== undefined
  ) {
    const what = `beside --slot-rule or --loss-curve, because ${file} says where its slots end, not why`
    throw argumentError(call, '--slots', what, given.slots)
  }
  const dropped = new Set(settledAnew(config, given))
  return { ...Object.fromEntries(Object.entries(config).filter(([key]) => !dropped.has(key))), ...given }
}

/** Options of a config that follow from, or go with, options that the command line gives otherwise. */
function settledAnew(config: Fields, given: Fields): string[] {
  const gives = (...keys: string[]): boolean => !isUnset(given, ...keys)
  const changes = (key: string): boolean => gives(key) && String(given[key]) !== String(config[key])
  const isSingle = gives('heads') && !String(given.heads).includes(',')
  const isOtherLoss = gives('mix', 'choose') || isSingle
  const isOtherProcess = ['timestepCount', 'respacing', 'sigmaData', 'size', 'data'].some(changes)
  const hasOwn = (numbers: 'samplerNumbers' | 'weightingNumbers'): boolean =>
    !isDefaultNumbers(config as unknown as TimestepConfig, numbers)
  const isOtherRun = changes('run')
  const rules: [isSettledAnew: boolean, keys: string[]][] = [
    [isOtherLoss || gives('heads'), ['combine']],
    [isOtherLoss, ['mix', 'mixSteps', 'choose', 'compare']],
    [isOtherLoss && config.mix !== undefined, ['space']],
    [changes('sampler'), ['samplerNumbers', 'uniformShare', 'stream', 'slots', 'slotEdges', 'slotPlan', 'slotRefresh', 'slotRefreshRule']],
    [isOtherProcess && !hasOwn('samplerNumbers'), ['samplerNumbers']],
    [changes('weighting') || (isOtherProcess && !hasOwn('weightingNumbers')), ['weightingNumbers']],
    [gives('slotRule', 'lossCurve'), ['slots', 'slotEdges']],
    [gives('slotEdges'), ['slots']],
    [gives('batchSize', 'emaHalfLife') && (gives('emaHalfLife') || config.emaHalfLife !== undefined), ['emaRates']],
    [gives('batchSize', 'beta2HalfLife') && (gives('beta2HalfLife') || config.beta2HalfLife !== undefined), ['beta2']],
    [gives('emaRates'), ['emaHalfLife']],
    [gives('beta2'), ['beta2HalfLife']],
    // Those of the run itself stay: it goes on.
    [gives('steps') && isOtherRun && config.lrSteps === config.steps, ['lrSteps']],
    [gives('steps') && isOtherRun && config.mixSteps === config.steps, ['mixSteps']],
  ] // biome-ignore format: one rule a line
  return rules.flatMap(([isSettledAnew, keys]) => (isSettledAnew ? keys : []))
}

function isUnset(given: Fields, ...keys: readonly string[]): boolean {
  return keys.every((key) => given[key] === undefined)
}

/** The options in a run's config.json. */
function readConfig(call: string, file: string): Fields {
  try {
    return { config: file, ...(JSON.parse(readFileSync(file, 'utf8')) as object) }
  } catch (error) {
    throw argumentError(call, '--config', 'a JSON file', file, { hint: (error as Error).message })
  }
}
