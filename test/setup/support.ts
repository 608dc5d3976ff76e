// Small stand-ins for what setup deals with: LibTorch folders, wheels, servers, and a package with a tiny addon.
import { createHash } from 'node:crypto'
import { mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { createServer, type RequestListener } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { type Zippable, zipSync } from 'fflate'
import type { FetchContext } from '../../lib/setup/fetch.ts'
import { libraryFile } from '../../lib/setup/libtorch.ts'
import { packageRoot } from '../../lib/setup/paths.ts'
import type { WheelPin } from '../../lib/setup/pins.ts'
import type { Reporter } from '../../lib/setup/report.ts'
import type { Surroundings } from '../../lib/setup/setup.ts'

/** A fresh folder for each test, removed after it. */
export function temporaryFolders(): () => string {
  const made: string[] = []
  afterEach(() => {
    for (const folder of made.splice(0)) rmSync(folder, { recursive: true, force: true })
  })
  return () => {
    const folder = mkdtempSync(join(tmpdir(), 'trislot-test-'))
    made.push(folder)
    return folder
  }
}

/** Writes text files below a folder. */
export function writeFiles(folder: string, files: Record<string, string>): void {
  for (const [name, text] of Object.entries(files)) {
    mkdirSync(dirname(join(folder, name)), { recursive: true })
    writeFileSync(join(folder, name), text)
  }
}

/** A folder that looks like the torch of a wheel. */
export function fakeLibtorch(folder: string, version: string, { cuda = false } = {}): string {
  writeFiles(folder, {
    'include/ATen/ATen.h': '',
    [`lib/${libraryFile('torch_cpu')}`]: '',
    'version.py': `__version__ = '${version}'\n`,
    ...(cuda ? { [`lib/${libraryFile('torch_cuda')}`]: '' } : {}),
  })
  return folder
}

const encode = (text: string) => new TextEncoder().encode(text)

/** A zip of text files. */
export function zip(files: Record<string, string>): Uint8Array {
  return zipSync(
    Object.fromEntries(Object.entries(files).map(([name, text]) => [name, encode(text)])) as Zippable,
  )
}

/** A zip whose one entry is a symbolic link. */
export function zipOfLink(name: string, target: string): Uint8Array {
  return zipSync({ [name]: [encode(target), { os: 3, attrs: 0o120777 << 16 }] })
}

export const sha256 = (bytes: Uint8Array) => createHash('sha256').update(bytes).digest('hex')

/** What a torch wheel holds, in small; pip accepts it. */
export function wheelFiles(version: string, { cuda = false } = {}): Record<string, string> {
  return {
    'torch/include/ATen/ATen.h': '// headers',
    'torch/lib/libtorch_cpu.so': 'cpu',
    'torch/lib/libtorch_cuda.so': 'cuda',
    'torch/lib/libtorch_python.so': 'python',
    'torch/version.py': `__version__ = '${version}'\ncuda: Optional[str] = ${cuda ? "'13.2'" : 'None'}\n`,
    'torch/nn/__init__.py': '',
    'torch-2.15.0.dist-info/METADATA': 'Metadata-Version: 2.1\nName: torch\nVersion: 2.15.0\n',
    'torch-2.15.0.dist-info/WHEEL':
      'Wheel-Version: 1.0\nRoot-Is-Purelib: false\nTag: cp311-cp311-manylinux_2_28_x86_64\n',
    'torch-2.15.0.dist-info/licenses/LICENSE': 'a licence',
  }
}

/** Small wheels and their pins: torch and one NVIDIA library. */
export function smallWheels(): { pins: WheelPin[]; bytes: Map<string, Uint8Array> } {
  const torch = zip(wheelFiles('2.15.0+cu132', { cuda: true }))
  const runtime = zip({
    'nvidia/cu13/lib/libcudart.so.13': 'cudart',
    'nvidia/cu13/lib/libother.so.1': 'other',
    'nvidia/cu13/include/cuda.h': '',
    'nvidia_cuda_runtime-13.2.86.dist-info/METADATA':
      'Metadata-Version: 2.1\nName: nvidia-cuda-runtime\nVersion: 13.2.86\n',
    'nvidia_cuda_runtime-13.2.86.dist-info/WHEEL':
      'Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-manylinux_2_17_x86_64\n',
  })
  const pin = (project: string, version: string, file: string, bytes: Uint8Array): WheelPin => ({
    project,
    version,
    file,
    sha256: sha256(bytes),
    bytes: bytes.length,
  })
  const pins = [
    pin('torch', '2.15.0', 'torch-2.15.0-cp311-cp311-manylinux_2_28_x86_64.whl', torch),
    pin(
      'nvidia-cuda-runtime',
      '13.2.86',
      'nvidia_cuda_runtime-13.2.86-py3-none-manylinux_2_17_x86_64.whl',
      runtime,
    ),
  ]
  return {
    pins,
    bytes: new Map([
      [pins[0]!.file, torch],
      [pins[1]!.file, runtime],
    ]),
  }
}

/** A reporter that keeps its lines. */
export function recorder(): Reporter & { lines: string[] } {
  const lines: string[] = []
  return { lines, line: (text) => lines.push(text), progress() {} }
}

/** A Linux machine without Python, with `home` as its cache. */
export function fetchContext(
  home: string,
  pins: readonly WheelPin[],
): FetchContext & { reporter: ReturnType<typeof recorder> } {
  return {
    home,
    pins,
    python: undefined,
    env: process.env,
    platform: 'linux',
    arch: 'x64',
    glibc: '2.36',
    reporter: recorder(),
  }
}

/** Runs `work` with a server on 127.0.0.1; gives its address. */
export async function withServer<T>(
  listener: RequestListener,
  work: (address: string) => Promise<T>,
): Promise<T> {
  const server = createServer(listener)
  await new Promise<void>((done) => server.listen(0, '127.0.0.1', done))
  try {
    return await work(`http://127.0.0.1:${(server.address() as AddressInfo).port}`)
  } finally {
    server.closeAllConnections()
    await new Promise((done) => server.close(done))
  }
}

/** A package named trislot whose addon is 10 lines of C++ without LibTorch; `body` is what version() does. */
export function tinyPackage(root: string, body = 'return text(env, "2.15.0");'): string {
  writeFiles(root, {
    'package.json': JSON.stringify({ name: 'trislot', version: '0.0.0', binary: { napi_versions: [8] } }),
    'CMakeLists.txt': `cmake_minimum_required(VERSION 3.18)
project(trislot LANGUAGES CXX)
add_library(trislot SHARED native/addon.cpp)
target_include_directories(trislot PRIVATE \${CMAKE_JS_INC})
set_target_properties(trislot PROPERTIES PREFIX "" SUFFIX ".node")
`,
    'native/addon.cpp': addonSource(body),
  })
  symlinkSync(join(packageRoot(), 'node_modules'), join(root, 'node_modules'))
  return root
}

export function addonSource(body: string): string {
  return `#include <node_api.h>
#include <cstdlib>
static napi_value text(napi_env env, const char* s) {
  napi_value value;
  napi_create_string_utf8(env, s, NAPI_AUTO_LENGTH, &value);
  return value;
}
static napi_value version(napi_env env, napi_callback_info) { ${body} }
NAPI_MODULE_INIT() {
  napi_value function;
  napi_create_function(env, "version", NAPI_AUTO_LENGTH, version, nullptr, &function);
  napi_set_named_property(env, exports, "version", function);
  return exports;
}
`
}

/** This machine with another package, cache and environment; no Python unless given. */
export function surroundings(
  root: string,
  home: string,
  more: Partial<Surroundings> = {},
): Surroundings & { reporter: ReturnType<typeof recorder> } {
  const { LIBTORCH: _, ...env } = process.env
  return {
    root,
    home,
    env,
    platform: process.platform,
    arch: process.arch,
    glibc: '2.36',
    python: async () => undefined,
    ...more,
    reporter: recorder(),
  }
}

/** The message of what a promise rejects with. */
export async function rejection(work: Promise<unknown>): Promise<string> {
  try {
    await work
  } catch (error) {
    return (error as Error).message
  }
  throw new Error('expected a rejection')
}

export const readJson = (file: string): unknown => JSON.parse(readFileSync(file, 'utf8'))
