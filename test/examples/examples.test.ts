import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { dirname, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import { expect } from 'chai'

const root = resolve(dirname(fileURLToPath(import.meta.url)), '../..')
const read = (path: string) => readFileSync(resolve(root, path), 'utf8')
const examples = readdirSync(resolve(root, 'examples')).filter((name) => name.endsWith('.ts'))
const pages = [
  'README.md',
  'CONTRIBUTING.md',
  'docs/design.md',
  'docs/from-guided-diffusion.md',
  'docs/install.md',
  'docs/math.md',
  'data/README.md',
]

describe('Examples', () => {
  it('are six, one question a file', () => {
    expect(examples.sort()).to.deep.equal([
      'measure-timestep-loss.ts',
      'sample.ts',
      'super-resolution.ts',
      'train-slots.ts',
      'train-three-heads.ts',
      'train-uniform.ts',
    ])
    for (const name of examples) expect(read(`examples/${name}`), name).to.match(/^\/\/ [A-Z][^\n?]*\?/)
  })

  it('import nothing of this library but its public entry', () => {
    for (const name of examples) {
      const sources = [...read(`examples/${name}`).matchAll(/from '([^']+)'/g)].map((match) => match[1] ?? '')
      const foreign = sources.filter((source) => source !== '../lib/index.ts' && !source.startsWith('node:'))
      expect(foreign, name).to.deep.equal([])
    }
  })

  it('fit on two screens', () => {
    for (const name of examples) expect(read(`examples/${name}`).split('\n').length, name).to.be.at.most(100)
  })

  it('write into a folder of their own name', () => {
    for (const name of examples) {
      expect(read(`examples/${name}`)).to.include(`const OUT = 'runs/examples/${name.replace('.ts', '')}'`)
    }
  })

  it('are all named in the README', () => {
    for (const name of examples) expect(read('README.md')).to.include(`(examples/${name})`)
  })
})

describe('Pages', () => {
  it('link to files that exist', () => {
    for (const page of pages) {
      const targets = [...read(page).matchAll(/\]\(([^)#\s]+)[^)]*\)/g)].map((match) => match[1] ?? '')
      const local = targets.filter((target) => !/^https?:/.test(target))
      const missing = local.filter((target) => !existsSync(resolve(root, dirname(page), target)))
      expect(missing, page).to.deep.equal([])
    }
  })

  it('name only npm scripts that exist', () => {
    const { scripts } = JSON.parse(read('package.json')) as { scripts: Record<string, string> }
    for (const page of pages) {
      const named = [...read(page).matchAll(/npm run (?:--silent )?([\w:-]+)/g)].map(
        (match) => match[1] ?? '',
      )
      const unknown = named.filter((name) => !(name in scripts))
      expect(unknown, page).to.deep.equal([])
    }
  })

  it('show options of train that exist', async () => {
    const { RUN_SHAPE } = await import('../../lib/training/run-config.ts')
    const table = read('README.md').split('Most used options')[1]?.split('Unknown options')[0] ?? ''
    const named = [...table.matchAll(/--([a-z][a-z0-9-]+)/g)].map(([, option = '']) =>
      option.replaceAll(/-(\w)/g, (_, letter: string) => letter.toUpperCase()),
    )
    expect(named).to.not.be.empty
    expect(named.filter((name) => !(name in RUN_SHAPE))).to.deep.equal([])
  })
})
