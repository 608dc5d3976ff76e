// At load: where the addon and its LibTorch are, and whether they still fit these sources.
import { readFileSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { SetupError } from '../errors.ts'
import { fingerprint } from './fingerprint.ts'
import { describeRule, type LibtorchRule, readVersion } from './libtorch.ts'
import { addonFolder, cacheHome, packageRoot } from './paths.ts'

/** addon.json, written beside trislot.node once the addon has been loaded in a child process. */
export interface AddonRecord {
  readonly format: 1
  readonly fingerprint: string
  readonly bytes: number
  readonly sha256: string
  readonly libtorchRoot: string
  readonly libtorchVersion: string
  readonly cuda: boolean
  readonly rule: LibtorchRule
  /** Node that loaded the addon in a child process, and when. */
  readonly provedWith: string
  readonly provedAt: string
  readonly compiler: string
}

/** The addon to load and the LibTorch it was built for. */
export interface LocatedAddon {
  readonly addonFile: string
  readonly libtorchRoot: string
  readonly libtorchVersion: string
  readonly rule: string
}

/**
 * Finds the addon that `trislot setup` built for these very sources, and checks that its LibTorch is still the one that it
 * was built against. Reads a few small files; writes nothing. Throws a SetupError that names the remedy.
 */
export function locateAddon(
  root: string = packageRoot(),
  home: string = cacheHome(),
): LocatedAddon & { readonly record: AddonRecord } {
  const folder = addonFolder(home, fingerprint(root))
  const addonFile = join(folder, 'trislot.node')
  const record = readRecord(folder)
  if (record === undefined) {
    throw new SetupError(
      `trislot: expected a native addon built from these sources in ${folder}, got none; run: npx trislot setup`,
    )
  }
  const bytes = statSync(addonFile, { throwIfNoEntry: false })?.size
  if (bytes !== record.bytes) {
    throw new SetupError(
      `trislot: expected ${addonFile} to have ${record.bytes} bytes, got ${bytes ?? 'no file'}; run: npx trislot setup --force`,
    )
  }
  const version = readVersion(record.libtorchRoot)
  if (version !== record.libtorchVersion) {
    throw new SetupError(
      `trislot: expected LibTorch ${record.libtorchVersion}, against which the addon was built, at ${record.libtorchRoot} ` +
        `(${describeRule(record.rule)}), got ${version ?? 'none'}; run: npx trislot setup`,
    )
  }
  return { addonFile, libtorchRoot: record.libtorchRoot, libtorchVersion: version, rule: record.rule, record }
}

/** Reads addon.json; undefined when there is none, or one of another format. */
export function readRecord(folder: string): AddonRecord | undefined {
  try {
    const record = JSON.parse(readFileSync(join(folder, 'addon.json'), 'utf8')) as AddonRecord
    return record.format === 1 ? record : undefined
  } catch {
    return undefined
  }
}
