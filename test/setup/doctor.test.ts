import { join } from 'node:path'
import { expect } from 'chai'
import { type DoctorNative, doctor, formatReport } from '../../lib/setup/doctor.ts'
import { setup } from '../../lib/setup/setup.ts'
import { fakeLibtorch, surroundings, temporaryFolders, tinyPackage } from './support.ts'

describe('doctor', function () {
  this.timeout(120_000)
  const temporary = temporaryFolders()
  const native = (gradNorm: number): DoctorNative => ({
    runtimeInfo: async () => ({ threads: 2, BLAS: 'mkl\nand more' }),
    selfTest: async () => ({ loss: 0.5, gradNorm }),
  })
  const never = () => Promise.reject(new Error('native code was loaded'))

  it('explains what to do when nothing is built', async () => {
    const [root, home] = [tinyPackage(temporary()), temporary()]
    const report = await doctor(never, { root, home })
    expect(report).to.include({ ok: false, node: process.version, cache: home, trislot: '0.0.0' })
    expect(report.problems).to.have.length(1)
    expect(report.problems[0]).to.match(
      /^trislot: expected a native addon built from these sources in .*, got none; run: npx trislot setup$/,
    )
    expect(formatReport(report)).to.match(/PROBLEM: trislot: expected a native addon.*\n1 problem$/)
  })

  it('reports LibTorch, its rule, the run time and the forward-backward', async () => {
    const [root, home] = [tinyPackage(temporary()), join(temporary(), 'home')]
    const libtorch = fakeLibtorch(temporary(), '2.15.0')
    await setup({ libtorch }, surroundings(root, home))
    const report = await doctor(async () => native(0.25), { root, home })
    expect(report).to.deep.include({
      ok: true,
      problems: [],
      libtorch: { version: '2.15.0', root: libtorch, rule: 'named by --libtorch', cuda: false },
      runtime: { threads: 2, BLAS: 'mkl\nand more' },
      selfTest: { loss: 0.5, gradNorm: 0.25 },
    })
    const text = formatReport(report)
    expect(text).to.match(/^LibTorch found {4}named by --libtorch: /m)
    expect(text).to.match(/^BLAS {14}mkl\n {18}and more$/m)
    expect(text).to.match(/forward-backward {2}loss 0\.500000, gradient norm 0\.250000\neverything works$/)

    expect((await doctor(async () => native(Number.NaN), { root, home })).problems).to.deep.equal([
      'doctor: expected the forward-backward to give a finite loss and gradient, got loss 0.5 and gradient norm NaN',
    ])
    expect((await doctor(never, { root, home })).problems).to.deep.equal(['native code was loaded'])
  })
})
