# The same addon by node-gyp, for those who debug it with that: LIBTORCH=DIR npx node-gyp rebuild
# `trislot setup` uses CMakeLists.txt. package.json says "gypfile": false, so npm never builds this by itself.
{
  "variables": {
    "libtorch%": "<!(node -p \"process.env.LIBTORCH || ''\")"
  },
  "targets": [
    {
      "target_name": "trislot",
      "sources": [
        "<!@(node -p \"require('fs').readdirSync('native',{recursive:true}).filter(f=>f.endsWith('.cpp')).map(f=>'native/'+f).join(' ')\")"
      ],
      "include_dirs": [
        "native",
        "<!(node -p \"require('node-addon-api').include_dir\")",
        "<(libtorch)/include",
        "<(libtorch)/include/torch/csrc/api/include"
      ],
      "defines": ["NAPI_VERSION=8", "NODE_ADDON_API_CPP_EXCEPTIONS_ALL", "_GLIBCXX_USE_CXX11_ABI=1"],
      "cflags!": ["-fno-exceptions"],
      "cflags_cc!": ["-fno-exceptions", "-fno-rtti", "-std=gnu++17"],
      "cflags_cc": ["-std=gnu++20", "-fvisibility=hidden", "-ffp-contract=off"],
      "libraries": ["-L<(libtorch)/lib", "-ltorch_cpu", "-lc10"],
      "ldflags": ["-Wl,-rpath,<(libtorch)/lib", "-Wl,--allow-shlib-undefined"],
      "xcode_settings": {
        "CLANG_CXX_LANGUAGE_STANDARD": "c++20",
        "GCC_ENABLE_CPP_EXCEPTIONS": "YES",
        "GCC_ENABLE_CPP_RTTI": "YES",
        "OTHER_LDFLAGS": ["-Wl,-rpath,<(libtorch)/lib"]
      }
    }
  ]
}
