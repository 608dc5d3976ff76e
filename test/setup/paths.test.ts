import { join } from 'node:path'
import { expect } from 'chai'
import { cacheHome, packageRoot } from '../../lib/setup/paths.ts'
import { readJson } from './support.ts'

describe('cacheHome', () => {
  it('is TRISLOT_HOME, else XDG_CACHE_HOME/trislot, else the platform folder', () => {
    const both = { TRISLOT_HOME: '/t', XDG_CACHE_HOME: '/x' }
    expect(cacheHome(both, 'linux', '/home/a')).to.equal('/t')
    expect(cacheHome({ XDG_CACHE_HOME: '/x' }, 'linux', '/home/a')).to.equal('/x/trislot')
    expect(cacheHome({}, 'linux', '/home/a')).to.equal('/home/a/.cache/trislot')
    expect(cacheHome({}, 'darwin', '/Users/a')).to.equal('/Users/a/Library/Caches/trislot')
    expect(cacheHome({ LOCALAPPDATA: 'C:\\L' }, 'win32', 'C:\\a')).to.equal('C:\\L\\trislot')
  })
})

describe('packageRoot', () => {
  it('is the folder of the package.json named trislot', () => {
    expect(readJson(join(packageRoot(), 'package.json'))).to.have.property('name', 'trislot')
  })
})
