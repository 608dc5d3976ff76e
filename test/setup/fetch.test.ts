import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { readdir } from 'node:fs/promises'
import type { RequestListener } from 'node:http'
import { basename, join } from 'node:path'
import { expect } from 'chai'
import { download } from '../../lib/setup/download.ts'
import { fetchLibtorch, requirementsText } from '../../lib/setup/fetch.ts'
import { cachedLibtorchs } from '../../lib/setup/find.ts'
import { archiveFile, cpuPins, torchPin, wheelPins } from '../../lib/setup/pins.ts'
import { findPython } from '../../lib/setup/python.ts'
import {
  fetchContext,
  rejection,
  sha256,
  smallWheels,
  temporaryFolders,
  wheelFiles,
  withServer,
  zip,
} from './support.ts'

const cpu = { cuda: false }

/** Serves files by name. */
function serve(files: Map<string, Uint8Array>): RequestListener {
  return (request, response) => {
    const bytes = files.get(decodeURIComponent(basename(request.url!)))
    if (bytes === undefined) response.writeHead(404).end()
    else response.writeHead(200, { 'content-length': bytes.length }).end(bytes)
  }
}

describe('wheelPins', () => {
  it('pins PyTorch 2.15 and two NVIDIA wheels for CPU, the whole set for CUDA', () => {
    expect(wheelPins(false)).to.deep.equal([torchPin, ...cpuPins])
    expect(wheelPins(true)).to.have.length(15)
    expect(requirementsText([torchPin])).to.equal(
      'torch==2.15.0 --hash=sha256:48c2d861134c0b5697c7602cb5ffa68f62a2989fdcd1717e593356f67996ca1e\n',
    )
    expect(cpuPins.map(({ file }) => file)).to.deep.equal([
      'nvidia_cuda_runtime-13.2.86-py3-none-manylinux2014_x86_64.manylinux_2_17_x86_64.whl',
      'nvidia_cuda_cupti-13.2.86-py3-none-manylinux_2_25_x86_64.whl',
    ])
    for (const { sha256 } of wheelPins(true)) expect(sha256).to.match(/^[0-9a-f]{64}$/)
  })
})

describe('fetchLibtorch', () => {
  const temporary = temporaryFolders()

  it('takes the wheels from a mirror, prints the size first, and fills the cache', async () => {
    const { pins, bytes } = smallWheels()
    const context = fetchContext(temporary(), pins)
    const found = await withServer(serve(bytes), (mirror) =>
      fetchLibtorch({ ...cpu, mirror: `${mirror}/` }, context),
    )
    const root = join(context.home, 'libtorch', '2.15.0-cpu', 'torch')
    expect(found).to.deep.equal({ root, version: '2.15.0+cu132', cuda: false, rule: 'fetched' })
    expect(context.reporter.lines[0]).to.match(
      /^LibTorch 2\.15\.0 from http:.*: 0\.0 MB to fetch, about 505 MB once unpacked in /,
    )
    expect(readFileSync(join(root, '../nvidia/cu13/lib/libcudart.so.13'), 'utf8')).to.equal('cudart')
    expect(await readdir(join(root, '..'))).to.have.members(['complete.json', 'licenses', 'nvidia', 'torch'])
    expect(await readdir(join(context.home, 'libtorch'))).to.deep.equal(['2.15.0-cpu'])
    expect(cachedLibtorchs(context.home)).to.deep.equal([{ ...found, rule: 'cache' }])
  })

  it('refuses a wheel with another hash and leaves nothing', async () => {
    const { pins, bytes } = smallWheels()
    const context = fetchContext(temporary(), [{ ...pins[0]!, sha256: '0'.repeat(64) }, pins[1]!])
    const message = await withServer(serve(bytes), (mirror) =>
      rejection(fetchLibtorch({ ...cpu, mirror }, context)),
    )
    expect(message).to.equal(
      `trislot setup: expected ${pins[0]!.file} to have the sha256 ${'0'.repeat(64)}, got ${pins[0]!.sha256}; the file is damaged or another one`,
    )
    expect(await readdir(join(context.home, 'libtorch'))).to.deep.equal([])
  })

  it('takes the LibTorch archive from a mirror without the wheels', async () => {
    const archive = zip({
      'libtorch/include/ATen/ATen.h': '',
      'libtorch/lib/libtorch_cpu.so': 'cpu',
      'libtorch/build-version': '2.15.0+cpu\n',
    })
    const context = fetchContext(temporary(), smallWheels().pins)
    const found = await withServer(serve(new Map([[archiveFile, archive]])), (mirror) =>
      fetchLibtorch({ ...cpu, mirror, sha256: sha256(archive).toUpperCase() }, context),
    )
    expect(found).to.include({ version: '2.15.0+cpu', cuda: false })
    expect(cachedLibtorchs(context.home)).to.have.length(1)
  })

  it('takes the official archive on a machine without Python, and only with a hash', async () => {
    const archive = zip({
      'libtorch/include/ATen/ATen.h': '',
      'libtorch/lib/libtorch_cpu.so': '',
      'libtorch/build-version': '2.15.0',
    })
    await withServer(serve(new Map([['a.zip', archive]])), async (address) => {
      const context = { ...fetchContext(temporary(), smallWheels().pins), archiveAddress: `${address}/a.zip` }
      const message = await rejection(fetchLibtorch(cpu, context))
      expect(message).to.contain(
        `expected --sha256 HEX for the LibTorch archive ${address}/a.zip, because trislot has no hash of it, got none`,
      )
      expect(await fetchLibtorch({ ...cpu, sha256: sha256(archive) }, context)).to.include({
        rule: 'fetched',
        version: '2.15.0',
      })
      expect(await rejection(fetchLibtorch({ cuda: true, sha256: sha256(archive) }, context))).to.contain(
        'expected wheels for --cuda',
      )
    })
  })

  it('takes a wheel at hand with the NVIDIA wheels beside it, and names those that are missing', async () => {
    const { pins, bytes } = smallWheels()
    const [folder, context] = [temporary(), fetchContext(temporary(), pins)]
    const wheel = join(folder, pins[0]!.file)
    writeFileSync(wheel, bytes.get(pins[0]!.file)!)
    expect(await rejection(fetchLibtorch({ ...cpu, wheel }, context))).to.equal(
      `trislot setup: expected ${pins[1]!.file} beside ${wheel}, because LibTorch names their libraries, got none; fetch them with: ` +
        `python3 -m pip download --no-deps --dest ${folder} nvidia-cuda-runtime==13.2.86`,
    )
    writeFileSync(join(folder, pins[1]!.file), bytes.get(pins[1]!.file)!)
    expect(await fetchLibtorch({ ...cpu, wheel }, context)).to.include({ version: '2.15.0+cu132' })
    expect(existsSync(wheel)).to.equal(true)
  })

  it('takes another CPU wheel by its hash, and no other CUDA wheel', async () => {
    const { pins } = smallWheels()
    const [folder, context] = [temporary(), fetchContext(temporary(), pins)]
    const make = (name: string, ...content: Parameters<typeof wheelFiles>) => {
      const bytes = zip(wheelFiles(...content))
      writeFileSync(join(folder, name), bytes)
      return { wheel: join(folder, name), sha256: sha256(bytes) }
    }
    const good = make('torch-2.14.0+cpu-cp312.whl', '2.14.0+cpu')
    expect(await rejection(fetchLibtorch({ ...cpu, wheel: good.wheel }, context))).to.contain(
      'got torch-2.14.0+cpu-cp312.whl without --sha256',
    )
    expect(await fetchLibtorch({ ...cpu, ...good }, context)).to.include({ version: '2.14.0+cpu' })
    const old = make('torch-2.4.0+cpu.whl', '2.4.0+cpu')
    expect(await rejection(fetchLibtorch({ ...cpu, ...old }, context))).to.contain(
      'expected --wheel to hold torch 2.11 to 2.15, got 2.4.0+cpu',
    )
    const cuda = make('torch-2.14.0+cu126.whl', '2.14.0+cu126', { cuda: true })
    expect(await rejection(fetchLibtorch({ ...cpu, ...cuda }, context))).to.contain(
      'got torch 2.14.0+cu126, which needs NVIDIA wheels that are not pinned here',
    )
    expect(await rejection(fetchLibtorch({ ...cpu, wheel: '/no.whl' }, context))).to.equal(
      'trislot setup: expected --wheel to be a file, got no file /no.whl',
    )
  })

  it('downloads through pip with the user’s settings, which checks the hashes', async function () {
    this.timeout(120_000)
    const python = await findPython('/')
    if (!python?.hasPip) return this.skip()
    const { pins, bytes } = smallWheels()
    const links = temporary()
    for (const [name, content] of bytes) writeFileSync(join(links, name), content)
    const env = { ...process.env, PIP_NO_INDEX: '1', PIP_FIND_LINKS: links }
    const context = { ...fetchContext(temporary(), pins), python, env }
    expect(await fetchLibtorch(cpu, context)).to.include({ version: '2.15.0+cu132', rule: 'fetched' })
    const wrong = { ...context, pins: [{ ...pins[0]!, sha256: '1'.repeat(64) }, pins[1]!] }
    expect(await rejection(fetchLibtorch(cpu, wrong))).to.match(
      /pip could not download the LibTorch wheels:\n[\s\S]*Expected sha256 1{64}[\s\S]*the ways out: --libtorch DIR/,
    )
  })

  it('refuses machines for which nothing is pinned', async () => {
    const context = fetchContext(temporary(), smallWheels().pins)
    expect(await rejection(fetchLibtorch(cpu, { ...context, glibc: '2.17' }))).to.contain(
      'expected glibc 2.28 or newer, which the prebuilt LibTorch needs, got 2.17',
    )
    expect(await rejection(fetchLibtorch(cpu, { ...context, glibc: undefined }))).to.contain(
      'got another C library (musl?)',
    )
    expect(await rejection(fetchLibtorch(cpu, { ...context, arch: 'arm64' }))).to.contain(
      'pinned, got linux-arm64',
    )
    expect(await rejection(fetchLibtorch({ ...cpu, mirror: 'ftp://x' }, context))).to.contain(
      'expected --mirror to be an http(s) URL, got "ftp://x"',
    )
  })
})

describe('download', () => {
  const temporary = temporaryFolders()

  it('takes a broken connection up again where it stopped', async () => {
    const bytes = Buffer.from('0123456789'.repeat(1000))
    const ranges: (string | undefined)[] = []
    const file = join(temporary(), 'f')
    const listener: RequestListener = (request, response) => {
      ranges.push(request.headers.range)
      const from = Number(/bytes=(\d+)-/.exec(request.headers.range ?? '')?.[1] ?? 0)
      response.writeHead(from ? 206 : 200, { 'content-length': bytes.length - from })
      if (ranges.length > 1) response.end(bytes.subarray(from))
      else response.write(bytes.subarray(0, 4000), () => setTimeout(() => response.destroy(), 50))
    }
    await withServer(listener, (address) => download(address, file))
    expect(readFileSync(file).equals(bytes)).to.equal(true)
    expect(ranges).to.deep.equal([undefined, 'bytes=4000-'])
  })

  it('follows redirects, but not for ever', async () => {
    const listener: RequestListener = (request, response) => {
      if (request.url === '/there') response.end('here')
      else response.writeHead(302, { location: request.url === '/start' ? '/there' : '/loop' }).end()
    }
    const file = join(temporary(), 'f')
    await withServer(listener, async (address) => {
      await download(`${address}/start`, file)
      expect(readFileSync(file, 'utf8')).to.equal('here')
      expect(await rejection(download(`${address}/loop`, `${file}2`))).to.contain(
        'to redirect at most 5 times, got more',
      )
    })
  })

  it('names the address and the status', async () => {
    await withServer(serve(new Map()), async (address) => {
      expect(await rejection(download(`${address}/x`, join(temporary(), 'f')))).to.equal(
        `trislot setup: expected ${address}/x to answer 200, got 404`,
      )
    })
  })
})
