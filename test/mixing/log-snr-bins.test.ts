import { expect } from 'chai'
import { binOfLogSnr, binOfTimestep, logSnrBins, logSnrOf } from '../../lib/mixing/log-snr-bins.ts'
import { LOG_SNR } from '../support/heads.ts'

/** Log snr of the linear schedule with 1000 timesteps. */
function linear(): Float64Array {
  let alphaBar = 1
  const snr = Float64Array.from({ length: 1000 }, (_, t) => {
    alphaBar *= 1 - (1e-4 + (t / 999) * (0.02 - 1e-4))
    return alphaBar / (1 - alphaBar)
  })
  return logSnrOf(snr)
}

describe('logSnrBins', () => {
  it('cuts an even process into even bins', () => {
    const bins = logSnrBins(LOG_SNR, 5)
    expect(bins.edges).to.deep.equal([0, 20, 40, 60, 80, 100])
    expect(bins.centres[2]).to.be.closeTo(0, 1e-12)
    expect(bins.borders[0]).to.be.closeTo((LOG_SNR[19]! + LOG_SNR[20]!) / 2, 1e-12)
  })

  it('gives every bin at least T / (2 binCount) timesteps, also where log snr falls steeply', () => {
    const { edges, centres } = logSnrBins(linear(), 20)
    const sizes = edges.slice(1).map((end, b) => end - (edges[b] as number))
    expect(Math.min(...sizes)).to.equal(25)
    expect(sizes).to.have.length.within(14, 20)
    expect([...centres].sort((a, b) => b - a)).to.deep.equal(centres)
  })

  it('puts each timestep into the bin of its log snr', () => {
    const values = linear()
    const bins = logSnrBins(values, 20)
    for (let t = 0; t < 1000; t++) {
      const bin = binOfTimestep(bins, t)
      expect(binOfLogSnr(bins, values[t] as number)).to.equal(bin)
      expect(t).to.be.within(bins.edges[bin] as number, (bins.edges[bin + 1] as number) - 1)
    }
    expect([binOfLogSnr(bins, 99), binOfLogSnr(bins, -99)]).to.deep.equal([0, bins.centres.length - 1])
  })

  it('has one bin for one timestep, and keeps log snr finite without signal', () => {
    expect(logSnrBins(Float64Array.of(3)).edges).to.deep.equal([0, 1])
    expect(Array.from(logSnrOf(Float64Array.of(1, 0)))).to.deep.equal([0, -Math.log(1e6)])
  })
})
