# Hands node-gyp over to `trislot setup`, which finds LibTorch and builds with CMake (CMakeLists.txt names the sources):
# `npx node-gyp rebuild` does the same as `npx trislot setup`. npm must not run it by itself: package.json
# says "gypfile": false, and leaves this file out of the package, since a lockfile does not keep that word.
{
  "targets": [
    {
      "target_name": "trislot",
      "type": "none",
      "actions": [
        {
          "action_name": "setup",
          "message": "trislot setup",
          "inputs": [],
          "outputs": ["<(INTERMEDIATE_DIR)/always"],
          "action": ["node", "bin/trislot.js", "setup"]
        }
      ]
    }
  ]
}
