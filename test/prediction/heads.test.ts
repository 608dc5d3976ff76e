import { readFileSync } from 'node:fs'
import { expect } from 'chai'
import { ALL_HEADS, HEADS } from '../../lib/prediction/heads.ts'

describe('HEADS', () => {
  it('are xStart, v, eps, in this order, and then xPrev and F, which stand alone', () => {
    expect(HEADS).to.deep.equal(['xStart', 'v', 'eps'])
    expect(ALL_HEADS).to.deep.equal(['xStart', 'v', 'eps', 'xPrev', 'F'])
  })

  it('have the names and the order of native/prediction/head.h', () => {
    const header = readFileSync(new URL('../../native/prediction/head.h', import.meta.url), 'utf8')
    const names = /kHeadNames = \{([^}]*)\}/.exec(header)![1]!
    expect([...names.matchAll(/"(\w+)"/g)].map((match) => match[1])).to.deep.equal(ALL_HEADS)
  })
})
