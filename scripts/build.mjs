// npm run build: lib/ to dist/esm and dist/cjs, both with types.
import { execFileSync } from 'node:child_process'
import { readFileSync, rmSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'

const tsc = createRequire(import.meta.url).resolve('typescript/bin/tsc')
rmSync('dist', { recursive: true, force: true })
for (const kind of ['esm', 'cjs']) {
  execFileSync(process.execPath, [tsc, '-p', `tsconfig.${kind}.json`], { stdio: 'inherit' })
}
// The package is of type module, so the CommonJS half says for itself what it is.
writeFileSync('dist/cjs/package.json', '{ "type": "commonjs" }\n')

// tsc makes require() of import() there, but vega is an ES module only, which require() takes from Node 22 on.
const drawing = 'dist/cjs/report/figure/figure-svg.js'
const text = readFileSync(drawing, 'utf8')
const required = "Promise.resolve().then(() => __importStar(require('vega')))"
if (!text.includes(required)) throw new Error(`expected ${drawing} to load vega, got no ${required}`)
writeFileSync(drawing, text.replace(required, "import('vega')"))
