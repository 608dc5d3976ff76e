// Run by pack-check in an empty project that has installed the tarball.
import { createRequire } from 'node:module'
import * as esm from 'trislot'

const cjs = createRequire(import.meta.url)('trislot')
console.log(`${Object.keys(esm).length} exports by import, ${Object.keys(cjs).length} by require`)
