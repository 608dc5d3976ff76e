import { readFileSync } from 'node:fs'
import { expect } from 'chai'
import { native } from '../lib/native.ts'
import { ALL_HEADS } from '../lib/prediction/heads.ts'

const source = (path: string) => readFileSync(new URL(path, import.meta.url), 'utf8')

describe('The border', () => {
  it('exports from native code exactly the functions that TypeScript declares', () => {
    const declaration = /export interface Addon \{([\s\S]*?)\n\}/.exec(source('../lib/native.ts'))?.[1] ?? ''
    const declared = [...declaration.matchAll(/^ {2}(\w+)\(/gm)].map((match) => match[1])
    expect(Object.keys(native()).sort()).to.deep.equal(declared.sort())
  })

  it('knows Node only in native/bindings', () => {
    const cmake = source('../CMakeLists.txt')
    const files = [...cmake.matchAll(/^ +native\/[\w/]+\.cpp/gm)].map((match) => match[0].trim())
    expect(files).to.not.be.empty
    for (const file of files.filter((name) => !name.startsWith('native/bindings/'))) {
      expect(source(`../${file}`), file).to.not.match(/napi\.h|bindings\//)
    }
  })

  it('lists heads in the same order on both sides', () => {
    const names = /kHeadNames = \{(.*?)\}/.exec(source('../native/prediction/head.h'))?.[1]
    expect(names).to.equal(ALL_HEADS.map((head) => JSON.stringify(head)).join(', '))
  })
})
