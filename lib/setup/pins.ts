// The prebuilt LibTorch that setup fetches: files, hashes and sizes. Everything here was read from the wheels themselves.
import type { Libtorch } from './libtorch.ts'

/** One wheel by its exact file: what pip is asked for, and what must arrive. */
export interface WheelPin {
  readonly project: string
  readonly version: string
  readonly file: string
  readonly sha256: string
  /** Size of the file in bytes. */
  readonly bytes: number
}

/** The release that setup fetches. */
export const pinnedVersion = '2.15.0'

const pin = (project: string, version: string, tags: string, bytes: number, sha256: string): WheelPin => ({
  project,
  version,
  file: `${project.replaceAll('-', '_')}-${version}-${tags}.whl`,
  sha256,
  bytes,
})

/** PyTorch's wheel for CPython 3.11 on Linux x86-64; the LibTorch in it is the same for every Python. */
export const torchPin: WheelPin = pin(
  'torch',
  pinnedVersion,
  'cp311-cp311-manylinux_2_28_x86_64',
  539136850,
  '48c2d861134c0b5697c7602cb5ffa68f62a2989fdcd1717e593356f67996ca1e',
)

/** libtorch_cpu names two libraries of CUDA, so these come even for CPU. */
export const cpuPins: readonly WheelPin[] = [
  pin(
    'nvidia-cuda-runtime',
    '13.2.86',
    'py3-none-manylinux2014_x86_64.manylinux_2_17_x86_64',
    2323576,
    '3498247680dfddce31bad102af7e3e26fc795342a3cac64722bb0fa95e7f60f0',
  ),
  pin(
    'nvidia-cuda-cupti',
    '13.2.86',
    'py3-none-manylinux_2_25_x86_64',
    11988600,
    '8fa29f15dd8336181f961764d9d95236fc6b931dd0c8fcf8cd70aab0c310b586',
  ),
]

/** What libtorch_cuda needs besides: the versions that pip's own resolver chooses for this torch. */
export const cudaPins: readonly WheelPin[] = [
  pin(
    'nvidia-cublas',
    '13.4.1.3',
    'py3-none-manylinux_2_27_x86_64',
    404870805,
    'a5917cb642cfb07f4a0231ee16aec7e2e0357d8cb8b1b78a0c9c68dba3e6afc7',
  ),
  pin(
    'nvidia-cuda-nvrtc',
    '13.2.86',
    'py3-none-manylinux2010_x86_64.manylinux_2_12_x86_64',
    47018468,
    '8111c5130e967b78222ea2124145f8efe9ce201b752b2579a2513100a53be1c5',
  ),
  pin(
    'nvidia-cudnn-cu13',
    '9.26.0.51',
    'py3-none-manylinux_2_27_x86_64',
    519150073,
    '9c976d539786698c71d6bcdbe2053b7485fae062ff7e1215d2f2ff67b1a2149a',
  ),
  pin(
    'nvidia-cufft',
    '12.2.0.57',
    'py3-none-manylinux2014_x86_64.manylinux_2_17_x86_64',
    218258101,
    '34da27fadf3979b0b042c43823f0530be8408b86df31ee0108e1ca0b621d4ef6',
  ),
  pin(
    'nvidia-cufile',
    '1.17.1.22',
    'py3-none-manylinux_2_27_x86_64',
    1387670,
    '87feaf8c3ad20d3d03a01933181801ff6892bace5c8f0b1e4b48f319d3e62d36',
  ),
  pin(
    'nvidia-cusolver',
    '12.2.0.11',
    'py3-none-manylinux_2_27_x86_64',
    227913465,
    'fab5778f6769947389a1a6abc07e635576825a08c0ffc68c3ae7f1392c794b42',
  ),
  pin(
    'nvidia-cusparse',
    '12.7.10.12',
    'py3-none-manylinux2014_x86_64.manylinux_2_17_x86_64',
    150999307,
    '25907c75e4db1581685f06f61cc6cdecc04611765516a52373e0a18ebd69fa00',
  ),
  pin(
    'nvidia-cusparselt-cu13',
    '0.8.1',
    'py3-none-manylinux2014_x86_64',
    170148586,
    '786ce87568c303fadb5afcc7102d454cd3040d75f6f8626f5db460d1871f4dd0',
  ),
  pin(
    'nvidia-nccl-cu13',
    '2.30.7',
    'py3-none-manylinux_2_18_x86_64',
    215965170,
    'cefa7fdb9710efd0f39c5f1be1d61ff6fc9a996c451265bd7fbdcf9455ed4b50',
  ),
  pin(
    'nvidia-nvjitlink',
    '13.5.37',
    'py3-none-manylinux2010_x86_64.manylinux_2_12_x86_64',
    46642491,
    '280d7cb9649704145f074b8dbde500de04ce02d0872e066e20a83c17bcaa93eb',
  ),
  pin(
    'nvidia-nvshmem-cu13',
    '3.7.2',
    'py3-none-manylinux2014_x86_64.manylinux_2_17_x86_64',
    135397797,
    'b9a4f843c62b5dded8ad33fd6d220e007dcd39f06cee549292f5ba14ce4c235c',
  ),
  pin(
    'nvidia-nvtx',
    '13.2.86',
    'py3-none-manylinux1_x86_64.manylinux_2_5_x86_64',
    153463,
    '968ce72baee2a01791c7d3254000eac81f24677b0b91c62d21b449a1f309c245',
  ),
]

/** The wheels to fetch; torch first. */
export function wheelPins(cuda: boolean): readonly WheelPin[] {
  return [torchPin, ...cpuPins, ...(cuda ? cudaPins : [])]
}

/** Bytes on disk once unpacked, measured with these wheels. */
export const unpackedBytes = { cpu: 505e6, cuda: 4.1e9 } as const

/** Tags that the pinned wheels carry; pip takes a foreign platform's tags literally. */
export const wheelPlatforms: readonly string[] = [
  ...[28, 27, 25, 24, 18, 17, 12, 5].map((minor) => `manylinux_2_${minor}_x86_64`),
  'manylinux2014_x86_64',
  'manylinux2010_x86_64',
  'manylinux1_x86_64',
]

/** Name of the official archive for machines without Python; no hash of it is known here, so the user gives one. */
export const archiveFile: string = `libtorch-shared-with-deps-${pinnedVersion}+cpu.zip`
export const archiveAddress: string = `https://download.pytorch.org/libtorch/cpu/${encodeURIComponent(archiveFile)}`

/** Folder name in the cache of a LibTorch with or without CUDA. */
export function cacheName(libtorch: Pick<Libtorch, 'version' | 'cuda'>): string {
  return `${libtorch.version.split('+')[0]}-${libtorch.cuda ? 'cuda' : 'cpu'}`
}
