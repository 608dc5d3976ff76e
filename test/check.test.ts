import { expect } from 'chai'
import {
  argumentError,
  checkFinite,
  checkInteger,
  checkKnownOptions,
  checkNumber,
  checkOneOf,
  checkTimesteps,
  nearest,
  show,
} from '../lib/check.ts'

describe('argument checks', () => {
  it('say call, name, what was expected, what was given, and the way out', () => {
    expect(argumentError('f', 'x', 'even', 3).message).to.equal('f: expected x to be even, got 3')
    expect(argumentError('f', 'x', 'even', 3, { hint: 'use 4' }).message).to.equal(
      'f: expected x to be even, got 3; use 4',
    )
  })

  it('throw a RangeError for a wrong value and a TypeError for a wrong kind', () => {
    expect(argumentError('f', 'x', 'even', 3)).to.be.an.instanceof(RangeError)
    expect(argumentError('f', 'x', 'even', '3', { kind: 'type' })).to.be.an.instanceof(TypeError)
  })

  it('checkInteger takes whole numbers in its range', () => {
    for (const value of [1, 5]) expect(() => checkInteger('f', 'n', value, 1, 5)).not.to.throw()
    expect(() => checkInteger('f', 'n', 6, 1, 5)).to.throw(
      RangeError,
      'f: expected n to be an integer in [1, 5], got 6',
    )
    expect(() => checkInteger('f', 'n', 1.5, 1)).to.throw(
      RangeError,
      'f: expected n to be an integer >= 1, got 1.5',
    )
    expect(() => checkInteger('f', 'n', Number.NaN, 1)).to.throw(RangeError, 'got NaN')
    expect(() => checkInteger('f', 'n', '3', 1)).to.throw(
      TypeError,
      'f: expected n to be an integer >= 1, got "3"',
    )
    expect(() => checkInteger('f', 'n', undefined, 1)).to.throw(TypeError, 'got undefined')
  })

  it('checkNumber takes finite numbers in its range', () => {
    expect(() => checkNumber('f', 'x', -7.5)).not.to.throw()
    expect(() => checkNumber('f', 'x', Number.POSITIVE_INFINITY)).to.throw(
      RangeError,
      'f: expected x to be a finite number, got Infinity',
    )
    expect(() => checkNumber('f', 'x', -1, 0)).to.throw(
      RangeError,
      'f: expected x to be a number >= 0, got -1',
    )
    expect(() => checkNumber('f', 'x', 2, 0, 1)).to.throw(
      RangeError,
      'f: expected x to be a number in [0, 1], got 2',
    )
    expect(() => checkNumber('f', 'x', null)).to.throw(
      TypeError,
      'f: expected x to be a finite number, got null',
    )
  })

  it('checkOneOf takes one of its words', () => {
    expect(() => checkOneOf('f', 'word', 'b', ['a', 'b'])).not.to.throw()
    expect(() => checkOneOf('f', 'word', 'c', ['a', 'b'])).to.throw(
      RangeError,
      'f: expected word to be one of a, b, got "c"',
    )
    expect(() => checkOneOf('f', 'word', 1, ['a', 'b'])).to.throw(
      TypeError,
      'f: expected word to be one of a, b, got 1',
    )
  })

  it('checkTimesteps names the first timestep out of range', () => {
    expect(() => checkTimesteps('trainer.trainStep', Int32Array.of(0, 999, 5, 1000), 1000)).to.throw(
      RangeError,
      'trainer.trainStep: expected t[3] to be a timestep in [0, 999], got 1000',
    )
    expect(() => checkTimesteps('f', Int32Array.of(-1), 10)).to.throw(
      RangeError,
      'f: expected t[0] to be a timestep in [0, 9], got -1',
    )
  })

  it('checkTimesteps wants an Int32Array of the right length', () => {
    expect(() => checkTimesteps('f', [1, 2], 10)).to.throw(
      TypeError,
      'f: expected t to be an Int32Array of timesteps, got [1, 2]',
    )
    expect(() => checkTimesteps('f', Int32Array.of(1, 2), 10, 3)).to.throw(
      RangeError,
      'f: expected t to be 3 timesteps, one an example, got Int32Array(2)',
    )
  })

  it('checkFinite names the first value that is not', () => {
    expect(() => checkFinite('f', 'x', Float32Array.of(0, Number.NaN))).to.throw(
      RangeError,
      'f: expected x[1] to be finite, got NaN',
    )
  })

  it('checkKnownOptions refuses unknown options, all at once, and names the nearest', () => {
    expect(() => checkKnownOptions('f', { sead: 1, zzz: 2, steps: 3 }, ['seed', 'steps'])).to.throw(
      TypeError,
      'f: expected options to be among seed, steps, got unknown sead (did you mean seed?), zzz',
    )
    expect(() => checkKnownOptions('f', { seed: 1 }, ['seed', 'steps'])).not.to.throw()
  })
})

describe('nearest', () => {
  it('finds the misspelt word, and nothing when none is near', () => {
    expect(nearest('batchsize', ['batchSize', 'steps'])).to.equal('batchSize')
    expect(nearest('stesp', ['batchSize', 'steps'])).to.equal('steps')
    expect(nearest('colour', ['batchSize', 'steps'])).to.equal(undefined)
  })
})

describe('show', () => {
  it('fits any value on one line', () => {
    expect(show('a\nb')).to.equal('"a\\nb"')
    expect(show('x'.repeat(100))).to.equal(`"${'x'.repeat(77)}..."`)
    expect(show([1, 2, 3])).to.equal('[1, 2, 3]')
    expect(show(Array.from({ length: 20 }, (_, i) => i))).to.equal('[0, 1, 2, 3, 4, 5, 6, 7, … 20 in all]')
    expect(show(new Float32Array(4))).to.equal('Float32Array(4)')
    expect(show(undefined)).to.equal('undefined')
    expect(show(10n)).to.equal('10')
    expect(show(() => 0)).to.equal('a function')
    expect(show({ a: 1 })).to.equal('{"a":1}')
    expect(show(new Map())).to.equal('a Map')
    expect(show(Symbol('s'))).to.equal('Symbol(s)')
  })

  it('shows an object that refers to itself', () => {
    const loop: Record<string, unknown> = {}
    loop.self = loop
    expect(show(loop)).to.equal('an object')
  })
})
