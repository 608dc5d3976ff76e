# Hands node-gyp over to `trislot setup`, which finds LibTorch and builds with CMake (CMakeLists.txt names the sources):
# `npx node-gyp rebuild` does the same as `npx trislot setup`. package.json says "gypfile": false, so npm never runs it by itself.
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
